"""Codes in which the step of a spike counts, as whole-window functions used by every executor.

The equations of the codes are in `hsnn_compiler.ir.crossings` (`Encode`, `Decode`, `Collect`, `FirstSpike`). Signals
are [time, batch, ...]; levels are integers, so that all executors send the same spikes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.crossings import Decode, code_of, wrong_code

WINDOW_OPS = ("Collect", "FirstSpike")
"""Ops of which a step depends on other steps of the sample."""


def level_count(kind: str, steps: int, period: int = 8) -> int:
    """The largest level of an `Encode` of events: the number of values above zero that it tells apart."""
    return 2**period - 1 if kind == "phase" else 2**steps - 1 if kind == "bitplane" else steps


def levels(op: Any, value: Tensor, steps: int) -> tuple[Tensor, int]:
    """Round values to the levels of an `Encode` of events.

    Args:
        op: the Encode.
        value: [batch, ...].
        steps: T, per sample.

    Returns:
        int64 levels, [batch, ...] with twice the channels where the Encode doubles them, and how many
        values lay outside its range and were clipped.
    """
    u = value.to(torch.float64) / op.high
    low = -1.0 if op.doubled else 0.0
    clipped = int(((u < low) | (u > 1.0)).sum())
    return torch.round(_parts(op, u) * level_count(op.kind, steps, op.period)).to(torch.int64), clipped


def _parts(op: Any, u: Tensor) -> Tensor:
    """Clipped to [0, 1], in twice the channels where the Encode doubles them."""
    return (torch.cat([u, -u], 1) if op.doubled else u).clamp(0.0, 1.0)


def spikes(op: Any, level: Tensor, steps: int) -> Tensor:
    """Spike trains of the integer levels of an `Encode` of events: uint8 [time, *level.shape]."""
    out = torch.empty((steps, *level.shape), dtype=torch.uint8, device=level.device)
    for t in range(steps):
        out[t] = spikes_of_step(op, level, t, steps)
    return out


def spikes_of_step(op: Any, level: Tensor, t: int, steps: int) -> Tensor:
    """What `spikes` has at step t: 0 and 1, or False and True, in the shape of `level`."""
    if op.kind in ("bitplane", "phase"):
        bits = op.period if op.kind == "phase" else steps
        return (level >> (bits - 1 - t % bits)) & 1
    if op.kind == "rate":
        return (t + 1) * level // steps > t * level // steps
    if op.kind == "ttfs":
        return first_spike_at(level, t, steps)
    return level > t  # delta


def first_spikes_at(level: Tensor, steps: int) -> Tensor:
    """One spike at step T - n for a level n above zero: uint8 [time, *level.shape]."""
    out = torch.empty((steps, *level.shape), dtype=torch.uint8, device=level.device)
    for t in range(steps):
        out[t] = first_spike_at(level, t, steps)
    return out


def first_spike_at(level: Tensor, t: int, steps: int) -> Tensor:
    """Whether the spike of `first_spikes_at` comes at step t: bool, in the shape of `level`."""
    return (level == steps - t) & (level > 0)


def encode(op: Any, value: Tensor, steps: int) -> tuple[Tensor, int]:
    """Spikes uint8 [time, batch, ...] of an `Encode` of events, and how many values were clipped; see `levels`."""
    _check(op, steps)
    level, clipped = levels(op, value, steps)
    return spikes(op, level, steps), clipped


def with_gradient(op: Any, value: Tensor, fired: Tensor) -> Tensor:
    """The spikes of an `Encode` of events with the straight-through gradient, in the dtype of `value`.

    With w_t what a spike is worth at step t, ds_t/dx = 1 / (high * sum_t w_t) where 0 <= x <= high, else 0: what is
    decoded in the same code has the gradient of clip(x, 0, high), as if nothing had been rounded.
    """
    through = passed_through(op, value, len(fired))
    return fired.to(value.dtype) + (through - through.detach())  # the difference is zero and has a gradient


def passed_through(op: Any, value: Tensor, steps: int) -> Tensor:
    """What has the gradient of every step of `with_gradient`: clip(x / high, 0, 1) / sum_t w_t, [batch, ...]."""
    weights, whole = step_weights(op, steps)
    return _parts(op, value / op.high) * (whole / int(weights.sum()))


def decode(op: Any, value: Tensor) -> Tensor:
    """[time, batch, ...] to [batch, ...], as a `Decode` does it, in the dtype of the steps."""
    if op.kind == "last":
        out = value[-1]
    elif op.kind == "sum":
        out = value.sum(0)
    elif op.kind == "mean":
        out = value.mean(0)
    else:
        weights, whole = step_weights(op, len(value))
        out = torch.tensordot(weights.to(value), value, 1) / whole
    return out if op.gain == 1 else out * op.gain


def worth_of_one(op: Any, steps: int) -> float:
    """What a `Decode` makes of a 1 in every step."""
    return float(decode(op, torch.ones(steps, dtype=torch.float64)))


def decode_integers(op: Any, value: Tensor) -> tuple[Tensor, int]:
    """The same for spikes, payloads and potentials as integers: an exact sum [batch, ...], and what to divide it by."""
    if op.kind == "last":
        return value[-1], 1
    weights, whole = step_weights(op, len(value))
    if op.kind in ("sum", "mean"):
        return value.sum(0), whole
    wide = value if value.is_floating_point() else value.to(torch.int64)
    return sum((w * s for w, s in zip(weights.tolist(), wide, strict=True)), start=torch.zeros_like(wide[0])), whole


def step_weights(op: Any, steps: int) -> tuple[Tensor, int]:
    """What a spike is worth at each step of a window, to what writes or reads it.

    Args:
        op: an `Encode` of events, a `Decode` of spikes other than the last, or a `Collect`.
        steps: T, refused (E0330) where the code does not take as many.

    Returns:
        int64 [time], over one common denominator.
    """
    _check(op, steps)
    code, t = code_of(op), torch.arange(steps)
    if code == "bitplane":
        return 2 ** (steps - 1 - t), 2**steps - 1
    if code == "phase":
        return 2 ** (op.period - 1 - t % op.period), steps // op.period * (2**op.period - 1)
    if code == "ttfs":
        return steps - t, steps
    return torch.ones_like(t), 1 if code == "sum" else steps


def _check(op: Any, steps: int) -> None:
    if wrong := wrong_code(op, steps):
        raise refuse("E0330", wrong, supported="a number of time steps that all codes of the graph take")


def first_spike_values(fired: np.ndarray) -> np.ndarray:
    """What first spikes [samples, time, ...] stand for, in thresholds: (T - t)/T, float64 [samples, ...]."""
    weights, denominator = step_weights(Decode("ttfs"), fired.shape[1])
    values: np.ndarray = np.tensordot(np.moveaxis(fired, 1, -1), weights.numpy() / denominator, 1)
    return values


def collect(op: Any, value: Tensor, bias: Tensor) -> Tensor:
    """What a `Collect` presents: [time, batch, ...], the same at every step (an expanded tensor)."""
    steps = len(value)
    weights, denominator = step_weights(op, steps)
    total = torch.tensordot(weights.to(value) / denominator, value, 1) + bias
    return total.unsqueeze(0).expand(steps, *[-1] * total.ndim)


def first_spike_levels(value: Tensor, threshold: Tensor) -> Tensor:
    """n = clip(floor(z T / threshold + 1/2), 0, T) for z [batch, ...], what arrives at step 0."""
    steps = len(value)
    return torch.floor(value[0] * steps / threshold + 0.5).clamp(0, steps)


def first_spikes(value: Tensor, threshold: Tensor) -> Tensor:
    """Spikes uint8 [time, batch, ...] of a `FirstSpike` population.

    With a gradient, in the dtype of `value`: straight through to clip(z / threshold, 0, 1), as in `with_gradient`.
    """
    fired = first_spikes_at(first_spike_levels(value.detach(), threshold.detach()).to(torch.int64), len(value))
    if not (value.requires_grad or threshold.requires_grad):
        return fired
    through = first_spike_passed_through(value[0], threshold, len(value))
    return fired.to(value.dtype) + (through - through.detach())


def first_spike_passed_through(value: Tensor, threshold: Tensor, steps: int) -> Tensor:
    """What has the gradient of every step of `first_spikes`, for z [batch, ...]."""
    weights, whole = step_weights(Decode("ttfs"), steps)
    return (value / threshold).clamp(0.0, 1.0) * (whole / int(weights.sum()))
