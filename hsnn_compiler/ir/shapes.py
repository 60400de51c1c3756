"""Shape rules: what shape an op puts out, given the shapes it takes in.

NIR's own inference is wrong for non-square kernels, groups and 'same' padding with a
stride, so these rules are the compiler's own. Batch and time axes do not appear.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Shape = tuple[int, ...]


class ShapeError(ValueError):
    """Shapes or codings do not fit; the message says how, in words."""


def shape_rule(op: Any, inputs: list[Shape]) -> Shape:
    """Output shape of `op`; every input of an op with one port has the same shape."""
    kind = type(op).__name__
    if not inputs and kind != "Input":
        raise ShapeError(f"{kind} has 0 inputs")
    if kind == "Concat":
        return _concat(op, inputs)
    if kind == "HostCall":
        if len(inputs) != op.ports:
            raise ShapeError(f"a call of {op.function} with {op.ports} ports has {len(inputs)} inputs")
        return tuple(op.shape)
    for other in inputs[1:]:
        if other != inputs[0]:
            raise ShapeError(f"shapes {inputs[0]} and {other} meet and cannot add up")
    if kind == "Input":
        return tuple(int(n) for n in op.input_type["input"])
    rule = _RULES.get(kind)
    return rule(op, inputs[0]) if rule else _elementwise(op, inputs[0])


def pair(value: Any) -> tuple[int, int]:
    """An int or a pair of ints as a pair."""
    numbers = np.atleast_1d(np.asarray(value)).astype(int).tolist()
    return (numbers[0], numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def conv_padding(op: Any) -> tuple[tuple[int, int], ...]:
    """Padding of a convolution as (before, after) per axis; 'same' as PyTorch does it."""
    kernel = op.weight.shape[2:]
    dims = len(kernel)
    if isinstance(op.padding, str):
        if op.padding == "valid":
            return ((0, 0),) * dims
        dilation = per_axis(op.dilation, dims)
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple((p, p) for p in per_axis(op.padding, dims))


def per_axis(value: Any, dims: int) -> tuple[int, ...]:
    """One integer per axis, of a number for all of them or one each."""
    numbers = np.atleast_1d(np.asarray(value)).astype(int).tolist()
    return tuple(numbers * dims if len(numbers) == 1 else numbers)


def _conv(op: Any, shape: Shape) -> Shape:
    dims = op.weight.ndim - 2
    if len(shape) != dims + 1:
        raise ShapeError(f"a {dims}-d convolution takes [channels, {dims} axes], got {list(shape)}")
    channels = op.weight.shape[1] * int(op.groups)
    if shape[0] != channels:
        raise ShapeError(f"the convolution has {channels} input channels, got {shape[0]}")
    stride, dilation = per_axis(op.stride, dims), per_axis(op.dilation, dims)
    out = []
    for size, kernel, (before, after), s, d in zip(
        shape[1:], op.weight.shape[2:], conv_padding(op), stride, dilation, strict=True
    ):
        out.append((size + before + after - d * (kernel - 1) - 1) // s + 1)
    if min(out) < 1:
        raise ShapeError(f"an input of {list(shape)} is smaller than the kernel")
    return (op.weight.shape[0], *out)


def _affine(op: Any, shape: Shape) -> Shape:
    if not shape or shape[-1] != op.weight.shape[-1]:
        raise ShapeError(f"the weights take {op.weight.shape[-1]} inputs, got {list(shape)}")
    return (*shape[:-1], op.weight.shape[-2])


def _pool(op: Any, shape: Shape) -> Shape:
    kernel, stride, padding = pair(op.kernel_size), pair(op.stride), pair(op.padding)
    out = [(n + 2 * p - k) // s + 1 for n, k, s, p in zip(shape[-2:], kernel, stride, padding, strict=True)]
    if min(out) < 1:
        raise ShapeError(f"an input of {list(shape)} is smaller than the pooling window")
    return (*shape[:-2], *out)


def _flatten(op: Any, shape: Shape) -> Shape:
    start = int(op.start_dim) % len(shape)
    end = int(op.end_dim) % len(shape)
    return (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


def _mean(op: Any, shape: Shape) -> Shape:
    axes = {axis % len(shape) for axis in op.axes}
    if op.keepdim:
        return tuple(1 if axis in axes else n for axis, n in enumerate(shape))
    return tuple(n for axis, n in enumerate(shape) if axis not in axes)


def _spread(op: Any, shape: Shape) -> Shape:
    if len(shape) != 3:
        raise ShapeError(f"zeros are spread over [channels, height, width], got {list(shape)}")
    return (shape[0], *((n - 1) * step + 1 for n, step in zip(shape[1:], pair(op.step), strict=True)))


def _encode(op: Any, shape: Shape) -> Shape:
    if not op.doubled:
        return shape
    if not shape:
        raise ShapeError("an Encode doubles channels, and a scalar has none")
    return (2 * shape[0], *shape[1:])


def _concat(op: Any, inputs: list[Shape]) -> Shape:
    axis = op.axis % len(inputs[0])
    rest = {shape[:axis] + shape[axis + 1 :] for shape in inputs}
    if len(rest) != 1:
        raise ShapeError(f"shapes {inputs} cannot be joined along axis {op.axis}")
    return (*inputs[0][:axis], sum(shape[axis] for shape in inputs), *inputs[0][axis + 1 :])


def _batchnorm(op: Any, shape: Shape) -> Shape:
    if shape[0] != len(op.weight):
        raise ShapeError(f"normalisation over {len(op.weight)} channels, got {shape[0]}")
    return shape


def _elementwise(op: Any, shape: Shape) -> Shape:
    """Shape is kept; parameters must broadcast against it."""
    for name in ("v_threshold", "v_leak", "r", "scale", "threshold", "delay", "bias"):
        parameter = getattr(op, name, None)
        if parameter is None or not np.shape(parameter):
            continue
        try:
            broadcast = np.broadcast_shapes(np.shape(parameter), shape)
        except ValueError:
            broadcast = ()
        if broadcast != shape:
            raise ShapeError(f"parameters of shape {list(np.shape(parameter))} on an input of {list(shape)}")
    return shape


_RULES: dict[str, Callable[[Any, Shape], Shape]] = {
    "Conv1d": _conv,
    "Conv2d": _conv,
    "Affine": _affine,
    "Linear": _affine,
    "AvgPool2d": _pool,
    "SumPool2d": _pool,
    "MaxPool2d": _pool,
    "Flatten": _flatten,
    "Mean": _mean,
    "Spread": _spread,
    "Encode": _encode,
    "BatchNorm": _batchnorm,
}
