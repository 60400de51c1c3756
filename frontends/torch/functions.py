"""Functional forms of the layers: ``F.relu``, ``x.relu()``, ``F.conv2d`` and so on.

Handlers have the signature of the function they stand for, behind the call.
"""
# ruff: noqa: A002 - the parameters have torch's own names, so that they bind as torch's do

from __future__ import annotations

import math
from typing import Any

import nir
import numpy as np
import torch

from hsnn_compiler.frontends.torch import lowering, pooling
from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.registry import Unsupported, function
from hsnn_compiler.ir.ops import GELU, Clip, LeakyReLU, Mean, NoOp, ReLU, Sigmoid, Tanh

Tensor = torch.Tensor


@function("relu", "F.relu", "F.relu_", "torch.relu", "torch.relu_", "Tensor.relu", "Tensor.relu_")
def _relu(call: Call, input: Tensor, inplace: bool = False) -> str:
    return call.emit(ReLU(), input)


@function("relu6", "F.relu6")
def _relu6(call: Call, input: Tensor, inplace: bool = False) -> str:
    return call.emit(Clip(0.0, 6.0), input)


@function("hardtanh", "F.hardtanh", "F.hardtanh_")
def _hardtanh(call: Call, input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> str:
    return call.emit(Clip(float(min_val), float(max_val)), input)


@function("clamp", "torch.clamp", "torch.clip", "Tensor.clamp", "Tensor.clip", "Tensor.clamp_", "Tensor.clip_")
def _clamp(call: Call, input: Tensor, min: Any = None, max: Any = None, *, out: None = None) -> str:
    if isinstance(min, (int, float)):
        if isinstance(max, (int, float)):
            return call.emit(Clip(float(min), float(max)), input)
        if min == 0 and max is None:
            return call.emit(ReLU(), input)
    raise Unsupported("a clamp with other limits", "clamp(min=0), or two numbers as limits")


@function("leaky_relu", "F.leaky_relu", "F.leaky_relu_")
def _leaky_relu(call: Call, input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> str:
    return call.emit(LeakyReLU(float(negative_slope)), input)


@function("sigmoid", "F.sigmoid", "torch.sigmoid", "torch.sigmoid_", "Tensor.sigmoid", "Tensor.sigmoid_")
def _sigmoid(call: Call, input: Tensor, *, out: None = None) -> str:
    return call.emit(Sigmoid(), input)


@function("tanh", "F.tanh", "torch.tanh", "torch.tanh_", "Tensor.tanh", "Tensor.tanh_")
def _tanh(call: Call, input: Tensor, *, out: None = None) -> str:
    return call.emit(Tanh(), input)


@function("gelu", "F.gelu")
def _gelu(call: Call, input: Tensor, approximate: str = "none") -> str:
    return call.emit(GELU(approximate), input)


@function("softmax", "F.softmax")
def _softmax(call: Call, input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> str:
    return lowering.softmax(call, input, dim, log=False)


@function("softmax", "torch.softmax", "Tensor.softmax")
def _softmax_method(call: Call, input: Tensor, dim: int, dtype: Any = None, *, out: None = None) -> str:
    return lowering.softmax(call, input, dim, log=False)


@function("log_softmax", "F.log_softmax")
def _log_softmax(call: Call, input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> str:
    return lowering.softmax(call, input, dim, log=True)


@function("log_softmax", "torch.log_softmax", "Tensor.log_softmax")
def _log_softmax_method(call: Call, input: Tensor, dim: int, dtype: Any = None, *, out: None = None) -> str:
    return lowering.softmax(call, input, dim, log=True)


@function("linear", "F.linear")
def _linear(call: Call, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> str:
    return lowering.linear(call, input, weight, bias)


@function("matmul", "torch.matmul", "torch.mm", "Tensor.matmul", "Tensor.mm", "Tensor.__matmul__")
def _matmul(call: Call, input: Tensor, other: Tensor, *, out: None = None) -> str:
    if not call.is_traced(input) or call.is_traced(other) or other.dim() != 2:
        raise Unsupported(
            "a product of two computed tensors, or a constant on the left", "x @ W with a constant matrix W"
        )
    lowering.need_rank(call, input, *range(1, 8))
    return call.emit(nir.Linear(np.ascontiguousarray(call.array(other).T)), input)


@function("conv1d", "F.conv1d")
@function("conv2d", "F.conv2d")
def _conv(
    call: Call,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> str:
    return lowering.conv(call, input, weight, bias, stride, padding, dilation, groups)


@function("batch_norm", "F.batch_norm")
def _batch_norm(
    call: Call,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> str:
    if training:
        running_mean = None
    return lowering.batch_norm(call, input, running_mean, running_var, weight, bias, eps)


@function("layer_norm", "F.layer_norm")
def _layer_norm(
    call: Call,
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> str:
    return lowering.layer_norm(call, input, normalized_shape, weight, bias, eps)


@function("max_pool2d", "F.max_pool2d", "torch.max_pool2d")
def _max_pool(
    call: Call,
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> str:
    return lowering.max_pool(call, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@function("avg_pool2d", "F.avg_pool2d")
def _avg_pool(
    call: Call,
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> str:
    return lowering.avg_pool(call, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


@function("adaptive_avg_pool2d", "F.adaptive_avg_pool2d")
def _adaptive_avg_pool(call: Call, input: Tensor, output_size: Any) -> str:
    return pooling.adaptive_avg_pool2d(call, input, output_size)


@function("avg_pool1d", "F.avg_pool1d")
def _avg_pool1d(
    call: Call,
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> str:
    return pooling.avg_pool1d(call, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


@function("adaptive_avg_pool1d", "F.adaptive_avg_pool1d")
def _adaptive_avg_pool1d(call: Call, input: Tensor, output_size: Any) -> str:
    return pooling.adaptive_avg_pool1d(call, input, output_size)


@function("mean", "torch.mean", "Tensor.mean")
def _mean(
    call: Call, input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None, out: None = None
) -> str:
    return call.emit(_mean_over(call, input, dim, keepdim), input)


@function("sum", "torch.sum", "Tensor.sum")
def _sum(
    call: Call, input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None, out: None = None
) -> str:
    """As many times the mean."""
    op = _mean_over(call, input, dim, keepdim)
    count = math.prod(call.shape(input)[axis] for axis in op.axes)
    mean = call.emit(op, input, stem=f"{call.stem}.mean")
    per_channel = [n if axis == 0 else 1 for axis, n in enumerate(call.tracer.graph[mean].shape)]
    return call.emit(nir.Scale(np.full(per_channel, count, np.float32)), mean)


def _mean_over(call: Call, x: Tensor, dim: Any, keepdim: bool) -> Mean:
    rank = len(call.shape(x)) + call.axes_of(x).count
    dims = range(rank) if dim is None or dim == () else (dim,) if isinstance(dim, int) else dim
    return Mean(tuple(sorted(lowering.sample_axis(call, x, d) for d in dims)), bool(keepdim))


@function("dropout", "F.dropout", "F.dropout1d", "F.dropout2d", "F.dropout3d", "F.alpha_dropout", "torch.dropout")
def _dropout(call: Call, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> str:
    if training and p:
        raise Unsupported(
            "dropout that is active although the model is in evaluation mode",
            "F.dropout(x, p, training=self.training)",
            "pass training=self.training, or use nn.Dropout",
        )
    return call.emit(NoOp("Dropout"), input)
