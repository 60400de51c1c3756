"""What exists at every time step: how tensors with a time axis are cut, stacked and summed up.

`Stack` and `Step` stand in the graph only while the model runs; `rolling` resolves them.
"""
# ruff: noqa: A002 - the parameters have torch's own names, so that they bind as torch's do

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from hsnn_compiler.frontends.torch.axes import Axes
from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.registry import Entry, Unsupported, function_named
from hsnn_compiler.ir.graph import Node
from hsnn_compiler.ir.ops import Decode, Encode
from hsnn_compiler.ir.types import Coding, TensorType

Tensor = torch.Tensor

SERIES: dict[Any, Entry] = {}
"""Functions that do something else with a time axis: asked before the table of functions."""


class NotTimeError(Exception):
    """Raised by a handler here: this call does not concern time; the table of functions knows it."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Values one after the other: the steps of a loop, or one value again and again."""


@dataclass(frozen=True, eq=False)
class Step:
    """One step of what exists at every step."""

    number: int


def _series(stem: str, *names: str) -> Callable[[Callable[..., str | None]], Callable[..., str | None]]:
    def register(handler: Callable[..., str | None]) -> Callable[..., str | None]:
        SERIES.update((found, Entry(handler, stem)) for name in names if (found := function_named(name)) is not None)
        return handler

    return register


@_series("stack", "torch.stack")
def _stack(call: Call, tensors: Any, dim: int = 0, *, out: None = None) -> str | None:
    """Steps as they come out of a loop: [B, ...] each to [T, B, ...] or [B, T, ...]."""
    parts = list(tensors)
    if dim not in (0, 1) or any(not call.is_traced(part) or call.axes_of(part).has_time for part in parts):
        raise NotTimeError
    values = [call.tracer.values[id(part)] for part in parts]
    axes = Axes("BT" if dim else "TB", len(parts))
    states = {value.state for value in values if value.node is None}
    if None not in states and len(states) == len(parts):
        held = {(call.tracer.neuron_of(state[0]), state[1]) for state in states if state}
        if len(held) > 1:
            raise NotTimeError
        call.ignore(*parts)
        call.axes, call.results = axes, [(call.out, None, held.pop())]
        return None
    nodes = [call.node(part) for part in parts]
    if dim == 1 and len(set(nodes)) > 1 and not any(_has_neurons(call, node) for node in nodes):
        raise NotTimeError
    call.axes = axes
    kind = TensorType(call.shape(parts[0]), Coding.CURRENT)
    return call.place(Stack(), kind, nodes, ports=True)


def _has_neurons(call: Call, node: str) -> bool:
    graph = call.tracer.graph
    return any(graph[name].is_neuron for name in (node, *graph.ancestors(node)))


@_series("step", "Tensor.__getitem__")
def _item(call: Call, input: Tensor, index: Any) -> str:
    """``x[t]`` of [T, B, ...], ``x[:, t]`` of [B, T, ...]."""
    time = _time_axis(call, input)
    parts = index if isinstance(index, tuple) else (index,)
    whole = [part for i, part in enumerate(parts) if i != time]
    if len(parts) <= time or not isinstance(parts[time], int) or any(part not in (slice(None), ...) for part in whole):
        raise Unsupported("a part of a series other than one of its steps", "x[t] with a number t", "x[t]")
    return _step(call, input, parts[time])


@_series("step", "torch.select", "Tensor.select")
def _select(call: Call, input: Tensor, dim: int, index: int) -> str:
    if dim % input.dim() != _time_axis(call, input):
        raise NotTimeError
    return _step(call, input, index)


@_series("step", "torch.unbind", "Tensor.unbind", "Tensor.__iter__")
def _unbind(call: Call, input: Tensor, dim: int = 0) -> None:
    """All steps, as ``for x_t in x`` asks for them."""
    if dim % input.dim() != _time_axis(call, input):
        raise NotTimeError
    steps = list(call.out)
    call.out = steps
    call.axes, axes = Axes(), call.axes_of(input)
    call.results = [(step, _placed(call, input, t), None) for t, step in enumerate(steps)]
    assert axes.steps == len(steps)


