"""A chain of linear ops as the weights of one synapse op, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nir
import numpy as np
import torch

from hsnn_compiler.diagnostics import HsnnError, refuse
from hsnn_compiler.ir.graph import Node
from hsnn_compiler.ir.ops import bias_of, kind_of
from hsnn_compiler.ir.shapes import Shape, shape_rule
from hsnn_compiler.passes.batchnorm import input_channels, scale_rows, with_weights
from hsnn_compiler.passes.one_to_one import is_per_channel, one_to_one
from hsnn_compiler.passes.pooling import POOLS, conv_then_pool, pool_as_conv, pool_then_conv, window_of
from hsnn_compiler.reference.torch_ops import bind

DENSE_MAX = 2**24
"""Weights of a matrix made from a chain, at most."""


def fold(ops: Sequence[Node], shape: Shape, out: Shape) -> Any:
    """One synapse op, without a bias, for a chain of linear ops.

    A chain that ends at a row of neurons becomes the matrix of the map it computes: row k is the gradient of output k.
    One that ends at an image stays convolutions: scales per channel and pooling are folded into the convolution
    beside them.

    Args:
        ops: Affine, Linear, Conv, Scale, pooling, Flatten; none at all for synapses from each neuron to its twin.
        shape: what comes in, flat where the chain begins with a matrix.
        out: what comes out.

    Raises:
        HsnnError: E0434 where several ops cannot become one; E0435 a factor of its own for every pixel.
    """
    if not ops:
        return one_to_one(np.ones(()), out)
    if len(ops) == 1 and ops[0].is_synapse:
        if len(shape) != ops[0].op.weight.ndim - 1:
            raise _refused(ops, f"weights on the last axis of {list(shape)}")
        return without_bias(ops[0].op)
    if len(out) == 1:
        return _as_matrix(ops, shape, out)
    folded = _conv_of(ops[0].op, shape, ops)
    first: Any = ops[0].op
    for node in ops[1:]:
        folded = _one_more(first, folded, node.op, shape, ops)
        first = folded
    return folded


def _as_matrix(ops: Sequence[Node], shape: Shape, out: Shape) -> nir.Linear:
    if shape and int(np.prod(shape)) * out[0] > DENSE_MAX:
        raise _refused(ops, f"together a matrix of {out[0]} x {int(np.prod(shape))} weights")
    zeros = torch.zeros((out[0], *shape), dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        value = zeros
        for node in ops:
            value = bind(without_bias(node.op), torch.float64)(value)
        value.backward(torch.eye(out[0], dtype=torch.float64))
    assert zeros.grad is not None
    return nir.Linear(zeros.grad.flatten(1).numpy())


def _one_more(first: Any, folded: Any, op: Any, shape: Shape, ops: Sequence[Node]) -> Any:
    """The convolution of what is folded so far (`first`, the same before it was made a convolution) and `op`."""
    inner = shape_rule(folded, [shape])
    wanted = shape_rule(op, [inner])
    merged: Any = None
    if isinstance(op, nir.Scale):
        factor = _channels(op, inner, ops)
        merged = with_weights(folded, scale_rows(folded.weight, factor), folded.bias)
    elif isinstance(first, nir.Scale):
        conv = _conv_of(op, inner, ops)
        merged = with_weights(conv, conv.weight * input_channels(conv, _channels(first, shape, ops)), conv.bias)
    elif kind_of(first) in POOLS and len(shape) == 3:
        merged = pool_then_conv(window_of(first), _conv_of(op, inner, ops), shape)
    elif kind_of(op) in POOLS:
        merged = conv_then_pool(folded, window_of(op))
    if merged is None or shape_rule(merged, [shape]) != wanted:
        raise _refused(ops, "which cannot become one convolution")
    return merged


def _conv_of(op: Any, shape: Shape, ops: Sequence[Node]) -> Any:
    if isinstance(op, nir.Scale):
        return one_to_one(_channels(op, shape, ops), shape)
    if kind_of(op) in POOLS:
        return pool_as_conv(op, shape)
    if kind_of(op) not in ("Conv1d", "Conv2d"):
        raise _refused(ops, f"{kind_of(op)} on {list(shape)}")
    return without_bias(op)


def _channels(op: nir.Scale, shape: Shape, ops: Sequence[Node]) -> np.ndarray:
    factor = np.asarray(op.scale, np.float64)
    factor = factor.reshape((1,) * (len(shape) - factor.ndim) + factor.shape)
    if not is_per_channel(factor):
        raise refuse(
            "E0435",
            "a factor of its own for every neuron, with nothing behind it to take them in",
            node=ops[0].name,
            source=ops[0].source,
            supported="one factor per channel, or a linear layer behind it",
        )
    return np.broadcast_to(factor.reshape(-1), shape[:1])


def without_bias(op: Any) -> Any:
    """The same linear op, its weights in double precision, without its bias."""
    if isinstance(op, (nir.Affine, nir.Linear)):
        return nir.Linear(np.asarray(op.weight, np.float64))
    bias = bias_of(op)
    return op if bias is None else with_weights(op, np.asarray(op.weight, np.float64), np.zeros(len(op.weight)))


def _refused(ops: Sequence[Node], why: str) -> HsnnError:
    return refuse(
        "E0434",
        f"{' -> '.join(node.kind for node in ops)} without neurons between: {why}",
        node=ops[0].name,
        source=ops[0].source,
        supported="one convolution or linear layer between neurons, with pooling and scales beside it",
        suggestion="put neurons between them, or merge them before exporting",
    )
