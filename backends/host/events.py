"""Crossings from values to spikes as ONNX nodes; the equations are those of `hsnn_compiler.reference.codes`."""

from __future__ import annotations

from typing import Any

import torch

from hsnn_compiler.backends.host.table import NoFormError
from hsnn_compiler.backends.host.tracing import Trace
from hsnn_compiler.ir.quant import STATE_SHIFT, CurrentQuant
from hsnn_compiler.reference import codes


def encoded(t: Trace, op: Any, value: str, rank: int, steps: int) -> str:
    """Spikes [batch, time, ...] of an `Encode` of events for a value [batch, ...].

    Args:
        t: takes the nodes.
        op: the Encode.
        value: name of the value.
        rank: number of axes of the value, without the batch.
        steps: T, per sample.
    """
    u = t.op("Div", t.op("Cast", value, to=11), _f64(op.high))
    if op.doubled:
        u = t.op("Concat", u, t.op("Neg", u), axis=1)
    u = t.op("Min", t.op("Max", u, _f64(0)), _f64(1))
    scaled = t.op("Round", t.op("Mul", u, _f64(codes.level_count(op.kind, steps, op.period))))
    return _spikes(t, op, t.op("Cast", scaled, to=7), rank, steps)


def _spikes(t: Trace, op: Any, level: str, rank: int, steps: int) -> str:
    """Spike trains [batch, time, ...] of integer levels [batch, ...]; see `codes.spikes`."""
    if op.kind == "ttfs":
        return first_spikes_at(t, level, rank, steps)
    n, time = t.op("Unsqueeze", level, t.ints(1)), _time(rank, steps)
    if op.kind in ("bitplane", "phase"):
        bits = op.period if op.kind == "phase" else steps
        plane = t.op("Div", n, 2 ** (bits - 1 - time % bits))
        fired = t.op("Equal", t.op("Mod", plane, torch.tensor(2)), torch.tensor(1))
    elif op.kind == "rate":
        before, after = (t.op("Div", t.op("Mul", n, k), torch.tensor(steps)) for k in (time, time + 1))
        fired = t.op("Greater", after, before)
    elif op.kind == "delta":
        fired = t.op("Greater", n, time)
    else:
        raise NoFormError(f"the code {op.kind!r}")
    return t.op("Cast", fired, to=1)


def first_spikes_at(t: Trace, level: str, rank: int, steps: int) -> str:
    """Spikes [batch, time, ...] of levels [batch, ...]: at step T - n; see `codes.first_spikes_at`."""
    n = t.op("Unsqueeze", level, t.ints(1))
    fired = t.op("And", t.op("Equal", n, steps - _time(rank, steps)), t.op("Greater", n, torch.tensor(0)))
    return t.op("Cast", fired, to=1)


def _time(rank: int, steps: int) -> torch.Tensor:
    """The steps, along axis 1."""
    return torch.arange(steps).reshape(1, steps, *(1,) * rank)


def presented(t: Trace, quant: CurrentQuant, value: str) -> str:
    """What a chip sees of a value that is presented as bias mantissas, in real units."""
    wanted = t.op("Round", t.op("Mul", t.op("Cast", value, to=11), _f64(quant.unit)))
    mantissas = t.op("Min", t.op("Max", wanted, _f64(quant.low)), _f64(quant.high))
    factor = 2.0**quant.exponent / (quant.scale * 2**STATE_SHIFT)
    return t.op("Mul", t.op("Cast", mantissas, to=1), torch.tensor(factor, dtype=torch.float32))


def _f64(number: float) -> torch.Tensor:
    return torch.tensor(number, dtype=torch.float64)
