"""Leaf modules of torch.nn."""

from __future__ import annotations

import torch
from torch import nn

from hsnn_compiler.frontends.torch import lowering, pooling
from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.registry import Unsupported, module
from hsnn_compiler.frontends.torch.reshaping import reshaped
from hsnn_compiler.ir.ops import GELU, Clip, LeakyReLU, NoOp, ReLU, Sigmoid, Tanh

Tensor = torch.Tensor


@module(nn.Linear)
def _linear(call: Call, mod: nn.Linear, input: Tensor) -> str:  # noqa: A002 - torch's own names
    return lowering.linear(call, input, mod.weight, mod.bias)


@module(nn.Conv1d, nn.Conv2d)
def _conv(call: Call, mod: nn.Conv1d | nn.Conv2d, input: Tensor) -> str:  # noqa: A002
    if mod.padding_mode != "zeros":
        raise Unsupported(f"padding_mode={mod.padding_mode!r}", "padding_mode='zeros'")
    return lowering.conv(call, input, mod.weight, mod.bias, mod.stride, mod.padding, mod.dilation, mod.groups)


@module(nn.BatchNorm1d, nn.BatchNorm2d)
def _batch_norm(call: Call, mod: nn.BatchNorm1d | nn.BatchNorm2d, input: Tensor) -> str:  # noqa: A002
    return lowering.batch_norm(call, input, mod.running_mean, mod.running_var, mod.weight, mod.bias, mod.eps)


@module(nn.LayerNorm)
def _layer_norm(call: Call, mod: nn.LayerNorm, input: Tensor) -> str:  # noqa: A002
    return lowering.layer_norm(call, input, mod.normalized_shape, mod.weight, mod.bias, mod.eps)


@module(nn.ReLU)
def _relu(call: Call, mod: nn.ReLU, input: Tensor) -> str:  # noqa: A002
    return call.emit(ReLU(), input)


@module(nn.ReLU6, nn.Hardtanh)
def _hardtanh(call: Call, mod: nn.Hardtanh, input: Tensor) -> str:  # noqa: A002
    return call.emit(Clip(float(mod.min_val), float(mod.max_val)), input)


@module(nn.LeakyReLU)
def _leaky_relu(call: Call, mod: nn.LeakyReLU, input: Tensor) -> str:  # noqa: A002
    return call.emit(LeakyReLU(float(mod.negative_slope)), input)


@module(nn.Sigmoid)
def _sigmoid(call: Call, mod: nn.Sigmoid, input: Tensor) -> str:  # noqa: A002
    return call.emit(Sigmoid(), input)


@module(nn.Tanh)
def _tanh(call: Call, mod: nn.Tanh, input: Tensor) -> str:  # noqa: A002
    return call.emit(Tanh(), input)


@module(nn.GELU)
def _gelu(call: Call, mod: nn.GELU, input: Tensor) -> str:  # noqa: A002
    return call.emit(GELU(mod.approximate), input)


@module(nn.Softmax, nn.LogSoftmax)
def _softmax(call: Call, mod: nn.Softmax | nn.LogSoftmax, input: Tensor) -> str:  # noqa: A002
    return lowering.softmax(call, input, mod.dim, log=isinstance(mod, nn.LogSoftmax))


@module(nn.MaxPool2d)
def _max_pool(call: Call, mod: nn.MaxPool2d, input: Tensor) -> str:  # noqa: A002
    return lowering.max_pool(
        call, input, mod.kernel_size, mod.stride, mod.padding, mod.dilation, mod.ceil_mode, mod.return_indices
    )


@module(nn.AvgPool2d)
def _avg_pool(call: Call, mod: nn.AvgPool2d, input: Tensor) -> str:  # noqa: A002
    return lowering.avg_pool(
        call,
        input,
        mod.kernel_size,
        mod.stride,
        mod.padding,
        mod.ceil_mode,
        mod.count_include_pad,
        mod.divisor_override,
    )


@module(nn.AvgPool1d)
def _avg_pool1d(call: Call, mod: nn.AvgPool1d, input: Tensor) -> str:  # noqa: A002
    return pooling.avg_pool1d(
        call, input, mod.kernel_size, mod.stride, mod.padding, mod.ceil_mode, mod.count_include_pad
    )


@module(nn.AdaptiveAvgPool1d)
def _adaptive_avg_pool1d(call: Call, mod: nn.AdaptiveAvgPool1d, input: Tensor) -> str:  # noqa: A002
    return pooling.adaptive_avg_pool1d(call, input, mod.output_size)


@module(nn.AdaptiveAvgPool2d)
def _adaptive_avg_pool(call: Call, mod: nn.AdaptiveAvgPool2d, input: Tensor) -> str:  # noqa: A002
    return pooling.adaptive_avg_pool2d(call, input, mod.output_size)


@module(nn.Flatten)
def _flatten(call: Call, mod: nn.Flatten, input: Tensor) -> str:  # noqa: A002
    return reshaped(call, input)


@module(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
def _no_op(call: Call, mod: nn.Module, input: Tensor) -> str:  # noqa: A002
    if mod.training:
        raise Unsupported("dropout in training mode", "models in evaluation mode", "call model.eval()")
    return call.emit(NoOp(type(mod).__name__), input)
