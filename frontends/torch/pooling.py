"""Average pooling of series, and adaptive pooling that changes nothing."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import torch

from hsnn_compiler.frontends.torch import lowering
from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.registry import Unsupported

Tensor = torch.Tensor


def avg_pool1d(call: Call, x: Tensor, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, count_pad: bool) -> str:
    """Mean of each window of a series: a convolution of each channel with itself alone, all weights 1 / kernel."""
    channels, length = lowering.need_rank(call, x, 2)
    size, pad = int(np.ravel(kernel)[0]), int(np.ravel(padding)[0])
    step = size if stride is None or stride in ([], ()) else int(np.ravel(stride)[0])
    if (ceil_mode and (length + 2 * pad - size) % step) or (pad and not count_pad):
        raise Unsupported("pooling with ceil_mode=True or count_include_pad=False", "neither, or sizes that fit")
    weight = np.full((channels, 1, size), 1 / size, np.float32)
    return call.emit(nir.Conv1d(length, weight, step, pad, 1, channels, np.zeros(channels, np.float32)), x)


def adaptive_avg_pool1d(call: Call, x: Tensor, size: Any) -> str:
    """The same to a given length, where that means equal windows."""
    length, wanted = lowering.need_rank(call, x, 2)[1], int(np.ravel(size)[0])
    if length % wanted:
        raise Unsupported(
            f"adaptive average pooling from {length} to {wanted} has windows of different sizes",
            "output sizes that divide the input size",
        )
    return avg_pool1d(call, x, length // wanted, None, 0, False, True)


def adaptive_avg_pool2d(call: Call, x: Tensor, size: Any) -> str:
    """Average pooling of an image to a given size; no node if it has that size."""
    return call.node(x) if call.out.shape == x.shape else lowering.adaptive_avg_pool(call, x, size)
