"""Codes in which the step of a spike counts, as whole-window functions used by every executor.

The equations of the codes are in `hsnn_compiler.ir.ops` (`Encode`, `Collect`, `FirstSpike`). Signals are
[time, batch, ...]; levels are integers, so that all executors send the same spikes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

WINDOW_OPS = ("Collect", "FirstSpike")
"""Ops of which a step depends on other steps of the sample."""

MOST_BITPLANES = 16
"""Steps of the bitplane code: a level is held in so many bits."""


def level_count(kind: str, steps: int) -> int:
    """The largest level of an event code: the number of values above zero that it tells apart."""
    return 2**steps - 1 if kind == "bitplane" else steps


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
    if op.doubled:
        u = torch.cat([u, -u], 1)
    return torch.round(u.clamp(0.0, 1.0) * level_count(op.kind, steps)).to(torch.int64), clipped


def spikes(kind: str, level: Tensor, steps: int) -> Tensor:
    """Spike trains of integer levels: uint8 [time, *level.shape]."""
    out = torch.empty((steps, *level.shape), dtype=torch.uint8)
    for t in range(steps):
        if kind == "bitplane":
            out[t] = (level >> (steps - 1 - t)) & 1
        elif kind == "rate":
            out[t] = (t + 1) * level // steps > t * level // steps
        elif kind == "ttfs":
            out[t] = (level == steps - t) & (level > 0)
        else:  # delta
            out[t] = level > t
    return out


def encode(op: Any, value: Tensor, steps: int) -> tuple[Tensor, int]:
    """Spikes uint8 [time, batch, ...] of an `Encode` of events, and how many values were clipped; see `levels`."""
    level, clipped = levels(op, value, steps)
    return spikes(op.kind, level, steps), clipped


def step_weights(code: str, steps: int) -> tuple[Tensor, int]:
    """What a spike is worth at each step, as int64 [time] over one common denominator."""
    t = torch.arange(steps)
    if code == "bitplane":
        return 2 ** (steps - 1 - t), 2**steps - 1
    if code == "ttfs":
        return steps - t, steps
    return torch.ones_like(t), steps


def first_spike_values(fired: np.ndarray) -> np.ndarray:
    """What first spikes [samples, time, ...] stand for, in thresholds: (T - t)/T, float64 [samples, ...]."""
    weights, denominator = step_weights("ttfs", fired.shape[1])
    values: np.ndarray = np.tensordot(np.moveaxis(fired, 1, -1), weights.numpy() / denominator, 1)
    return values


def collect(code: str, value: Tensor, bias: Tensor) -> Tensor:
    """What a `Collect` presents: [time, batch, ...], the same at every step (an expanded tensor)."""
    steps = len(value)
    weights, denominator = step_weights(code, steps)
    total = torch.tensordot(weights.to(value.dtype) / denominator, value, 1) + bias
    return total.unsqueeze(0).expand(steps, *[-1] * total.ndim)


def first_spike_levels(value: Tensor, threshold: Tensor) -> Tensor:
    """n = clip(floor(z T / threshold + 1/2), 0, T) for z [batch, ...], what arrives at step 0."""
    steps = len(value)
    return torch.floor(value[0] * steps / threshold + 0.5).clamp(0, steps)


def first_spikes(value: Tensor, threshold: Tensor) -> Tensor:
    """Spikes uint8 [time, batch, ...] of a `FirstSpike` population."""
    return spikes("ttfs", first_spike_levels(value, threshold).to(torch.int64), len(value))
