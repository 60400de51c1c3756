"""Where axons lead: how many synapses each neuron's axon drives."""

from __future__ import annotations

import string
from typing import Any

import numpy as np

from hsnn_compiler.ir.shapes import Shape, conv_padding


def fan_out(op: Any, weights: np.ndarray, shape: Shape) -> np.ndarray:
    """Connections of each element of a synapse op's input, borders of convolutions taken off exactly.

    Args:
        op: Affine, Linear, Conv1d or Conv2d.
        weights: its weights, or the integers in their place; a weight of zero is no connection.
        shape: of its input.

    Returns:
        int64 [*shape]: the sum is the number of connections of the op.
    """
    if weights.ndim == 2:
        return np.broadcast_to(np.count_nonzero(weights, axis=0).astype(np.int64), shape)
    groups = int(op.groups)
    kernel = weights.shape[2:]
    used = weights.reshape(groups, -1, *weights.shape[1:])
    taps = np.count_nonzero(used, axis=1).astype(np.int64).reshape(-1, *kernel)  # [channels in, *kernel]
    dims = len(kernel)
    stride, dilation = (np.broadcast_to(np.atleast_1d(a), (dims,)) for a in (op.stride, op.dilation))
    reached = [
        _reached(size, taps_, before, after, int(s), int(d))
        for size, taps_, (before, after), s, d in zip(
            shape[1:], kernel, conv_padding(op), stride, dilation, strict=True
        )
    ]
    # [c, i, j] with [i, y] and [j, x] gives [c, y, x]
    lower, upper = string.ascii_lowercase[:dims], string.ascii_uppercase[:dims]
    pairs = ",".join(i + y for i, y in zip(lower, upper, strict=True))
    counted: np.ndarray = np.einsum(f"z{lower},{pairs}->z{upper}", taps, *reached)
    return counted


def _reached(size: int, taps: int, before: int, after: int, stride: int, dilation: int) -> np.ndarray:
    """[taps, positions]: 1 where some output uses the tap at this position of the input, along one axis."""
    outputs = (size + before + after - dilation * (taps - 1) - 1) // stride + 1
    ahead = np.arange(size) + before - dilation * np.arange(taps)[:, None]
    inside = (ahead >= 0) & (ahead % stride == 0) & (ahead // stride < outputs)
    found: np.ndarray = inside.astype(np.int64)
    return found
