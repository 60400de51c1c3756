"""Windows in integers, bit for bit as our Lava processes ``Collector`` and ``FirstSpike``.

The equations are those of `CollectQuant` and `FirstSpikeQuant` (`hsnn_compiler.ir.quant`).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor

from hsnn_compiler.ir.graph import Node
from hsnn_compiler.ir.quant import STATE_SHIFT, CollectQuant, WeightQuant
from hsnn_compiler.reference.codes import first_spikes_at, step_weights
from hsnn_compiler.reference.loihi_neuron import LIMIT, int32, wrap
from hsnn_compiler.reference.loihi_synapse import IntegerSynapse

SUM_BITS = 32
HALF_UNIT = 1 << (STATE_SHIFT - 1)


def collect(op: Any, quant: CollectQuant, current: Tensor) -> tuple[Tensor, int]:
    """What a `Collect` presents during its next window.

    Args:
        op: the Collect.
        quant: its integers.
        current: what its synapses deliver during one window, integers [time, batch, ...].

    Returns:
        int32 [time, batch, ...] synaptic units, the same at every step (an expanded tensor), and how many
        neuron-steps saturated.
    """
    values, _ = step_weights(op, len(current))
    shape = current.shape[1:]
    acc = torch.from_numpy(quant.bias).to(torch.int64).broadcast_to(shape)
    saturated = 0
    for value, a in zip(values.tolist(), current, strict=True):
        total = acc + shifted(a.to(torch.int64) * value, quant.shift)
        acc = total.clamp(-LIMIT + 1, LIMIT - 1)
        saturated += int((acc != total).sum())
    out = ((acc + HALF_UNIT) >> STATE_SHIFT).to(torch.int32)
    return out.expand(len(current), *shape), saturated


class WholeWindow:
    """The synapses into a Collect, applied once to the sum of a window, which is the same where nothing can saturate.

    Args:
        node: the Collect.
        synapses: every op that feeds it.
        timesteps: of a window.
    """

    def __init__(self, node: Node, synapses: Sequence[Node], timesteps: int) -> None:
        assert isinstance(node.quant, CollectQuant)
        self.quant = node.quant
        self.values = step_weights(node.op, timesteps)[0].to(torch.float32)
        self.parts = [_Both(synapse) for synapse in synapses]

    def present(self, sources: Sequence[Tensor]) -> Tensor | None:
        """What the Collect presents, or None where a step may leave its range.

        Args:
            sources: what feeds the synapses, integers [time, batch, ...].
        """
        sums = [
            torch.tensordot(self.values, part.events(value).to(torch.float32), 1).to(torch.int32)
            for part, value in zip(self.parts, sources, strict=True)
        ]
        bias = torch.from_numpy(self.quant.bias).to(torch.int64)
        reach = sum((part.reach(x) for part, x in zip(self.parts, sums, strict=True)), start=torch.zeros(()))
        if bool((reach * 2.0**-self.quant.shift + bias.abs() >= LIMIT).any()):
            return None
        total = sum((part.synapse.sums(x) for part, x in zip(self.parts, sums, strict=True)), start=torch.zeros(()))
        acc = (total.to(torch.int64) << -self.quant.shift) + bias
        return ((acc + HALF_UNIT) >> STATE_SHIFT).to(torch.int32).expand(len(self.values), *acc.shape)


def is_whole(node: Node, synapses: Sequence[Node]) -> bool:
    """Whether `WholeWindow` can do a Collect: no step is rounded, no synapse shifts."""
    assert isinstance(node.quant, CollectQuant)
    plain = all(isinstance(s.quant, WeightQuant) and not s.quant.exponent for s in synapses)
    return node.quant.shift <= 0 and plain


class _Both:
    """A synapse op on sums of events, and what its weights' magnitudes would make of them."""

    def __init__(self, node: Node) -> None:
        quant = node.quant
        assert isinstance(quant, WeightQuant)
        self.is_binary = not quant.message_bits
        self.synapse = IntegerSynapse(quant.integers, node.op, 0, quant.bits, SUM_BITS)
        self.absolute = copy(self.synapse)
        self.absolute.weight, self.absolute.wide = self.synapse.weight.abs(), self.synapse.wide.abs()

    def events(self, value: Tensor) -> Tensor:
        """What arrives in each step: whatever is not 0 is one spike, or payloads."""
        return (value != 0) if self.is_binary else value

    def reach(self, sums: Tensor) -> Tensor:
        """Largest magnitude that any partial sum of the window can have."""
        return self.absolute.sums(sums.abs()).to(torch.float64)


def shifted(x: Tensor, shift: int) -> Tensor:
    """x / 2^shift, halves rounded up; exact for shifts below 1."""
    return x << -shift if shift <= 0 else (x + (1 << (shift - 1))) >> shift


class FirstSpikes:
    """State of a batch of a `FirstSpike` population, a `Population` without a synaptic current.

    Args:
        ramp: of its `FirstSpikeQuant`.
        bias: ``bias_mant << bias_exp``, int64, broadcastable against [batch, ...].
        steps: T.
        shape: [batch, ...].
    """

    dtype = torch.int8

    def __init__(self, ramp: int, bias: Tensor, steps: int, shape: tuple[int, ...]) -> None:
        self.ramp, self.bias, self.threshold, self.shape = ramp, bias, ramp * steps, shape
        self.saturated = 0
        self.restart()

    def restart(self) -> None:
        """The next step is the first of a sample."""
        self.is_first = True
        self.u = self.v = torch.zeros(self.shape, dtype=torch.int64)

    def window(self, current: Tensor) -> Tensor:
        """Spikes int8 of a whole sample, without its steps: `current` is [time, batch, ...]."""
        n = (self._start(current[0]) // self.ramp).clamp(0, len(current))
        return first_spikes_at(n, len(current)).view(torch.int8)

    def _start(self, a: Tensor) -> Tensor:
        """The potential of a sample's first step."""
        arriving = int32(a) << STATE_SHIFT
        current = wrap(arriving)
        v = current + self.bias + (self.ramp >> 1)
        clipped = v.clamp(-LIMIT + 1, LIMIT - 1)
        self.saturated += int((current != arriving).sum()) + int((clipped != v).sum())
        return clipped

    def step(self, a: Tensor) -> Tensor:
        """Spikes of one step; only the first looks at the synaptic input."""
        clipped = self._start(a) if self.is_first else self.v + self.ramp  # which is below the threshold
        self.is_first = False
        fires = clipped >= self.threshold
        self.v = clipped.masked_fill(fires, -self.threshold)
        return fires
