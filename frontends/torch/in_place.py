"""Tensors that were made beforehand and are filled while the model runs.

``acc = torch.zeros(...); acc += spikes`` adds to a constant, and ``record[t] = spikes`` for every step makes
a series. Both are understood where nothing else shares the tensor's memory: then it has only one name, and
no constant can turn into a computed value unseen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from hsnn_compiler.frontends.torch.axes import Axes
from hsnn_compiler.frontends.torch.registry import Unsupported
from hsnn_compiler.frontends.torch.series import Stack
from hsnn_compiler.frontends.torch.tracer import Tracer, Value
from hsnn_compiler.ir.graph import Edge, Node
from hsnn_compiler.ir.types import Coding, TensorType

_SUMS = frozenset({"add_", "__iadd__", "sub_", "__isub__"})


@dataclass
class Record:
    """A tensor [T, B, ...] or [B, T, ...] of which steps are written.

    Attributes:
        axes: its leading axes.
        finding: number of the finding for uses before it is complete.
        parts: what was written, by step.
    """

    axes: Axes
    finding: int
    parts: dict[int, Value] = field(default_factory=dict)


def changes_constant(tracer: Tracer, out: Any, args: Sequence[Any]) -> bool:
    """Whether a call wrote into a tensor made elsewhere, and returned it."""
    return bool(args) and out is not None and out is args[0] and not tracer.is_traced(out)


def start_of_sum(tracer: Tracer, name: str, args: Sequence[Any]) -> torch.Tensor | None:
    """A copy of the constant that a call of this name is going to add to, if that is safe."""
    if name not in _SUMS or not args or tracer.is_traced(args[0]) or not _is_alone(args[0]):
        return None
    with tracer.silence():
        copy: torch.Tensor = args[0].detach().clone()
    return copy


def written(tracer: Tracer, target: Any, index: Any, item: Any) -> bool:
    """Take note of ``target[index] = item``, which has run; False if it does not write one step of a series."""
    value = tracer.values.get(id(item))
    place = _step_of(target, index, item) if value is not None else None
    if value is None or place is None or value.axes.has_time or (value.node is None and value.state is None):
        return False
    axes, step = place
    record = tracer.records.get(id(target))
    if record is None:
        if tracer.is_traced(target) or not _is_alone(target):
            return False
        problem = Unsupported(
            "a tensor made beforehand is used before all of its steps are written",
            "tensors of which every step is written by record[t] = y",
            "collect the steps in a list, and torch.stack it",
            "E0405",
        )
        record = tracer.records[id(target)] = Record(axes, tracer.report(problem))
        taint: frozenset[int] = frozenset({record.finding})
    else:
        taint = tracer.values[id(target)].taint
    if record.axes != axes:
        return False
    record.parts[step] = value
    taint |= value.taint
    parts = [record.parts.get(number) for number in range(axes.steps)]
    found = [part for part in parts if part is not None]
    nodes = [part.node for part in found if part.node is not None]
    held = {(tracer.neuron_of(part.state[0]), part.state[1]) for part in found if part.node is None and part.state}
    done = taint - {record.finding}
    if len(nodes) == axes.steps:
        tracer.track(target, _stacked(tracer, nodes), done, axes)
    elif len(found) == axes.steps and not nodes and len(held) == 1:
        tracer.track(target, None, done, axes, held.pop())
    else:
        tracer.track(target, None, taint, axes)
    return True


def _stacked(tracer: Tracer, nodes: Sequence[str]) -> str:
    """A `Stack` beside the trail: it stands in no step, whenever the last step is written."""
    graph = tracer.graph
    stem = ".".join(part for part in (tracer.local(tracer.path), "stack") if part)
    node = Node(graph.unique(stem), Stack(), type=TensorType(graph[nodes[0]].shape, Coding.CURRENT))
    graph.add(node.with_(source=tracer.source()))
    for port, name in enumerate(nodes):
        graph.connect(Edge(name, node.name, str(port)))
    return node.name


def _step_of(target: Any, index: Any, item: torch.Tensor) -> tuple[Axes, int] | None:
    """The axes of `target`, and the step, where ``target[index]`` is a whole step of the item's shape."""
    parts = list(index) if isinstance(index, tuple) else [index]
    while len(parts) > 1 and (parts[-1] is ... or (isinstance(parts[-1], slice) and parts[-1] == slice(None))):
        parts.pop()
    at = len(parts) - 1
    leading = [part for part in parts[:-1] if not (isinstance(part, slice) and part == slice(None))]
    if leading or at > 1 or type(parts[at]) is not int or target.dim() < 2 or target.dtype != item.dtype:
        return None
    shape = tuple(target.shape)
    if shape[:at] + shape[at + 1 :] != tuple(item.shape):
        return None
    return Axes("BT" if at else "TB", shape[at]), parts[at] % shape[at]


def _is_alone(tensor: Any) -> bool:
    """Whether nothing else shares the memory of a tensor: no view, no detached copy, no array of numpy."""
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        return False
    storage = tensor.untyped_storage()
    # The tensor's own use and that of `storage` just now.
    return storage.resizable() and torch._C._storage_Use_Count(storage._cdata) <= 2  # type: ignore[attr-defined]
