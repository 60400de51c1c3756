"""Integer synapses, bit for bit as Lava's ``fixed_pt`` Dense and Conv compute them.

Both deliver what they computed in the step before; the executors account for that one step
in the schedule, so here time is aligned: the currents of a step follow from its spikes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hsnn_compiler.ir.shapes import conv_padding

FLOAT32_EXACT = 2**24  # integers up to here are exact in float32, also as partial sums
CONV_WRAP = 2**24


class IntegerSynapse:
    """Integer dot products or convolutions of binary spikes, batched, exact.

    Args:
        weight: integers, [out, in] or [out, in/groups, kernel...]. Those of a dense op become what
            Lava's Dense makes of them, see `lava_dense_weights`; the compiler gives none that this changes.
        op: the NIR op, for stride, padding, dilation and groups of a convolution.
        exponent: power of two on the accumulated sum of a dense op (a negative one floors, as a
            right shift does). Convolutions ignore it in Lava, so it must be 0 there.
        bits: weight precision of a dense op. Convolutions ignore it in Lava.
    """

    def __init__(self, weight: np.ndarray, op: Any = None, exponent: int = 0, bits: int = 8) -> None:
        self.exponent = exponent
        self.is_conv = weight.ndim > 2
        if not self.is_conv:
            weight = lava_dense_weights(weight, bits)
        # float32 kernels are the fast ones; they are exact as long as no partial sum can leave 24 bits.
        largest = int(np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(1).max(initial=0))
        self.dtype = torch.float32 if largest < FLOAT32_EXACT else torch.float64
        self.weight = torch.from_numpy(np.ascontiguousarray(weight)).to(self.dtype)
        if self.is_conv:
            self.function = F.conv1d if weight.ndim == 3 else F.conv2d
            self.stride, self.dilation = _ints(op.stride), _ints(op.dilation)
            self.groups = int(op.groups)
            self.sides = [side for both in reversed(conv_padding(op)) for side in both]

    def __call__(self, spikes: Tensor) -> Tensor:
        """Spikes [n, ...], 0 or 1, to integer currents [n, ...], int64."""
        x = spikes.to(self.dtype)
        if self.is_conv:
            if any(self.sides):
                x = F.pad(x, self.sides)
            total = self.function(x, self.weight, None, self.stride, 0, self.dilation, self.groups).to(torch.int64)
            return (total + CONV_WRAP // 2) % CONV_WRAP - CONV_WRAP // 2
        total = F.linear(x, self.weight).to(torch.int64)
        if self.exponent > 0:
            return total << self.exponent
        return total >> -self.exponent if self.exponent else total


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
