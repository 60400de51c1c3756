"""Synaptic sums as matrix products and convolutions of PyTorch, over samples and steps at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hsnn_compiler.kernels.synapses import DenseSynapse, Synapse, largest_sum

FLOAT32_EXACT = 2**24
"""Integers up to here are exact in float32, also as partial sums."""
FLOAT64_EXACT = 2**53
HALF = 16
"""Bits of the lower part of payloads for which float64 would round."""
CONV_WRAP = 2**24
"""Loihi's convolutions are 24 bits wide."""


class DenseSums:
    """Currents of the synapses of a layer.

    Args:
        synapses: at least one.
        dtype: of the layer; int32 sums are exact, and finished as Loihi does.
    """

    def __init__(self, synapses: Sequence[Synapse], dtype: np.dtype) -> None:
        self.synapses = list(synapses)
        self.dtype = dtype
        self._reach = [largest_sum(synapse) if dtype.kind == "i" else 0 for synapse in self.synapses]
        self._weights: dict[tuple[int, torch.dtype], Tensor] = {}

    @torch.no_grad()
    def __call__(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Inputs [samples, time, n] to currents [samples, time, n], everything added up."""
        total: Tensor | None = None
        for index, array in enumerate(inputs):
            one = self._one(index, array)
            total = one if total is None else total.add_(one)
        assert total is not None
        samples, time = inputs[0].shape[:2]
        return total.reshape(samples, time, -1).numpy()

    def _one(self, index: int, array: np.ndarray) -> Tensor:
        """Current of one synapse, [samples * time, n]."""
        synapse = self.synapses[index]
        x = torch.from_numpy(array.reshape(-1, array.shape[2]))
        if self.dtype.kind == "f":
            return self._sums(index, x, torch.float32 if self.dtype == np.float32 else torch.float64)
        reach = self._reach[index]
        if array.dtype != np.uint8:
            reach *= max(abs(int(array.min(initial=0))), abs(int(array.max(initial=0))))
        if reach < FLOAT64_EXACT:
            total = self._sums(index, x, torch.float32 if reach < FLOAT32_EXACT else torch.float64)
        else:
            high, low = x >> HALF, x & (2**HALF - 1)
            parts = [self._sums(index, part, torch.float64).to(torch.int64) for part in (high, low)]
            total = (parts[0] << HALF) + parts[1]
        if not isinstance(synapse, DenseSynapse):
            if reach >= CONV_WRAP // 2:
                total = (total.to(torch.int64) + CONV_WRAP // 2) % CONV_WRAP - CONV_WRAP // 2
            return total.to(torch.int32)
        total = (total if reach < FLOAT32_EXACT else total.to(torch.int64)).to(torch.int32)
        if synapse.exponent > 0:
            return total << synapse.exponent
        return total >> -synapse.exponent if synapse.exponent else total

    def _sums(self, index: int, x: Tensor, dtype: torch.dtype) -> Tensor:
        synapse, weight = self.synapses[index], self._weight(index, dtype)
        x = x.to(dtype)
        if isinstance(synapse, DenseSynapse):
            return F.linear(x, weight)
        (top, bottom), (left, right) = synapse.padding
        x = x.reshape(-1, *synapse.input_shape).permute(0, 3, 1, 2)
        padding = (top, left)
        if (top, left) != (bottom, right):
            x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
        found = F.conv2d(x, weight, None, synapse.stride, padding, synapse.dilation, synapse.groups)
        return found.permute(0, 2, 3, 1).reshape(len(x), -1)

    def _weight(self, index: int, dtype: torch.dtype) -> Tensor:
        if (index, dtype) not in self._weights:
            weight = torch.from_numpy(np.ascontiguousarray(self.synapses[index].weight)).to(dtype)
            if weight.ndim == 4:
                weight = weight.contiguous(memory_format=torch.channels_last)
            self._weights[index, dtype] = weight
        return self._weights[index, dtype]
