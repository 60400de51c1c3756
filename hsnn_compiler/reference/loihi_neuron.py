"""The integer neuron, bit for bit as Lava's ``fixed_pt`` LIF models and our soft-reset one.

u = sgn(u) * (|u| * (4096 - (du + 1)) >> 12) + (a << 6),  wrapped once into (-2^23, 2^23]
v = clip(sgn(v) * (|v| * (4096 - dv) >> 12) + u + (bias_mant << bias_exp), +-(2^23 - 1))
s = v > (vth << 6);   v[s] = 0   or   v[s] -= vth << 6
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hsnn_compiler.ir.quant import STATE_SHIFT

LIMIT = 2**23
UNITY, DECAY_SHIFT = 4096, 12
INT32_SAFE = 2**24


@dataclass(frozen=True)
class NeuronParameters:
    """Parameters of one population, as Lava's processes take them.

    Attributes:
        du, dv, vth: one per population.
        bias: ``bias_mant << bias_exp``, int64, broadcastable against [batch, ...].
        v_init: membrane potential at the start of a sample.
        reset: ``"zero"`` or ``"subtract"``.
    """

    du: int
    dv: int
    vth: int
    bias: Tensor
    v_init: int = 0
    reset: str = "zero"


@dataclass
class Scan:
    """Result of a scan.

    Attributes:
        spikes: [time, batch, ...], int8.
        states: the kept ones, [time, batch, ...], int64.
        v: membrane potential after the last step.
        saturated: neuron-steps in which u wrapped or v saturated.
    """

    spikes: Tensor
    states: dict[str, Tensor]
    v: Tensor
    saturated: int


def scan(p: NeuronParameters, current: Tensor, keep: frozenset[str] = frozenset()) -> Scan:
    """Run one window of time steps on synaptic input `current`, int64 [time, batch, ...]."""
    u = torch.zeros_like(current[0])
    v = torch.full_like(current[0], p.v_init)
    threshold = p.vth << STATE_SHIFT
    spikes = torch.empty(current.shape, dtype=torch.int8)
    states = {name: torch.empty_like(current) for name in keep & {"u", "v"}}
    forgets, holds = p.du + 1 == UNITY, p.dv == 0
    saturated = 0
    for t, a in enumerate(current):
        arriving = int32(a) << STATE_SHIFT
        total = int32(arriving if forgets else decay(u, UNITY - (p.du + 1)) + arriving)
        u = wrap(total)
        saturated += int((u != total).sum())
        v = (v if holds else decay(v, UNITY - p.dv)) + u + p.bias
        clipped = v.clamp(-LIMIT + 1, LIMIT - 1)
        saturated += int((clipped != v).sum())
        s = clipped > threshold
        v = clipped - s * threshold if p.reset == "subtract" else clipped.masked_fill(s, 0)
        spikes[t] = s
        for name, state in states.items():
            state[t] = u if name == "u" else v
    return Scan(spikes, states, v, saturated)


def decay(x: Tensor, factor: int) -> Tensor:
    """``sgn(x) * (|x| * factor >> 12)``: shrink towards zero."""
    return x.sign() * ((x.abs() * factor) >> DECAY_SHIFT)


def wrap(u: Tensor) -> Tensor:
    """Wrap once, as Lava does: above 2^23 subtract 2^24, at or below -2^23 add 2^24 to what was there."""
    low = torch.where(u > LIMIT, u - 2 * LIMIT, u)
    return torch.where(low <= -LIMIT, u + 2 * LIMIT, low)


def int32(x: Tensor) -> Tensor:
    """What is left of a number that Lava stores in 32 bits."""
    return x.to(torch.int32).to(torch.int64)
