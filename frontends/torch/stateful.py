"""Neurons of any library as nodes: their parameters, and the state that goes from call to call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.registry import Unsupported
from hsnn_compiler.frontends.torch.tracer import Shape, version_of
from hsnn_compiler.ir.dynamics import SPIKING_OPS, Dynamics
from hsnn_compiler.nn import reset_states

Tensor = torch.Tensor

RETURNED = "the state that its call before returned"

INIT = {"v": "v_init", "u": "u_init"}
"""Field of `Dynamics` that a state starts from."""

Prepare = Callable[[Any, int], AbstractContextManager[object]]

RESETS: dict[type[nn.Module], Callable[[Any], object]] = {}
"""How modules of a class forget their state."""

PREPARES: dict[type[nn.Module], Prepare] = {}
"""What modules of a class need while a batch of a certain size runs."""


def resets(*classes: type[nn.Module]) -> Callable[[Callable[[Any], object]], Callable[[Any], object]]:
    """Register a function ``(module)`` that makes modules of these classes, and of subclasses, forget their state."""

    def register(function: Callable[[Any], object]) -> Callable[[Any], object]:
        RESETS.update(dict.fromkeys(classes, function))
        return function

    return register


STATES: dict[type[nn.Module], Callable[[Any], list[Tensor]]] = {}
"""The tensors in which modules of a class keep their state."""


def keeps(*classes: type[nn.Module]) -> Callable[[Callable[[Any], list[Tensor]]], Callable[[Any], list[Tensor]]]:
    """Register a function ``(module)`` that returns the states a module keeps, so that a change of them is seen."""

    def register(function: Callable[[Any], list[Tensor]]) -> Callable[[Any], list[Tensor]]:
        STATES.update(dict.fromkeys(classes, function))
        return function

    return register


def kept_by(mod: nn.Module) -> list[tuple[Tensor, int]]:
    """The states a module keeps now, each with torch's count of its changes."""
    found = next((STATES[cls] for cls in type(mod).__mro__ if cls in STATES), None)
    return [] if found is None else [(tensor, version_of(tensor)) for tensor in found(mod)]


def forget(model: nn.Module) -> None:
    """Make all neurons of a model forget their state."""
    reset_states(model)
    for part in model.modules():
        for cls in type(part).__mro__:
            if cls in RESETS:
                RESETS[cls](part)
                break


def prepares(*classes: type[nn.Module]) -> Callable[[Prepare], Prepare]:
    """Register a function ``(module, batch)`` that gives a context in which a batch of that size may run.

    For modules that have a batch size written into them, which is no part of what they compute.
    """

    def register(function: Prepare) -> Prepare:
        PREPARES.update(dict.fromkeys(classes, function))
        return function

    return register


@contextmanager
def prepared(model: nn.Module, batch: int) -> Iterator[None]:
    """All modules of a model ready for a batch of this size, and without memory of another; again so afterwards."""
    with ExitStack() as stack:
        for part in model.modules():
            for cls in type(part).__mro__:
                if cls in PREPARES:
                    stack.enter_context(PREPARES[cls](part, batch))
                    break
        forget(model)
        try:
            yield
        finally:
            forget(model)


