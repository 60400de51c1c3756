"""Pooling in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hsnn_compiler.backends.host.aten_shapes import transposed
from hsnn_compiler.backends.host.table import emits
from hsnn_compiler.backends.host.tracing import Arg, Trace

Sizes = Sequence[int] | int


def _each(sizes: Sizes, dims: int, otherwise: Sizes = ()) -> list[int]:
    given = [sizes] if isinstance(sizes, int) else list(sizes)
    given = given or ([otherwise] if isinstance(otherwise, int) else list(otherwise))
    return given * dims if len(given) == 1 else given


def _with_channels(t: Trace, x: Tensor, dims: int) -> Arg:
    """[batch, channels, ...]: what has no channels gets one."""
    if x.dim() == dims + 2:
        return x
    return t.reshape(x, [x.shape[0], 1, *x.shape[1:]])


def _sides(x: Tensor, out: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int],
           dilation: Sequence[int]) -> list[int]:  # fmt: skip
    """Padding before every axis, then after: so much that as many windows fit in as the result has."""
    dims = len(kernel)
    after = []
    for size, windows, k, s, p, d in zip(
        x.shape[-dims:], out.shape[-dims:], kernel, stride, padding, dilation, strict=True
    ):
        after.append(max((windows - 1) * s + d * (k - 1) + 1 - size - p, 0))
    return [*padding, *after]


# -- the largest --------------------------------------------------------------------------------------


def _max_pool(dims: int) -> None:
    def emit(
        t: Trace, out: Any, x: Tensor, kernel: Sizes, stride: Sizes = (), padding: Sizes = 0, dilation: Sizes = 1,
        ceil: bool = False,
    ) -> Arg:  # fmt: skip
        first = out if isinstance(out, Tensor) else out[0]
        kernel, steps = _each(kernel, dims), _each(stride, dims, kernel)
        apart = _each(dilation, dims)
        pads = _sides(x, first, kernel, steps, _each(padding, dims), apart)
        done: Arg = t.op(
            "MaxPool", _with_channels(t, x, dims), kernel_shape=kernel, strides=steps, dilations=apart, pads=pads
        )
        done = done if x.dim() == dims + 2 else t.reshape(done, first.shape)
        return done if isinstance(out, Tensor) else (done, None)

    emits(f"max_pool{dims}d", f"max_pool{dims}d_with_indices")(emit)


# -- the mean -----------------------------------------------------------------------------------------

_AVERAGES: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _avg_pool(dims: int) -> None:
    @emits(f"avg_pool{dims}d")
    def emit(
        t: Trace, out: Tensor, x: Tensor, kernel: Sizes, stride: Sizes = (), padding: Sizes = 0, ceil: bool = False,
        count_padding: bool = True, divisor: int | None = None,
    ) -> Arg:  # fmt: skip
        kernel, steps, before = _each(kernel, dims), _each(stride, dims), _each(padding, dims)
        steps = steps or kernel
        given = _with_channels(t, x, dims)
        if not ceil and divisor is None:
            done: Arg = t.op("AveragePool", given, kernel_shape=kernel, strides=steps, pads=[*before, *before],
                             count_include_pad=int(count_padding))  # fmt: skip
        else:
            done = _weighted(t, out, x, given, (kernel, steps, before, ceil, count_padding, divisor))
        return done if x.dim() == dims + 2 else t.reshape(done, out.shape)


def _weighted(t: Trace, out: Tensor, x: Tensor, given: Arg, how: tuple[Any, ...]) -> Arg:
    """Sums over windows, exact for whole numbers, divided by what torch divides each of them by."""
    kernel, steps, before, ceil, count_padding, divisor = how
    dims = len(kernel)
    channels = x.shape[1] if x.dim() == dims + 2 else 1
    one = [1] * dims
    pads = _sides(x, out, kernel, steps, before, one)
    ones = torch.ones(channels, 1, *kernel)
    total = t.op("Conv", given, ones, strides=steps, pads=pads, dilations=one, group=channels)
    if divisor is not None:
        return total if divisor == 1 else t.op("Div", total, torch.tensor(float(divisor)))
    extra = (divisor,) if dims > 1 else ()
    flat = torch.ones(1, 1, *x.shape[-dims:])
    mean = _AVERAGES[dims](flat, kernel, steps, before, ceil, count_padding, *extra)
    padded = [amount for k in reversed(range(dims)) for amount in (pads[k], pads[dims + k])]
    convolve = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
    inside = convolve(F.pad(flat, padded), ones[:1], stride=steps)
    return t.op("Div", total, inside / mean)


for _dims in (1, 2, 3):
    _max_pool(_dims)
    _avg_pool(_dims)


# -- windows that follow from the result's size -------------------------------------------------------


def _windows(size: int, parts: int) -> list[tuple[int, int]]:
    """Where window i begins and ends: floor(i size / parts), ceil((i + 1) size / parts)."""
    return [(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]


@emits("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
def _adaptive_avg(t: Trace, out: Tensor, x: Tensor, sizes: Sizes) -> Arg:
    """A product with a matrix along each axis, or the mean of all if nothing else is asked."""
    dims = 1 if isinstance(sizes, int) else len(sizes)
    rank = out.dim()
    if all(size == 1 for size in out.shape[-dims:]):
        return t.op("ReduceMean", x, t.ints(*range(rank - dims, rank)), keepdims=1)
    found: Arg = x
    for axis in range(rank - dims, rank):
        size, parts = x.shape[axis], out.shape[axis]
        matrix = torch.zeros(size, parts, dtype=out.dtype)
        for i, (start, stop) in enumerate(_windows(size, parts)):
            matrix[start:stop, i] = 1 / (stop - start)
        order = [k for k in range(rank) if k != axis] + [axis]
        back = [order.index(k) for k in range(rank)]
        found = transposed(t, t.op("MatMul", transposed(t, found, order), matrix), back)
    return found


@emits("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def _adaptive_max(t: Trace, out: Any, x: Tensor, sizes: Sizes) -> tuple[Arg, None]:
    """The largest of each window, axis by axis; shorter windows name an element twice."""
    dims = 1 if isinstance(sizes, int) else len(sizes)
    found: Arg = x
    for axis in range(x.dim() - dims, x.dim()):
        windows = _windows(x.shape[axis], out[0].shape[axis])
        longest = max(stop - start for start, stop in windows)
        places = [[min(start + k, stop - 1) for k in range(longest)] for start, stop in windows]
        found = t.op("ReduceMax", t.op("Gather", found, torch.tensor(places), axis=axis), t.ints(axis + 1), keepdims=0)
    return found, None
