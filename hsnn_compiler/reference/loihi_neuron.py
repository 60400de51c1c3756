"""The integer neuron, bit for bit as Lava's ``fixed_pt`` LIF models and our soft-reset one.

u = sgn(u) * (|u| * (4096 - (du + 1)) >> 12) + (a << 6),  wrapped once into (-2^23, 2^23]
v = clip(sgn(v) * (|v| * (4096 - dv) >> 12) + u + (bias_mant << bias_exp), +-(2^23 - 1))
s = v > (vth << 6);   v[s] = 0   or   v[s] -= taken, as a rule vth << 6

Neurons that fire up to N times in a step send how often, a graded spike: n = clip((v - 1) // (vth << 6), 0, N), the
largest n for which v > n (vth << 6) (for v of at least 1; else none); v -= n (vth << 6).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hsnn_compiler.ir.quant import STATE_SHIFT

LIMIT = 2**23
UNITY, DECAY_SHIFT = 4096, 12


@dataclass(frozen=True)
class NeuronParameters:
    """Parameters of one population, as Lava's processes take them.

    Attributes:
        du, dv: one per population, or int64 per neuron, broadcastable against [batch, ...].
        vth: one per population.
        bias: ``bias_mant << bias_exp``, int64, broadcastable against [batch, ...].
        v_init: membrane potential at the start of a sample, int64, broadcastable against [batch, ...].
        reset: ``"zero"`` or ``"subtract"``.
        spikes: whether it puts out spikes, or else its potential.
        taken: what the reset subtracts, one or int64 per neuron; None: ``vth << 6``.
        max_spikes: most spikes of one step; above 1, `reset` is ``"subtract"``, `taken` None and `vth` above 0.
    """

    du: Tensor | int
    dv: Tensor | int
    vth: int
    bias: Tensor
    v_init: Tensor | int = 0
    reset: str = "zero"
    spikes: bool = True
    taken: Tensor | int | None = None
    max_spikes: int = 1


class Population(Protocol):
    """State of a batch of one population.

    Attributes:
        u, v: recorded state after the last step, int64 [batch, ...].
        saturated: neuron-steps so far in which a number left its format.
        dtype: of what `step` returns.
    """

    u: Tensor
    v: Tensor
    saturated: int
    dtype: torch.dtype

    def restart(self) -> None:
        """Return to the start state."""

    def step(self, a: Tensor) -> Tensor:
        """One step on synaptic input `a` [batch, ...], integers; returns what the population puts out."""


class Lif:
    """A population of LIF neurons (see `Population`).

    Args:
        parameters: of the population.
        shape: [batch, ...].
    """

    def __init__(self, parameters: NeuronParameters, shape: tuple[int, ...]) -> None:
        self.p, self.shape = parameters, shape
        self.threshold = parameters.vth << STATE_SHIFT
        self.taken = self.threshold if parameters.taken is None else parameters.taken
        self.forgets, self.holds = _all(parameters.du, UNITY - 1), _all(parameters.dv, 0)
        self.counts = parameters.spikes and parameters.max_spikes > 1
        self.dtype = torch.int8 if parameters.spikes and not self.counts else torch.int32
        self.saturated = 0
        self.restart()

    def restart(self) -> None:
        """u = 0, v = v_init."""
        self.u = torch.zeros(self.shape, dtype=torch.int64)
        self.v = torch.as_tensor(self.p.v_init).to(torch.int64).expand(self.shape)

    def step(self, a: Tensor) -> Tensor:
        """Spikes of one step, or how often each neuron fires, or the potential of neurons that do not spike."""
        p = self.p
        arriving = int32(a) << STATE_SHIFT
        total = int32(arriving if self.forgets else decay(self.u, UNITY - (p.du + 1)) + arriving)
        self.u = wrap(total)
        self.saturated += int((self.u != total).sum())
        v = (self.v if self.holds else decay(self.v, UNITY - p.dv)) + self.u + p.bias
        clipped = v.clamp(-LIMIT + 1, LIMIT - 1)
        self.saturated += int((clipped != v).sum())
        if self.counts:
            n = ((clipped - 1) // self.threshold).clamp_(0, p.max_spikes)
            self.v = clipped - n * self.threshold
            return n
        s = clipped > self.threshold
        self.v = clipped - s * self.taken if p.reset == "subtract" else clipped.masked_fill(s, 0)
        return s if p.spikes else self.v


@dataclass
class Scan:
    """Result of a scan.

    Attributes:
        output: what the population put out, [time, batch, ...]: int8 spikes, or int32.
        states: the kept ones, int32 [time, batch, ...].
    """

    output: Tensor
    states: dict[str, Tensor]


def scan(population: Population, current: Tensor, keep: Collection[str] = (), restarts: Collection[int] = ()) -> Scan:
    """Run a population on synaptic input `current`, integers [time, batch, ...].

    Args:
        population: goes on from the state it is in.
        current: one window of time steps.
        keep: ``u``, ``v``: states to return.
        restarts: steps of the window, counted from 0, before which it returns to its start state.
    """
    output = torch.empty(current.shape, dtype=population.dtype)
    states = {name: torch.empty(current.shape, dtype=torch.int32) for name in keep if name in ("u", "v")}
    for t, a in enumerate(current):
        if t in restarts:
            population.restart()
        output[t] = population.step(a)
        for name, state in states.items():
            state[t] = getattr(population, name)
    return Scan(output, states)


def _all(parameter: Tensor | int, value: int) -> bool:
    return bool((torch.as_tensor(parameter) == value).all())


def decay(x: Tensor, factor: Tensor | int) -> Tensor:
    """``sgn(x) * (|x| * factor >> 12)``: shrink towards zero."""
    return x.sign() * ((x.abs() * factor) >> DECAY_SHIFT)


def wrap(u: Tensor) -> Tensor:
    """Wrap once, as Lava does: above 2^23 subtract 2^24, at or below -2^23 add 2^24 to what was there."""
    low = torch.where(u > LIMIT, u - 2 * LIMIT, u)
    return torch.where(low <= -LIMIT, u + 2 * LIMIT, low)


def int32(x: Tensor) -> Tensor:
    """What is left of a number that Lava stores in 32 bits, int64."""
    return x.to(torch.int32).to(torch.int64)
