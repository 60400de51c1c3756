"""Lava's layout of images: (width, height, channels), and true convolution instead of correlation."""

from __future__ import annotations

from typing import Any

import numpy as np

from hsnn_compiler.ir.shapes import conv_padding


def lava_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """[C, H, W] as (W, H, C), [C, L] as (L, 1, C), [N] as (N,)."""
    if len(shape) == 3:
        return shape[::-1]
    return (shape[1], 1, shape[0]) if len(shape) == 2 else shape


def to_lava(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Reorder arrays [..., *shape] to [..., *lava_shape(shape)]."""
    lead = array.ndim - len(shape)
    axes = (*range(lead), *reversed(range(lead, array.ndim)))
    return np.ascontiguousarray(array.transpose(axes)).reshape(*array.shape[:lead], *lava_shape(shape))


def from_lava(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `to_lava`."""
    lead = array.ndim - len(lava_shape(shape))
    array = array.reshape(*array.shape[:lead], *shape[::-1])
    axes = (*range(lead), *reversed(range(lead, array.ndim)))
    return np.ascontiguousarray(array.transpose(axes))


def conv_arguments(op: Any, integers: np.ndarray) -> dict[str, Any]:
    """Arguments of Lava's Conv for a NIR convolution: kernel (out, x, y, in), flipped; sizes as (x, y).

    Lava pads both sides alike; where PyTorch's 'same' pads one more behind, the kernel gets a row of zeros
    in front instead.
    """
    sides = conv_padding(op)
    dims = len(sides)
    front = [after - before for before, after in sides]
    kernel = np.pad(integers, ((0, 0), (0, 0), *((extra, 0) for extra in front)))
    if dims == 1:
        kernel = kernel[:, :, None, :]
    weight = np.ascontiguousarray(kernel[:, :, ::-1, ::-1].transpose(0, 3, 2, 1))
    xy = {
        name: _xy(value, dims, unit) for name, value, unit in (("stride", op.stride, 1), ("dilation", op.dilation, 1))
    }
    return {
        "weight": weight.astype(np.int32),
        "padding": _xy([after for _, after in sides], dims, 0),
        "stride": xy["stride"],
        "dilation": xy["dilation"],
        "groups": int(op.groups),
    }


def dense_weights(integers: np.ndarray, source_shape: tuple[int, ...]) -> np.ndarray:
    """Dense weights [out, in] whose columns follow Lava's order of the flattened source."""
    weights = integers.reshape(len(integers), *source_shape)
    return np.ascontiguousarray(to_lava(weights, source_shape).reshape(len(integers), -1)).astype(np.int32)


def _xy(value: Any, dims: int, unit: int) -> tuple[int, int]:
    numbers = np.broadcast_to(np.atleast_1d(np.asarray(value)), (dims,)).astype(int).tolist()
    return (numbers[1], numbers[0]) if dims == 2 else (numbers[0], unit)
