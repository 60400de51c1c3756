"""A graph of host ops as an ONNX model.

Inputs and outputs are named after the graph's: float32, [batch, ...] where there is a value per sample, and
[batch, time, ...] where there is one per step. What the nodes between them compute is followed from the functions
that the float executor runs (`tracing`); samples stay apart, so the number of samples is free.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# The table fills when its parts are imported.
from hsnn_compiler.backends.host import (  # noqa: F401
    aten_curves,
    aten_index,
    aten_layers,
    aten_math,
    aten_pool,
    aten_recurrent,
    aten_reduce,
    aten_shapes,
)
from hsnn_compiler.backends.host.builder import Builder, Port
from hsnn_compiler.backends.host.events import encoded, first_spikes_at, presented
from hsnn_compiler.backends.host.populations import population
from hsnn_compiler.backends.host.signals import Signal
from hsnn_compiler.backends.host.table import NoFormError
from hsnn_compiler.backends.host.tracing import Trace, a_prime
from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.ir.dynamics import delay_steps
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.order import groups, is_loop
from hsnn_compiler.ir.quant import CurrentQuant
from hsnn_compiler.ir.shapes import pair
from hsnn_compiler.reference import codes
from hsnn_compiler.reference.batches import has_time
from hsnn_compiler.reference.torch_ops import bind, tensor
from hsnn_compiler.reference.values import add

MOST_BYTES = 2**31 - 2**20
"""What a file of this kind holds, with some room for the nodes."""

_NODES_OF_TIME = ("Encode", "Decode", "Delay", "Collect", "FirstSpike")


def to_onnx(graph: Graph, name: str) -> bytes:
    """The model as a file's bytes; the same graph gives the same bytes.

    Args:
        graph: feeds forward, its types inferred.
        name: the model's name.

    Raises:
        HsnnError: E0439 for every node that has no form in ONNX.
    """
    export = _Export(graph)
    if export.findings:
        raise HsnnError(export.findings)
    model = export.builder.model(name, export.ports("Input"), export.ports("Output"))
    return bytes(model.SerializeToString(deterministic=True))


def problems(graph: Graph) -> list[Finding]:
    """What keeps a graph from being an ONNX model: one finding (E0439) per node, none if nothing does."""
    return _Export(graph).findings


class _Export:
    """A graph on its way into a model."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.findings: list[Finding] = []
        self.builder = Builder([node.name for node in graph.of_kind("Input", "Output")])
        self.trace = Trace(self.builder, a_prime(_numbers(graph)))
        self.signals: dict[str, Signal] = {}
        for group in groups(graph):
            for node in group:
                self._node(node, is_loop(graph, group))
        weight = sum(array.nbytes for array in self.builder.constants.values())
        if weight > MOST_BYTES:
            self._refuse(None, f"{weight / 2**30:.1f} GiB of constants, and a file holds 2 GiB")

    def ports(self, kind: str) -> list[Port]:
        """Inputs or outputs of the model."""
        return [Port(node.name, np.dtype(np.float32), self._shape(node)) for node in self.graph.of_kind(kind)]

    def _shape(self, node: Node) -> tuple[int | str, ...]:
        steps = (self.graph.timesteps or 1,) if has_time(node) else ()
        return ("batch", *steps, *node.shape)

    def _refuse(self, node: Node | None, why: str) -> None:
        where = {} if node is None else {"node": node.name, "source": node.source}
        supported = "ops that feed forward, and functions whose result has a shape that does not depend on the data"
        self.findings.append(Finding("E0439", why, supported=supported, **where))  # type: ignore[arg-type]

    # -- nodes ----------------------------------------------------------------------------------------

    def _node(self, node: Node, on_loop: bool) -> None:
        """Add a node, or say why not; what it feeds goes on all the same."""
        self.builder.at = node.name
        self.trace.forget()
        try:
            if on_loop:
                raise NoFormError("it lies on a loop")
            if has_time(node) and self.graph.timesteps is None:
                raise NoFormError("the graph does not say its number of time steps")
            self.signals[node.name] = self._evaluate(node)
            return
        except NoFormError as error:
            self._refuse(node, f"{_what(node)} has no form in ONNX: {error}")
        except HsnnError as error:
            self._refuse(node, f"{_what(node)} has no form in ONNX: {error.findings[0].message}")
        except (TypeError, ValueError, RuntimeError, LookupError, AttributeError, AssertionError) as error:
            self._refuse(node, f"{_what(node)} has no form in ONNX: {type(error).__name__} {str(error)[:200]}")
        self.signals[node.name] = self._signal(node, "stacked" if has_time(node) else "once", node.name)

    def _evaluate(self, node: Node) -> Signal:
        form = "stacked" if has_time(node) else "once"
        if node.kind == "Input":
            return self._signal(node, form, node.name)
        parts = [self._along(edge) for edge in self.graph.in_edges(node.name)]
        if node.kind in _NODES_OF_TIME:
            return self._crossing(node, self._total(parts))
        if node.is_population:
            arriving = self._total(parts).stacked()
            done = population(self.trace, node, arriving, self._steps(node), self._keeper())
            return self._signal(node, "stacked", done)
        if node.kind == "Output":
            total = self._total(parts)
            self.builder.copy_to(total.stacked(), node.name)
            return total
        return self._stateless(node, parts)

    def _stateless(self, node: Node, parts: list[Signal]) -> Signal:
        """All steps at once as if they were samples, or one of them if all are alike."""
        if node.kind == "Concat":
            function: Callable[..., Tensor] = _joining(node.op.axis % len(node.shape) + 1)
        elif node.kind == "Spread":
            function = _spreading(*pair(node.op.step))
        else:
            bound = bind(node.op, torch.float32, self._keeper())
            function = bound if node.kind == "HostCall" else lambda *xs: bound(add(list(xs)))
        form = "once" if all(part.is_constant for part in parts) else "flat"
        inputs = [
            self.trace.input(part.once() if form == "once" else part.flat(), (self.trace.batch, *part.shape))
            for part in parts
        ]
        return self._signal(node, form, self._named(node, self.trace.call(function, *inputs)))

    def _crossing(self, node: Node, given: Signal) -> Signal:
        """Nodes that see a whole window of time."""
        steps, rank = self._steps(node), len(given.shape)
        if node.kind == "Encode":
            if node.is_event_source:
                return self._signal(node, "stacked", encoded(self.trace, node.op, given.once(), rank, steps))
            value = given.once()
            if isinstance(node.quant, CurrentQuant):
                value = presented(self.trace, node.quant, value)
            return self._signal(node, "once", value)
        if node.kind == "Delay":
            return self._delayed(node, given)
        if node.kind == "Decode":
            return self._over_time(node, given, lambda x: codes.decode(node.op, x))
        keep = self._keeper()
        if node.kind == "Collect":
            bias = keep("bias", np.asarray(node.op.bias))
            return self._over_time(node, given, lambda x: codes.collect(node.op, x, bias)[0])
        threshold = keep("threshold", np.asarray(node.op.threshold))
        level = self._over_time(node, given, lambda x: codes.first_spike_levels(x, threshold).to(torch.int64))
        return self._signal(node, "stacked", first_spikes_at(self.trace, level.once(), rank, steps))

    def _over_time(self, node: Node, given: Signal, function: Callable[[Tensor], Tensor]) -> Signal:
        """What a function of [time, batch, ...] makes of a window, [batch, ...]."""
        window = self.trace.input(given.stacked(), (self.trace.batch, self._steps(node), *given.shape))
        return self._signal(
            node, "once", self._named(node, self.trace.call(lambda x: function(x.transpose(0, 1)), window))
        )

    def _delayed(self, node: Node, given: Signal) -> Signal:
        assert node.dynamics is not None
        wait = delay_steps(node.op, node.dynamics)
        waits = sorted(set(wait.reshape(-1).tolist()))
        found = given.later(waits[0]).stacked()
        for other in waits[1:]:
            found = self.trace.op("Where", wait[None, None] == other, given.later(other).stacked(), found)
        return self._signal(node, "stacked", found)

    # -- parts ----------------------------------------------------------------------------------------

    def _along(self, edge: Edge) -> Signal:
        return self.signals[edge.src].later(edge.delay)

    def _total(self, parts: list[Signal]) -> Signal:
        """Everything that arrives at one port, added up."""
        if len(parts) == 1:
            return parts[0]
        first = parts[0]
        form = "once" if all(part.is_constant for part in parts) else "stacked"
        names = [part.once() if form == "once" else part.stacked() for part in parts]
        total = names[0]
        for name in names[1:]:
            total = self.trace.op("Add", total, name)
        return Signal(self.trace, first.shape, first.steps, {form: total})

    def _signal(self, node: Node, form: str, name: str) -> Signal:
        return Signal(self.trace, node.shape, self.graph.timesteps if has_time(node) else None, {form: name})

    def _steps(self, node: Node) -> int:
        if self.graph.timesteps is None:
            raise NoFormError("the graph does not say its number of time steps")
        return self.graph.timesteps

    def _keeper(self) -> Callable[[str, np.ndarray], Tensor]:
        def keep(name: str, array: np.ndarray) -> Tensor:
            return self.trace.parameter(name, tensor(array, torch.float32))

        return keep

    def _named(self, node: Node, out: Tensor) -> str:
        if tuple(out.shape) != (self.trace.batch, *node.shape):
            raise NoFormError(f"a result of {list(out.shape[1:])} per sample, not {list(node.shape)}")
        return self.trace.name(out)


def _joining(axis: int) -> Callable[..., Tensor]:
    return lambda *parts: torch.cat(parts, axis)


def _spreading(down: int, right: int) -> Callable[..., Tensor]:
    """Zeros between pixels, without writing into memory: a transposed convolution with kernels of one pixel."""

    def spread(*parts: Tensor) -> Tensor:
        x = add(list(parts))
        return F.conv_transpose2d(x, torch.ones(x.shape[1], 1, 1, 1), stride=(down, right), groups=x.shape[1])

    return spread


def _what(node: Node) -> str:
    return str(node.op.function) if node.kind == "HostCall" else node.kind


def _numbers(graph: Graph) -> set[int]:
    """Sizes and whole numbers that stand in a graph, as far as they could be taken for the batch."""
    found = {size for node in graph if node.type for size in node.type.shape}
    found |= {math.prod(node.type.shape) for node in graph if node.type}
    for node in graph.of_kind("HostCall"):
        found |= _digits(node.op.arguments)
        found |= {size for array in node.op.constants.values() for size in array.shape}
    return found


def _digits(text: str) -> set[int]:
    found: Any = "".join(letter if letter.isdigit() else " " for letter in text).split()
    return {int(part) for part in found}
