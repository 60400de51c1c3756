"""Activations of few levels, written with floor or round: recognised in what was recorded, and made one node.

    threshold * floor(clip(x / threshold, 0, 1) * levels + 1/2) / levels        (QCFS, Bu et al. 2022, arXiv 2303.04347)

People write it in many ways: clipped before the floor or behind it, with a step size or a threshold, with round, with a
custom function that floors, or with the straight-through trick ``(floor(y) - y).detach() + y``. All of them are
recorded as scales, shifts, clips, sums and one floor. Between a node x and what is computed of it by such ops, every
value is a linear form of x, of clips and of floors; a value is recognised where its form is the equation above, for
all elements, up to the rounding of float32 in its numbers. Anything else stays what it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Quantised

OFFSETS = {"torch.floor": 0.5, "Tensor.floor": 0.5, "torch.round": 0.0, "Tensor.round": 0.0}
"""What has to be added before a function that rounds, so that it rounds to the nearest."""
ROUNDING = 1e-6
"""Relative difference of numbers that are meant to be the same: a reciprocal in float32, times a few others."""
MOST_LEVELS = 2**16


@dataclass(frozen=True)
class _Form:
    """``shift`` plus a factor times each of some nodes; factors and shift broadcast against the shape."""

    factors: dict[str, np.ndarray] = field(default_factory=dict)
    shift: np.ndarray = field(default_factory=lambda: np.zeros(()))

    def plus(self, other: _Form) -> _Form:
        total = dict(self.factors)
        for name, factor in other.factors.items():
            total[name] = total[name] + factor if name in total else factor
        return _Form({name: factor for name, factor in total.items() if np.any(factor)}, self.shift + other.shift)

    def times(self, scale: np.ndarray) -> _Form:
        return _Form({name: factor * scale for name, factor in self.factors.items()}, self.shift * scale)


@dataclass(frozen=True)
class _Clip:
    inside: _Form
    low: float
    high: float


@dataclass(frozen=True)
class _Floor:
    inside: _Form
    offset: float


class _NoMatchError(Exception):
    """The values are not those of a quantised activation."""


def merge_quantised(graph: Graph) -> Graph:
    """A graph in which each quantised activation is one node, named after its module where it has one."""
    for floor in [node.name for node in graph if _is_floor(node)]:
        if floor in graph:
            graph = _merged(graph, floor)
    return graph


def _merged(graph: Graph, floor: str) -> Graph:
    order = graph.topological()
    for root in _roots(graph, floor):
        values = _Values(graph, order, root)
        for name in reversed(values.forms):
            try:
                levels = values.quantised(name, floor).levels
                op = _Values(graph, order, root, levels).quantised(name, floor)
            except _NoMatchError:
                continue
            return _with_one_node(graph, root, name, op)
    return graph


def _roots(graph: Graph, floor: str) -> list[str]:
    """What may be x: the nodes before the floor as far as they are linear or clipped, the farthest first."""
    found: list[str] = []
    (node,) = graph.predecessors(floor)
    found.append(node.name)
    while node.kind in ("Scale", "Clip", "ReLU", "NoOp") or _is_shift(node):
        feeds = graph.in_edges(node.name)
        if len(feeds) != 1 or feeds[0].delay:
            break
        node = graph[feeds[0].src]
        found.append(node.name)
    return found[::-1]


def _is_floor(node: Node) -> bool:
    return node.kind == "HostCall" and node.op.function in OFFSETS and node.op.arguments == "x0" and not node.op.axis


def _is_shift(node: Node) -> bool:
    """Whether a node is the sum with a constant, as capture writes it."""
    op = node.op
    return (
        node.kind == "BatchNorm"
        and op.eps == 0
        and bool(np.all(op.weight == 1) and np.all(op.var == 1) and not np.any(op.mean))
    )


class _Values:
    """Forms of all that is computed from one node by scales, shifts, sums, clips and floors.

    Args:
        levels: where they are known: 1 / levels, rounded to float32 in the graph, is taken for that itself.
    """

    def __init__(self, graph: Graph, order: list[Node], root: str, levels: int = 0) -> None:
        self.graph, self.root, self.levels = graph, root, levels
        self.forms = {root: _Form({root: np.ones(())})}
        self.steps: dict[str, _Clip | _Floor] = {}
        for node in order:
            feeds = graph.in_edges(node.name)
            if feeds and all(edge.src in self.forms and not edge.delay for edge in feeds) and node.name != root:
                form = self._form(node, [self.forms[edge.src] for edge in feeds])
                if form is not None:
                    self.forms[node.name] = form

    def _form(self, node: Node, inputs: list[_Form]) -> _Form | None:
        total = inputs[0]
        for form in inputs[1:]:
            total = total.plus(form)
        if node.kind in ("Add", "NoOp"):
            return total
        if node.kind == "Scale":
            return total.times(self._factor(node.op.scale))
        if _is_shift(node):
            shape = (-1, *[1] * (len(node.shape) - 1))
            return _Form(total.factors, total.shift + np.asarray(node.op.bias, np.float64).reshape(shape))
        if node.kind == "ReLU":
            self.steps[node.name] = _Clip(total, 0.0, math.inf)
        elif node.kind == "Clip":
            self.steps[node.name] = _Clip(total, float(node.op.low), float(node.op.high))
        elif _is_floor(node):
            self.steps[node.name] = _Floor(total, OFFSETS[node.op.function])
        else:
            return None
        return _Form({node.name: np.ones(())})

    def _factor(self, scale: np.ndarray) -> np.ndarray:
        real = np.asarray(scale, np.float64)
        if not self.levels:
            return real
        return np.where(real.astype(np.float32) == np.float32(1) / np.float32(self.levels), 1 / self.levels, real)

    def quantised(self, name: str, rounded: str) -> Quantised:
        """The op that gives this value of the root, by what `rounded` floors. `_NoMatchError` if there is none."""
        step, at, (low, high) = self._unclipped(self.forms[name])
        floor = self.steps.get(at)
        if at != rounded or not isinstance(floor, _Floor):
            raise _NoMatchError
        _need(abs(floor.inside.shift - floor.offset) < ROUNDING)
        gain, at, (lowest, highest) = self._unclipped(_Form(floor.inside.factors))
        _need(np.asarray(at == self.root))
        # Limits on whole numbers are the same before the floor and behind it, there in steps.
        bottom, top = np.maximum(low / step, lowest), np.minimum(high / step, highest)
        _need((abs(bottom) < ROUNDING) & (top > 0.5) & (top < MOST_LEVELS))
        levels = int(np.rint(top.flat[0]))
        _need(abs(top - levels) < ROUNDING * levels)
        threshold = step * levels
        _need((threshold > 0) & np.isfinite(threshold) & (abs(gain * threshold - levels) < ROUNDING * levels))
        return Quantised(self._per_channel(threshold), levels, "up" if floor.offset else "even")

    def _unclipped(self, form: _Form) -> tuple[np.ndarray, str, tuple[np.ndarray, np.ndarray]]:
        """A form that is a clip of a factor times a node: the factor, the node, and the limits, (-inf, inf) if none."""
        factor, at = self._single(form)
        low, high = np.array(-math.inf), np.array(math.inf)
        while isinstance(clip := self.steps.get(at), _Clip):
            _need(factor > 0)
            low, high = np.maximum(low, factor * clip.low), np.minimum(high, factor * clip.high)
            inner, at = self._single(clip.inside)
            factor = factor * inner
            _need(low < high)
        _need(factor > 0)
        return factor, at, (low, high)

    def _single(self, form: _Form) -> tuple[np.ndarray, str]:
        if len(form.factors) != 1 or np.any(form.shift):
            raise _NoMatchError
        ((name, factor),) = form.factors.items()
        return factor, name

    def _per_channel(self, threshold: np.ndarray) -> np.ndarray:
        """[C, 1, ...], in float32 where that is what was meant."""
        shape = self.graph[self.root].shape
        full = np.broadcast_to(threshold, shape)
        first = full.reshape(len(full), -1)[:, :1] if shape else full
        _need(np.asarray(bool(shape)) & (full.reshape(len(first), -1) == first))
        single = first.astype(np.float32)
        array = single if np.allclose(single, first, rtol=1e-14, atol=0) else first
        return np.array(array.reshape(-1, *[1] * (len(shape) - 1)))


def _need(condition: np.ndarray) -> None:
    if not np.all(condition):
        raise _NoMatchError


def _with_one_node(graph: Graph, root: str, name: str, op: Quantised) -> Graph:
    """The graph with `op`, fed by `root`, in the place of the node `name`."""
    graph = graph.copy()
    for edge in graph.in_edges(name):
        graph.disconnect(edge)
    graph.update(name, op=op)
    graph.connect(Edge(root, name))
    dead = list(_unused(graph))
    while dead:
        for unused in dead:
            graph.remove(unused)
        dead = list(_unused(graph))
    return infer_types(_renamed(graph, name, _name(graph, graph[name])))


def _name(graph: Graph, node: Node) -> str:
    """The module's path, if the module computes nothing else."""
    module = node.source.module
    inside = [other for other in graph if f"{other.source.module}.".startswith(f"{module}.")]
    return module if module and inside == [node] else f"{module}.quantised".lstrip(".")


def _unused(graph: Graph) -> Iterator[str]:
    return (node.name for node in graph if node.kind not in ("Input", "Output") and not graph.out_edges(node.name))


def _renamed(graph: Graph, name: str, new: str) -> Graph:
    """A graph in which one node has another name."""
    other = Graph(graph.name, graph.timesteps, graph.origin)
    new = graph.unique(new)
    for node in graph:
        other.add(node.with_(name=new) if node.name == name else node)
    for edge in graph.edges_as_added():
        src, dst = (new if end == name else end for end in (edge.src, edge.dst))
        other.connect(edge._replace(src=src, dst=dst))
    return other
