"""The executable definition of every stateless op, as torch functions on [batch, ...] tensors.

An op is bound once (its parameters become tensors of the executor's dtype) and then called.
The calls are the very functions PyTorch's own modules call, so that a captured network
computes what its source computes, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.ops import kind_of
from hsnn_compiler.ir.shapes import conv_padding, pair

Bound = Callable[[Tensor], Tensor]
BINDERS: dict[str, Callable[[Any, torch.dtype], Bound]] = {}


def bind(op: Any, dtype: torch.dtype) -> Bound:
    """The function of one op. E0105 for ops that only exist in time or have several ports."""
    kind = kind_of(op)
    if kind not in BINDERS:
        raise refuse("E0105", f"the float executor does not run {kind}")
    return BINDERS[kind](op, dtype)


def tensor(array: Any, dtype: torch.dtype) -> Tensor:
    """A parameter as a tensor of the executor's dtype."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(dtype)


def _binder(
    *kinds: str,
) -> Callable[[Callable[[Any, torch.dtype], Bound]], Callable[[Any, torch.dtype], Bound]]:
    def register(function: Callable[[Any, torch.dtype], Bound]) -> Callable[[Any, torch.dtype], Bound]:
        for kind in kinds:
            BINDERS[kind] = function
        return function

    return register


@_binder("Input", "Output", "NoOp", "Add")
def _identity(op: Any, dtype: torch.dtype) -> Bound:
    return lambda x: x


@_binder("Affine", "Linear")
def _affine(op: Any, dtype: torch.dtype) -> Bound:
    weight = tensor(op.weight, dtype)
    bias = tensor(op.bias, dtype) if hasattr(op, "bias") else None
    return lambda x: F.linear(x, weight, bias)


@_binder("Conv1d", "Conv2d")
def _conv(op: Any, dtype: torch.dtype) -> Bound:
    function = F.conv1d if op.weight.ndim == 3 else F.conv2d
    weight, bias = tensor(op.weight, dtype), tensor(op.bias, dtype)
    stride, dilation, groups = _ints(op.stride), _ints(op.dilation), int(op.groups)
    sides = conv_padding(op)
    if all(before == after for before, after in sides):
        padding = tuple(before for before, _ in sides)
        return lambda x: function(x, weight, bias, stride, padding, dilation, groups)  # type: ignore[operator]
    amounts = [side for before_after in reversed(sides) for side in before_after]
    return lambda x: function(F.pad(x, amounts), weight, bias, stride, 0, dilation, groups)  # type: ignore[operator]


def _ints(value: Any) -> tuple[int, ...]:
    return tuple(np.atleast_1d(np.asarray(value)).astype(int).tolist())


@_binder("Scale")
def _scale(op: Any, dtype: torch.dtype) -> Bound:
    scale = tensor(op.scale, dtype)
    return lambda x: x * scale


@_binder("Flatten")
def _flatten(op: Any, dtype: torch.dtype) -> Bound:
    start, end = int(op.start_dim), int(op.end_dim)
    return lambda x: torch.flatten(x, start + 1 if start >= 0 else start, end + 1 if end >= 0 else end)


@_binder("AvgPool2d")
def _avgpool(op: Any, dtype: torch.dtype) -> Bound:
    kernel, stride, padding = pair(op.kernel_size), pair(op.stride), pair(op.padding)
    return lambda x: F.avg_pool2d(x, kernel, stride, padding)


@_binder("SumPool2d")
def _sumpool(op: Any, dtype: torch.dtype) -> Bound:
    kernel, stride, padding = pair(op.kernel_size), pair(op.stride), pair(op.padding)
    return lambda x: F.avg_pool2d(x, kernel, stride, padding, divisor_override=1)


@_binder("MaxPool2d")
def _maxpool(op: Any, dtype: torch.dtype) -> Bound:
    return lambda x: F.max_pool2d(x, op.kernel_size, op.stride, op.padding)


@_binder("Mean")
def _mean(op: Any, dtype: torch.dtype) -> Bound:
    axes = [axis + 1 if axis >= 0 else axis for axis in op.axes]
    return lambda x: x.mean(axes, keepdim=op.keepdim)


@_binder("BatchNorm")
def _batchnorm(op: Any, dtype: torch.dtype) -> Bound:
    mean, var, weight, bias = (tensor(a, dtype) for a in (op.mean, op.var, op.weight, op.bias))
    return lambda x: F.batch_norm(x, mean, var, weight, bias, False, 0.0, op.eps)


@_binder("LayerNorm")
def _layernorm(op: Any, dtype: torch.dtype) -> Bound:
    weight, bias = tensor(op.weight, dtype), tensor(op.bias, dtype)
    return lambda x: F.layer_norm(x, list(weight.shape), weight, bias, op.eps)


@_binder("ReLU")
def _relu(op: Any, dtype: torch.dtype) -> Bound:
    return F.relu


@_binder("Clip")
def _clip(op: Any, dtype: torch.dtype) -> Bound:
    return lambda x: F.hardtanh(x, op.low, op.high)


@_binder("LeakyReLU")
def _leaky(op: Any, dtype: torch.dtype) -> Bound:
    return lambda x: F.leaky_relu(x, op.slope)


@_binder("Sigmoid")
def _sigmoid(op: Any, dtype: torch.dtype) -> Bound:
    return torch.sigmoid


@_binder("Tanh")
def _tanh(op: Any, dtype: torch.dtype) -> Bound:
    return torch.tanh


@_binder("GELU")
def _gelu(op: Any, dtype: torch.dtype) -> Bound:
    return lambda x: F.gelu(x, approximate=op.approximate)


@_binder("Softmax")
def _softmax(op: Any, dtype: torch.dtype) -> Bound:
    axis = op.axis + 1 if op.axis >= 0 else op.axis
    function = F.log_softmax if op.log else F.softmax
    return lambda x: function(x, axis)
