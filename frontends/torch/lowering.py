"""From the arguments of a layer to its op, once for modules and functions alike."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import torch

from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.registry import Unsupported
from hsnn_compiler.frontends.torch.tracer import Shape
from hsnn_compiler.ir.ops import BatchNorm, LayerNorm, MaxPool2d, Softmax
from hsnn_compiler.ir.shapes import pair

Tensor = torch.Tensor


def need_rank(call: Call, x: Tensor, *ranks: int) -> Shape:
    """Shape of one sample; refused unless it has one of these ranks."""
    shape = call.shape(x)
    if len(shape) not in ranks:
        raise Unsupported(
            f"an input of shape [batch, {', '.join(map(str, shape))}] to this layer",
            f"inputs with {' or '.join(str(rank + 1) for rank in ranks)} axes, the first being the batch",
        )
    return shape


def linear(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None) -> str:
    """``x W^T + b`` over the last axis."""
    need_rank(call, x, *range(1, 8))
    if bias is None:
        return call.emit(nir.Linear(call.array(weight)), x)
    return call.emit(nir.Affine(call.array(weight), call.array(bias)), x)


def conv(
    call: Call,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> str:
    """A convolution over the last one or two axes; NIR wants a bias, so there is one, of zeros if need be."""
    dims = weight.dim() - 2
    shape = need_rank(call, x, dims + 1)
    array = call.array(weight)
    offset = np.zeros(array.shape[0], np.float32) if bias is None else call.array(bias)
    if dims == 1:
        single = [v if isinstance(v, str) else int(np.ravel(v)[0]) for v in (stride, padding, dilation)]
        op: Any = nir.Conv1d(shape[1], array, single[0], single[1], single[2], int(groups), offset)
    else:
        where = padding if isinstance(padding, str) else pair(padding)
        op = nir.Conv2d((shape[1], shape[2]), array, pair(stride), where, pair(dilation), int(groups), offset)
    return call.emit(op, x)


def batch_norm(
    call: Call,
    x: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> str:
    """Normalisation with running statistics over axis 0 of a sample."""
    shape = need_rank(call, x, *range(1, 8))
    if mean is None or var is None:
        raise Unsupported(
            "batch normalisation without running statistics depends on the other samples of the batch",
            "BatchNorm with track_running_stats=True",
            "train with running statistics, or use LayerNorm",
        )
    ones, zeros = np.ones(shape[0], np.float32), np.zeros(shape[0], np.float32)
    op = BatchNorm(
        weight=ones if weight is None else call.array(weight),
        bias=zeros if bias is None else call.array(bias),
        mean=call.array(mean),
        var=call.array(var),
        eps=float(eps),
    )
    return call.emit(op, x)


def layer_norm(call: Call, x: Tensor, over: Any, weight: Tensor | None, bias: Tensor | None, eps: float) -> str:
    """Normalisation over the last axes."""
    over = (over,) if isinstance(over, int) else tuple(over)
    if len(over) > len(call.shape(x)):
        raise Unsupported("layer normalisation over the batch axis", "normalisation within one sample")
    ones, zeros = np.ones(over, np.float32), np.zeros(over, np.float32)
    op = LayerNorm(
        weight=ones if weight is None else call.array(weight),
        bias=zeros if bias is None else call.array(bias),
        eps=float(eps),
    )
    return call.emit(op, x)


def softmax(call: Call, x: Tensor, dim: int | None, log: bool) -> str:
    """Softmax over one axis that is not the batch."""
    if dim is None:
        dim = 0 if len(call.shape(x)) + call.axes_of(x).count in (1, 3) else 1  # what torch does, with a warning
    return call.emit(Softmax(axis=sample_axis(call, x, dim), log=log), x)


def max_pool(
    call: Call,
    x: Tensor,
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    indices: bool,
) -> str:
    """Largest value of each window."""
    need_rank(call, x, 3)
    if pair(dilation) != (1, 1) or indices:
        raise Unsupported("max pooling with dilation or return_indices", "MaxPool2d with neither")
    no_ceil(call, x, kernel, stride, padding, ceil_mode)
    return call.emit(MaxPool2d(pair(kernel), pair(kernel if _unset(stride) else stride), pair(padding)), x)


def avg_pool(
    call: Call,
    x: Tensor,
    kernel: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_pad: bool,
    divisor: Any,
) -> str:
    """Mean of each window; padding counts as zeros."""
    need_rank(call, x, 3)
    no_ceil(call, x, kernel, stride, padding, ceil_mode)
    if not count_pad and pair(padding) != (0, 0):
        raise Unsupported("average pooling with count_include_pad=False", "count_include_pad=True, or no padding")
    if divisor is not None:
        raise Unsupported("average pooling with divisor_override", "the mean of each window")
    return _avg_pool(call, x, pair(kernel), pair(kernel if _unset(stride) else stride), pair(padding))


def adaptive_avg_pool(call: Call, x: Tensor, size: Any) -> str:
    """Average pooling to a given size, where that means equal windows, or one pixel that becomes many."""
    shape = need_rank(call, x, 3)
    wanted = (size, size) if isinstance(size, int) or size is None else tuple(size)
    out = tuple(n if w is None else int(w) for n, w in zip(shape[1:], wanted, strict=True))
    if shape[1:] == (1, 1):
        return _spread_pixel(call, x, out)
    if any(n % w for n, w in zip(shape[1:], out, strict=True)):
        raise Unsupported(
            f"adaptive average pooling from {list(shape[1:])} to {list(out)} has windows of different sizes",
            "output sizes that divide the input size",
            f"choose a size that divides {list(shape[1:])}, such as 1",
        )
    kernel = (shape[1] // out[0], shape[2] // out[1])
    return _avg_pool(call, x, kernel, kernel, (0, 0))


def _spread_pixel(call: Call, x: Tensor, out: tuple[int, ...]) -> str:
    """The one pixel of each channel, at every place of `out`: all ones, convolved with it alone between zeros."""
    channels = call.shape(x)[0]
    weight, bias = np.ones((channels, 1, *out), np.float32), np.zeros(channels, np.float32)
    padding = (out[0] - 1, out[1] - 1)
    return call.emit(nir.Conv2d((1, 1), weight, 1, padding, 1, channels, bias), x)


def sample_axis(call: Call, x: Tensor, dim: int) -> int:
    """An axis of a tensor as an axis of one sample."""
    leading = call.axes_of(x).count
    axis = int(dim) % (leading + len(call.shape(x))) - leading
    if axis < 0:
        raise Unsupported("an operation along the batch axis", "operations within one sample (axis 1 and up)")
    return axis


def _avg_pool(call: Call, x: Tensor, *sizes: tuple[int, int]) -> str:
    return call.emit(nir.AvgPool2d(*(np.array(size, np.int64) for size in sizes)), x)


def _unset(stride: Any) -> bool:
    return stride is None or stride == []


def no_ceil(call: Call, x: Tensor, kernel: Any, stride: Any, padding: Any, ceil_mode: bool) -> None:
    """``ceil_mode`` is fine where it makes no difference."""
    if not ceil_mode:
        return
    sizes = zip(
        call.shape(x)[1:],
        pair(kernel),
        pair(kernel if _unset(stride) else stride),
        pair(padding),
        strict=True,
    )
    if any((n + 2 * p - k) % s for n, k, s, p in sizes):
        raise Unsupported("pooling with ceil_mode=True", "ceil_mode=False", "pad the input, or choose sizes that fit")