def neuron(
    call: Call,
    mod: nn.Module,
    op: Any,
    dynamics: Dynamics,
    current: Tensor,
    given: Sequence[tuple[str, Tensor | None]] = (),
    results: Sequence[tuple[Tensor, str]] | None = None,
    series: bool = False,
    feed: str | None = None,
    merged: str = "",
) -> str:
    """Emit a population: one step of a loop, or all steps where `current` has a time axis.

    Args:
        call: the module's call.
        mod: the module.
        op: a NIR neuron.
        dynamics: what it does in a step.
        current: its input.
        given: states handed to this call, each with its name, ``v`` or ``u``: at the first call where the
            neuron starts from, later what its own call before gave back. None: it keeps its state itself.
        results: the tensors the call returns, each ``s`` (its output) or the name of a state; by default
            the call returns its output alone.
        series: whether a call takes all steps at once where `current` has a time axis.
        feed: the node that feeds the population, where something is computed from `current` first.
        merged: the order, ``(TB)`` or ``(BT)``, in which the module takes a series whose axes are merged.

    Raises:
        Unsupported: E0407 where the order of calls is not that of steps.
    """
    tracer = call.tracer
    kept = tracer.calls.setdefault(id(mod), [])
    axes = call.axes_of(current)
    if axes.order in ("(TB)", "(BT)") and axes.order != merged:
        raise _not_in_steps(mod, "gets time and batch merged into one axis", "[T, B, ...] or one step at a time")
    if axes.has_time and not series:
        tracer.one_step = True
        raise _not_in_steps(mod, "computes one step, and gets a whole series at once", "one step per call")
    if axes.has_time and kept:
        raise _not_in_steps(mod, "gets a second series of steps while it keeps the state of the first", "one series")
    if kept and all(tensor is None for _, tensor in given):
        left = tracer.left.get(id(mod), [])
        if any(a is not b or m != n for (a, m), (b, n) in zip(left, call.before, strict=False)):
            raise _not_in_steps(mod, "is reset, or its state is changed, between two steps", "resets before the first")
    tracer.left[id(mod)] = kept_by(mod)
    start: dict[str, Any] = {}
    for variable, tensor in given:
        if tensor is None:
            continue
        if call.is_traced(tensor):
            if not kept or tracer.values[id(tensor)].state not in ((kept[-1], variable), (kept[-1], "s")):
                raise _not_in_steps(
                    mod, f"gets a state {variable} that is not what its call before gave back", RETURNED
                )
            call.ignore(tensor)
        elif kept:
            raise _not_in_steps(mod, f"gets a constant as its state {variable} after its first step", RETURNED)
        else:
            value = initial(call, tensor)
            if np.any(value):
                start[INIT[variable]] = value
    spikes = type(op).__name__ in SPIKING_OPS
    call.ignore(current)
    node = call.emit(op, feed or call.node(current), dynamics=replace(dynamics, **start))
    if tracer.loop is None:
        kept.append(node)
    if results is not None:
        call.results = [
            (tensor, node, (node, "s") if not spikes and variable == "v" else None)
            if variable == "s" or (variable == "v" and not spikes and not axes.has_time)  # of a series, the last v
            else (tensor, None, (node, variable))
            for tensor, variable in results
        ]
    return node


def initial(call: Call, tensor: Tensor) -> float | np.ndarray:
    """Where a state starts: a number, or an array in the shape of one sample."""
    call.check_constant(tensor)
    with call.tracer.silence():
        array = tensor.detach().cpu().numpy().astype(np.float64)
    if array.size and np.all(array == array.flat[0]):
        return float(array.flat[0])
    if array.ndim and np.any(array != array[:1]):
        raise Unsupported("an initial state that differs from sample to sample", "one initial state", code="E0406")
    return array[0] if array.ndim else array


def arrays(shape: Shape, *values: Any) -> list[np.ndarray]:
    """Parameters as float64 arrays of one shape, as NIR wants them: all ones, or what they need of `shape`.

    Args:
        shape: of one sample.
        values: numbers or tensors that broadcast against ``[batch, *shape]`` as torch does it.
    """
    found = []
    for value in values:
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        array = array.astype(np.float64)
        while array.ndim > len(shape) and array.shape[0] == 1:
            array = array[0]
        found.append(array.reshape((1,) * (len(shape) - array.ndim) + array.shape))
    try:
        common = np.broadcast_shapes(*(array.shape for array in found), (1,) * len(shape))
    except ValueError:
        common = shape
    if len(common) != len(shape) or any(n not in (1, wanted) for n, wanted in zip(common, shape, strict=True)):
        raise Unsupported(f"neuron parameters that do not fit a population of shape {list(shape)}")
    return [np.array(np.broadcast_to(array, common)) for array in found]


def scalar(array: np.ndarray) -> float | np.ndarray:
    """A number where all elements are the same."""
    return float(array.flat[0]) if array.size and np.all(array == array.flat[0]) else array


def _not_in_steps(mod: nn.Module, what: str, supported: str) -> Unsupported:
    return Unsupported(
        f"{type(mod).__name__} {what}",
        supported,
        "call each neuron once per time step, in the order of the steps",
        "E0407",
    )