@_series("state", "Tensor.detach", "Tensor.detach_", "torch.detach", "Tensor.clone", "torch.clone")
def _same_state(call: Call, input: Tensor, *, memory_format: Any = None) -> None:
    """A neuron's state stays what it is, as if handed on directly."""
    value = call.tracer.values[id(input)]
    if value.state is None:
        raise NotTimeError
    call.ignore(input)
    call.results = [(call.out, value.node, value.state)]


@_series("mean", "torch.mean", "Tensor.mean")
def _mean(call: Call, input: Tensor, dim: Any = None, keepdim: bool = False, **more: Any) -> str:
    return _decode(call, input, dim, keepdim, "mean")


@_series("sum", "torch.sum", "Tensor.sum")
def _sum(call: Call, input: Tensor, dim: Any = None, keepdim: bool = False, **more: Any) -> str:
    return _decode(call, input, dim, keepdim, "sum")


@_series("repeat", "Tensor.repeat")
def _repeat(call: Call, input: Tensor, *sizes: Any) -> str:
    counts = sizes[0] if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes
    return _again(call, input, all(int(n) == 1 for n in counts[1:]), len(counts) == input.dim())


@_series("repeat", "Tensor.expand", "torch.broadcast_to", "Tensor.broadcast_to")
def _expand(call: Call, input: Tensor, *sizes: Any) -> str:
    call.ignore(*sizes)
    return _again(call, input, call.out.shape[1:] == input.shape[1:], call.out.dim() == input.dim())


@_series("transpose", "torch.transpose", "Tensor.transpose", "torch.swapaxes", "Tensor.swapaxes")
def _transpose(call: Call, input: Tensor, dim0: int, dim1: int) -> str:
    if {dim0 % input.dim(), dim1 % input.dim()} != {0, 1}:
        raise NotTimeError
    return _swapped(call, input)


@_series("permute", "torch.permute", "Tensor.permute")
def _permute(call: Call, input: Tensor, *dims: Any) -> str:
    order = dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims
    if [int(d) % input.dim() for d in order] != [1, 0, *range(2, input.dim())]:
        raise NotTimeError
    return _swapped(call, input)


def _swapped(call: Call, x: Tensor) -> str:
    order = call.axes_of(x).order
    if order not in ("TB", "BT"):
        raise NotTimeError
    call.axes = Axes(order[::-1], call.axes_of(x).steps)
    return call.node(x)


def _again(call: Call, x: Tensor, only_time: bool, same_rank: bool) -> str:
    """[1, B, ...] to [T, B, ...]: the value is presented at every step."""
    axes = call.axes_of(x)
    if axes != Axes("TB", 1):
        raise NotTimeError
    if not (only_time and same_rank):
        raise Unsupported("a repetition along time and other axes at once", "x.unsqueeze(0).repeat(T, 1, ...)")
    graph, steps = call.tracer.graph, call.out.shape[0]
    if graph.timesteps not in (None, steps):
        raise Unsupported(
            f"{steps} time steps here, {graph.timesteps} elsewhere", "one number of time steps in a model", code="E0407"
        )
    graph.timesteps = steps
    call.axes = Axes("TB", steps)
    return call.emit(Encode("direct"), x, stem="encode")


def _decode(call: Call, x: Tensor, dim: Any, keepdim: bool, kind: str) -> str:
    """Sum or mean over the time axis, and the mean over axes of a sample besides."""
    time = _time_axis(call, x)
    axes = [d % x.dim() for d in (dim if isinstance(dim, (tuple, list)) else [dim] if dim is not None else [])]
    if axes != [time] or keepdim:
        if time in axes or not axes:
            raise Unsupported(
                f"a {kind} over time together with other axes", f"x.{kind}({time}) over time alone, other axes after it"
            )
        raise NotTimeError
    call.axes = Axes()
    return call.emit(Decode(kind), x)


def _step(call: Call, x: Tensor, number: int) -> str:
    call.axes, axes = Axes(), call.axes_of(x)
    return _placed(call, x, number % axes.steps)


def _placed(call: Call, x: Tensor, number: int) -> str:
    return call.place(Step(number), TensorType(call.shape(x)), [call.node(x)])


def _time_axis(call: Call, x: Tensor) -> int:
    time = call.axes_of(x).time if call.is_traced(x) else None
    if time is None:
        raise NotTimeError
    return time


def is_transient(node: Node) -> bool:
    """Whether a node only exists while the model runs."""
    return isinstance(node.op, (Stack, Step))
