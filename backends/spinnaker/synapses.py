"""Weights as lists of synapses: matrices and convolutions, each connection once."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from hsnn_compiler.ir.shapes import Shape, conv_padding, per_axis, shape_rule

Synapses = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Indices before and after, int32 [synapses], and weights, float64 [synapses]; neurons count in C order."""


def synapses_of(op: Any, shape: Shape) -> Synapses:
    """All synapses of an op whose weight is not zero, by the neuron before, then the one after.

    Args:
        op: nir.Linear, Affine, Conv1d or Conv2d.
        shape: what it takes, without batch and time.
    """
    pre, post, weight = _convolution(op, shape) if type(op).__name__.startswith("Conv") else _matrix(op, shape)
    order = np.lexsort((post, pre))
    return pre[order].astype(np.int32), post[order].astype(np.int32), weight[order]


def _matrix(op: Any, shape: Shape) -> Synapses:
    """The matrix acts on the last axis: a copy for each index of those before it."""
    weight = np.asarray(op.weight, np.float64)
    post, pre = np.nonzero(weight)
    values = weight[post, pre]
    copies = int(np.prod(shape[:-1]))
    if copies > 1:
        number = np.arange(copies)[:, None]
        pre = (number * weight.shape[1] + pre).reshape(-1)
        post = (number * weight.shape[0] + post).reshape(-1)
        values = np.tile(values, copies)
    return pre, post, values


def _convolution(op: Any, shape: Shape) -> Synapses:
    """out[o, y] = sum over channels c of the group and taps k of weight[o, c, k] in[c, y stride + k dilation - before].

    One tap at a time: the pairs of pixels that it connects, times the pairs of channels.
    """
    weight = np.asarray(op.weight, np.float64)
    dims = weight.ndim - 2
    out = shape_rule(op, [shape])
    stride, dilation, padding = per_axis(op.stride, dims), per_axis(op.dilation, dims), conv_padding(op)
    group = np.arange(len(weight)) * int(op.groups) // len(weight)  # of each output channel
    pixels_in, pixels_out = int(np.prod(shape[1:])), int(np.prod(out[1:]))
    taps = np.moveaxis(weight, (0, 1), (-2, -1))
    parts: list[Synapses] = []
    for tap in product(*(range(size) for size in weight.shape[2:])):
        before, after = np.zeros(1, np.int64), np.zeros(1, np.int64)
        for axis in range(dims):
            place = np.arange(out[axis + 1])
            source = place * stride[axis] + tap[axis] * dilation[axis] - padding[axis][0]
            inside = (source >= 0) & (source < shape[axis + 1])
            before = (before[:, None] * shape[axis + 1] + source[inside]).reshape(-1)
            after = (after[:, None] * out[axis + 1] + place[inside]).reshape(-1)
        values = taps[tap]  # [channels out, channels in of the group]
        channel_out, channel_in = np.nonzero(values)
        if not (len(before) and len(channel_out)):
            continue
        first = (group[channel_out] * weight.shape[1] + channel_in)[:, None] * pixels_in + before
        second = channel_out[:, None] * pixels_out + after
        each = np.broadcast_to(values[channel_out, channel_in][:, None], first.shape)
        parts.append((first.reshape(-1), second.reshape(-1), each.reshape(-1)))
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    pre, post, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    return pre, post, values
