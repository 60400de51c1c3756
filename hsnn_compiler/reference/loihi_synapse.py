"""Integer synapses, bit for bit as Lava's ``fixed_pt`` Dense, Sparse and Conv compute them.

All deliver what they computed in the step before; that one step is in the edges or the schedule, so
here time is aligned: the currents of a step follow from its spikes. Dense and Sparse are the same
arithmetic. Numbers have 32 bits and wrap (a convolution's 24).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hsnn_compiler.ir.shapes import conv_padding

FLOAT32_EXACT = 2**24  # integers up to here are exact in float32, also as partial sums
FLOAT64_EXACT = 2**53
CONV_WRAP = 2**24
HALF = 16  # bits of the lower part of a payload, where even float64 would round


class IntegerSynapse:
    """Integer dot products or convolutions, batched, exact.

    Args:
        weight: integers, [out, in] or [out, in/groups, kernel...]. Those of a dense op become what
            Lava's Dense makes of them, see `lava_dense_weights`; the compiler gives none that this changes.
        op: the NIR op, for stride, padding, dilation and groups of a convolution.
        exponent: power of two on the accumulated sum of a dense op (a negative one floors, as a
            right shift does). Convolutions ignore it in Lava, so it must be 0 there.
        bits: weight precision of a dense op. Convolutions ignore it in Lava.
        message_bits: 0: whatever is not 0 counts as one spike; else payloads are multiplied.
    """

    def __init__(
        self, weight: np.ndarray, op: Any = None, exponent: int = 0, bits: int = 8, message_bits: int = 0
    ) -> None:
        self.exponent, self.message_bits = exponent, message_bits
        self.is_conv = weight.ndim > 2
        if not self.is_conv:
            weight = lava_dense_weights(weight, bits)
        # What a sum can reach for inputs of 0 and 1; it says which arithmetic is exact.
        self.reach = int(np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(1).max(initial=0))
        self.dtype = torch.float32 if self.reach < FLOAT32_EXACT else torch.float64
        self.weight = torch.from_numpy(np.ascontiguousarray(weight)).to(self.dtype)
        self.wide = self.weight.to(torch.float64) if message_bits else self.weight
        if self.is_conv:
            self.function = F.conv1d if weight.ndim == 3 else F.conv2d
            self.stride, self.dilation = _ints(op.stride), _ints(op.dilation)
            self.groups = int(op.groups)
            self.sides = [side for both in reversed(conv_padding(op)) for side in both]

    def __call__(self, spikes: Tensor) -> Tensor:
        """Spikes or payloads [n, ...], integers (int8 for 0 and 1 only), to integer currents [n, ...], int32."""
        if self.message_bits:
            total = self.sums(spikes)
        else:
            binary = spikes if spikes.dtype == torch.int8 else spikes != 0  # int8: of a population, 0 or 1
            total = self._sum(binary.to(self.dtype), self.weight)
        if self.is_conv:
            return ((total + CONV_WRAP // 2) % CONV_WRAP - CONV_WRAP // 2).to(torch.int32)
        total = total.to(torch.int32)
        if self.exponent > 0:
            return total << self.exponent
        return total >> -self.exponent if self.exponent else total

    def sums(self, payloads: Tensor) -> Tensor:
        """Exact sums of weights times payloads, int64, before they wrap or are shifted."""
        reach = self.reach * max(abs(int(payloads.min())), abs(int(payloads.max())), 1)
        if reach < FLOAT32_EXACT:
            return self._sum(payloads.to(self.dtype), self.weight)
        if reach < FLOAT64_EXACT:
            return self._sum(payloads.to(torch.float64), self.wide)
        high, low = payloads >> HALF, payloads & (2**HALF - 1)
        parts = [self._sum(part.to(torch.float64), self.wide) for part in (high, low)]
        return (parts[0] << HALF) + parts[1]

    def _sum(self, x: Tensor, weight: Tensor) -> Tensor:
        if not self.is_conv:
            return F.linear(x, weight).to(torch.int64)
        if any(self.sides):
            x = F.pad(x, self.sides)
        out = self.function(x, weight, None, self.stride, 0, self.dilation, self.groups)  # type: ignore[operator]
        return out.to(torch.int64)


def lava_dense_weights(weight: np.ndarray, num_weight_bits: int = 8) -> np.ndarray:
    """What Lava's Dense makes of given weights: sign mode from the data, clipped, low bits cut off.

    Follows ``lava.utils.weightutils``: [3, -3, 255, -257] becomes [2, -4, 254, -256].
    """
    weight = weight.astype(np.int64)
    mixed = bool(weight.min(initial=0) < 0 < weight.max(initial=0))
    inhibitory = not mixed and weight.min(initial=0) < 0
    magnitude = -weight if inhibitory else weight
    magnitude = np.clip(magnitude, -256 if mixed else 0, 255)
    cut = 8 - num_weight_bits + mixed
    magnitude = (magnitude >> cut) << cut
    return (-magnitude if inhibitory else magnitude).astype(np.int32)


def _ints(value: Any) -> tuple[int, ...]:
    return tuple(np.atleast_1d(np.asarray(value)).astype(int).tolist())
