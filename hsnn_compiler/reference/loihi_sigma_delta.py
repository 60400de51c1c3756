"""Sigma-delta neurons and delta encoders in integers, bit for bit as Lava's ``SigmaDelta`` and ``Delta``.

    sigma = sigma + a;   act' = relu(sigma + bias)          SigmaDelta
                         act' = a << (spike_exp + state_exp)  Delta
    delta = act' - act + residue;   act = act'
    fire where |delta| >= vth, or with cumulative error where |error = error + delta| >= vth
    sent = delta where it fires;   residue = delta - sent;   error = 0 where sent;   s = sent >> state_exp

vth and bias stand ``spike_exp + state_exp`` bits to the left. Every number is one of 32 bits that
wraps, and |-2^31| is -2^31: so numpy computes in Lava (``lava/proc/sdn/models.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hsnn_compiler.reference.loihi_neuron import int32


@dataclass(frozen=True)
class SigmaDeltaParameters:
    """Parameters of one population.

    Attributes:
        vth: threshold, already shifted.
        bias: already shifted, int64, broadcastable against [batch, ...].
        input_shift: bits by which a delta encoder shifts its input to the left.
        state_exp: bits by which what is sent is shifted to the right.
        activation: ``"relu"``, ``"unit"``, or ``"input"``: a delta encoder.
        cumulative: whether the error adds up until it is sent.
    """

    vth: int
    bias: Tensor
    input_shift: int
    state_exp: int
    activation: str
    cumulative: bool


class SigmaDeltaPopulation:
    """State of a batch of sigma-delta neurons or delta encoders, a `Population` with u = sigma, v = act.

    Args:
        parameters: of the population.
        shape: [batch, ...].
    """

    dtype = torch.int32

    def __init__(self, parameters: SigmaDeltaParameters, shape: tuple[int, ...]) -> None:
        self.p, self.shape = parameters, shape
        self.saturated = 0
        self.restart()

    def restart(self) -> None:
        """Everything is 0, as if nothing had been received or sent."""
        self.u, self.v, self.residue, self.error = (torch.zeros(self.shape, dtype=torch.int64) for _ in range(4))

    def step(self, a: Tensor) -> Tensor:
        """Payloads of one step."""
        delta = self._store(self._activation(a) - self.v + self.residue)
        # `v` is still the activation of the step before where it is subtracted above.
        self.v = self.act
        if self.p.cumulative:
            self.error = self._store(self.error + delta)
        compared = self.error if self.p.cumulative else delta
        sent = delta.masked_fill(int32(compared.abs()) < self.p.vth, 0)
        self.error = self.error.masked_fill(int32(sent.abs()) > 0, 0)
        self.residue = int32(delta - sent)
        return sent >> self.p.state_exp

    def _activation(self, a: Tensor) -> Tensor:
        if self.p.activation == "input":
            self.act = self._store(int32(a) << self.p.input_shift)
            return self.act
        self.u = self._store(self.u + int32(a))
        act = self._store(self.u + self.p.bias)
        self.act = act.clamp(min=0) if self.p.activation == "relu" else act
        return self.act

    def _store(self, x: Tensor) -> Tensor:
        stored = int32(x)
        self.saturated += int((stored != x).sum())
        return stored
