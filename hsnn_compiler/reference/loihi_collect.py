"""Windows in integers, bit for bit as our Lava processes ``Collector`` and ``FirstSpike``.

The equations are those of `CollectQuant` and `FirstSpikeQuant` (`hsnn_compiler.ir.quant`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from hsnn_compiler.ir.quant import STATE_SHIFT, CollectQuant
from hsnn_compiler.reference.codes import step_weights
from hsnn_compiler.reference.loihi_neuron import LIMIT, int32, wrap

HALF_UNIT = 1 << (STATE_SHIFT - 1)


def collect(code: str, quant: CollectQuant, current: Tensor) -> tuple[Tensor, int]:
    """What a `Collect` presents during its next window.

    Args:
        code: of the Collect.
        quant: its integers.
        current: what its synapses deliver during one window, integers [time, batch, ...].

    Returns:
        int32 [time, batch, ...] synaptic units, the same at every step (an expanded tensor), and how many
        neuron-steps saturated.
    """
    values, _ = step_weights(code, len(current))
    shape = current.shape[1:]
    acc = torch.from_numpy(quant.bias).to(torch.int64).broadcast_to(shape)
    saturated = 0
    for value, a in zip(values.tolist(), current, strict=True):
        total = acc + shifted(a.to(torch.int64) * value, quant.shift)
        acc = total.clamp(-LIMIT + 1, LIMIT - 1)
        saturated += int((acc != total).sum())
    out = ((acc + HALF_UNIT) >> STATE_SHIFT).to(torch.int32)
    return out.expand(len(current), *shape), saturated


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

    def step(self, a: Tensor) -> Tensor:
        """Spikes of one step; only the first looks at the synaptic input."""
        v = self.v + self.ramp
        if self.is_first:
            arriving = int32(a) << STATE_SHIFT
            current = wrap(arriving)
            self.saturated += int((current != arriving).sum())
            v = current + self.bias + (self.ramp >> 1)
            self.is_first = False
        clipped = v.clamp(-LIMIT + 1, LIMIT - 1)
        self.saturated += int((clipped != v).sum())
        fires = clipped >= self.threshold
        self.v = clipped.masked_fill(fires, -self.threshold)
        return fires
