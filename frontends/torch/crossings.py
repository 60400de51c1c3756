"""Encoders and decoders of `hsnn_compiler.nn`: between values and series of T steps, [T, B, ...]."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import nir
import numpy as np
import torch
from torch import nn

from hsnn_compiler.diagnostics import Finding, Source
from hsnn_compiler.frontends.torch.axes import SAMPLES, Axes
from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.registry import Unsupported, module
from hsnn_compiler.frontends.torch.stateful import prepares
from hsnn_compiler.frontends.torch.tracer import Tracer
from hsnn_compiler.frontends.torch.whole_numbers import whole_numbers
from hsnn_compiler.ir.crossings import Decode, Encode
from hsnn_compiler.ir.dynamics import Dynamics
from hsnn_compiler.nn import (
    TTFS,
    BitPlane,
    BitPlaneSum,
    Delta,
    Direct,
    FirstSpikeTime,
    Last,
    Membrane,
    Phase,
    PhaseSum,
    Rate,
    RateCode,
    Sum,
)
from hsnn_compiler.nn.scale import Scaled

Tensor = torch.Tensor

KINDS: dict[type[nn.Module], str] = {
    Direct: "direct",
    BitPlane: "bitplane",
    RateCode: "rate",
    TTFS: "ttfs",
    Delta: "delta",
    Phase: "phase",
    Rate: "mean",
    Sum: "sum",
    Last: "last",
    BitPlaneSum: "bitplane",
    PhaseSum: "phase",
    FirstSpikeTime: "ttfs",
    Membrane: "last",
}
"""Kind of the `Encode` or `Decode` that each of them is."""

WITHIN_ONE = ("Input", "Sigmoid", "Softmax")
"""Ops behind which a scale of 1 says nothing: what they put out lies within it, as inputs often do."""


@prepares(Scaled)
def _held(mod: Scaled, batch: int) -> AbstractContextManager[object]:
    """An example moves no scale."""
    return mod.held()


@module(Direct, BitPlane, RateCode, TTFS, Delta, Phase)
def _encode(call: Call, mod: Any, x: Tensor) -> str:
    """Values to a series of steps."""
    name = type(mod).__name__
    if call.axes_of(x) != SAMPLES:
        raise Unsupported(
            f"{name} encodes a series", "values, once per sample: [B, ...]", "encode before there is time", "E0407"
        )
    agree_on_steps(call, mod.timesteps)
    fields: dict[str, Any] = {} if isinstance(mod, Direct) else {"high": float(mod.high)}
    if isinstance(mod, Phase):
        fields["period"] = mod.period
    if isinstance(mod, Scaled):
        _note_scale(call, mod, call.node(x))
    node = call.emit(Encode(_kind(mod), **fields), x, stem=_stem(call, "encode"))
    call.axes = Axes("TB", mod.timesteps)
    return node


@module(Rate, Sum, Last, BitPlaneSum, PhaseSum)
def _decode(call: Call, mod: Any, steps: Tensor) -> str:
    """A series of steps to values."""
    _series(call, mod, steps)
    op = Decode(_kind(mod), float(getattr(mod, "high", 1.0)), **_period(mod))
    return _decoded(call, op, call.node(steps))


@module(Membrane)
def _membrane(call: Call, mod: Membrane, steps: Tensor) -> str:
    """An integrator that never fires, read after the last step."""
    _series(call, mod, steps)
    beta = float(mod.beta)
    ones = np.ones((1,) * len(call.shape(steps)))
    if beta == 1:
        op: Any = nir.I(r=ones)
    else:
        op = nir.LI(tau=ones / (1 - beta), r=ones / (1 - beta), v_leak=0 * ones)
    dynamics = Dynamics(integrator="none", decay=beta, gain=1.0, reset="none")
    potential = call.emit(op, steps, stem=f"{_stem(call, 'decode')}.membrane", dynamics=dynamics)
    return _decoded(call, Decode("last"), potential)


@module(FirstSpikeTime)
def _first_spike_time(call: Call, mod: FirstSpikeTime, steps: Tensor) -> str:
    """Only the first step above zero counts, so neurons let nothing else pass.

    Of inputs that are whole numbers up to n, threshold n T and v_0 = n T - 1/2: the first above zero lifts v over the
    threshold; reset by subtraction leaves what has arrived less 1/2, which T steps never bring there again.
    """
    axes = _series(call, mod, steps)
    source, shape = call.node(steps), call.shape(steps)
    numbers = whole_numbers(call.tracer.graph, source)
    if numbers is None or numbers[0] < 0:
        raise Unsupported(
            "FirstSpikeTime reads something other than spikes",
            "the spikes of neurons or of an encoder, and sums and products of them",
            "put a neuron in front of the decoder, or decode with Rate or BitPlaneSum",
            "E0407",
        )
    threshold = np.full((1,) * len(shape), float(max(numbers[1], 1) * axes.steps))
    op = nir.IF(r=np.ones_like(threshold), v_threshold=threshold, v_reset=np.zeros_like(threshold))
    dynamics = Dynamics(integrator="none", gain=1.0, reset="subtract", v_init=float(threshold.flat[0]) - 0.5)
    first = call.emit(op, source, stem=f"{_stem(call, 'decode')}.first", dynamics=dynamics)
    return _decoded(call, Decode("ttfs", float(mod.high)), first)


def agree_on_steps(call: Call, steps: int) -> None:
    """All of a model takes one number of time steps: E0407 where this is another one."""
    tracer = call.tracer
    known = tracer.graph.timesteps
    if known not in (None, steps):
        raise Unsupported(
            f"{steps} time steps here, {known} in {tracer.timed_by or 'the example'}",
            "one number of time steps in a model",
            "give all encoders the same timesteps",
            "E0407",
        )
    if known is None:
        tracer.graph.timesteps, tracer.timed_by = steps, call.where


def scale_findings(tracer: Tracer) -> list[Finding]:
    """What is to be said of encoders whose scales were never found on data, or are still being found (W0415)."""
    found = []
    for why, places in tracer.scales.items():
        names = list(places)
        others = f"; the same for {len(names) - 1} more: {', '.join(names[1:4])}" if len(names) > 1 else ""
        found.append(
            Finding(
                "W0415",
                f"{why}{others}{' ...' if len(names) > 4 else ''}",
                node=names[0],
                source=places[names[0]],
                suggestion="hsnn_compiler.nn.calibrate(model, x) with training data, then save the model",
            )
        )
    return found


def _note_scale(call: Call, mod: Scaled, feed: str) -> None:
    high = float(mod.high)
    if mod.calibrating:
        why = f"an encoder is still calibrating: its scale is taken as it is now, {high:g}"
    elif high == 1 and call.tracer.graph[feed].kind not in WITHIN_ONE:
        why = "an encoder inside the network has scale 1, as before any calibration: it clips values above 1"
    else:
        return
    call.tracer.scales.setdefault(why, {}).setdefault(call.where, Source("", call.source.file, call.source.line))


def _series(call: Call, mod: nn.Module, steps: Tensor) -> Axes:
    axes = call.axes_of(steps)
    if axes.order != "TB":
        raise Unsupported(
            f"{type(mod).__name__} gets a tensor whose first axis is not time",
            "series [T, B, ...]",
            "torch.stack the results of the steps, or let TimeLoop(encoder, body, decoder) do it",
            "E0407",
        )
    return axes


def _decoded(call: Call, op: Decode, source: str) -> str:
    call.axes = SAMPLES
    return call.emit(op, source, stem=_stem(call, "decode"))


def _kind(mod: nn.Module) -> str:
    return next(KINDS[cls] for cls in type(mod).__mro__ if cls in KINDS)


def _period(mod: nn.Module) -> dict[str, int]:
    return {"period": mod.period} if isinstance(mod, PhaseSum) else {}


def _stem(call: Call, verb: str) -> str:
    """Name of a crossing: that of its module, where ``encoder`` and ``decoder`` become ``encode`` and ``decode``."""
    head, dot, last = call.stem.rpartition(".")
    return f"{head}{dot}{verb}" if last == f"{verb}r" else call.stem
