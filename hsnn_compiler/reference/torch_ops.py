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
from hsnn_compiler.reference.host_calls import bind_call

Bound = Callable[..., Tensor]  # of one tensor; a HostCall of one per port
Get = Callable[[str], Tensor]
Binder = Callable[[Any, Get], Bound]
Parameter = Callable[[str, np.ndarray], Tensor]
BINDERS: dict[str, Binder] = {}


def bind(op: Any, dtype: torch.dtype, parameter: Parameter | None = None) -> Bound:
    """The function of one op. E0105 for ops that only exist in time.

    `parameter` makes the tensor of a parameter from its name and values; by default a plain one.
    """
    kind = kind_of(op)
    if kind == "HostCall":
        return bind_call(op, dtype, parameter or (lambda name, array: tensor(array, dtype)))
    if kind not in BINDERS:
        raise refuse("E0105", f"the float executor does not run {kind}")

    def get(name: str) -> Tensor:
        array = np.asarray(getattr(op, name))
        return tensor(array, dtype) if parameter is None else parameter(name, array)

    return BINDERS[kind](op, get)


def tensor(array: Any, dtype: torch.dtype) -> Tensor:
    """A parameter as a tensor of the executor's dtype."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(dtype)


def _binder(*kinds: str) -> Callable[[Binder], Binder]:
    def register(function: Binder) -> Binder:
        for kind in kinds:
            BINDERS[kind] = function
        return function

    return register


@_binder("Input", "Output", "NoOp", "Add")
def _identity(op: Any, get: Get) -> Bound:
    return lambda x: x


@_binder("Affine", "Linear")
def _affine(op: Any, get: Get) -> Bound:
    weight = get("weight")
    bias = get("bias") if hasattr(op, "bias") else None
    return lambda x: F.linear(x, weight, bias)


@_binder("Conv1d", "Conv2d")
def _conv(op: Any, get: Get) -> Bound:
    function = F.conv1d if op.weight.ndim == 3 else F.conv2d
    weight, bias = get("weight"), get("bias")
    stride, dilation, groups = _ints(op.stride), _ints(op.dilation), int(op.groups)
    sides = conv_padding(op)
    if all(before == after for before, after in sides):
        padding = tuple(before for before, _ in sides)
        return lambda x: function(x, weight, bias, stride, padding, dilation, groups)  # type: ignore[operator]
    amounts = [side for before_after in reversed(sides) for side in before_after]
    return lambda x: function(F.pad(x, amounts), weight, bias, stride, 0, dilation, groups)  # type: ignore[operator]


def _ints(value: Any) -> tuple[int, ...]:
    return tuple(np.atleast_1d(np.asarray(value)).astype(int).tolist())


@_binder("Spread")
def _spread(op: Any, get: Get) -> Bound:
    down, right = pair(op.step)

    def spread(x: Tensor) -> Tensor:
        out = x.new_zeros((*x.shape[:-2], (x.shape[-2] - 1) * down + 1, (x.shape[-1] - 1) * right + 1))
        out[..., ::down, ::right] = x
        return out

    return spread


@_binder("Scale")
def _scale(op: Any, get: Get) -> Bound:
    scale = get("scale")
    return lambda x: x * scale


@_binder("Threshold")
def _threshold(op: Any, get: Get) -> Bound:
    threshold = get("threshold")
    return lambda x: (x > threshold).to(x.dtype)


@_binder("Flatten")
def _flatten(op: Any, get: Get) -> Bound:
    start, end = int(op.start_dim), int(op.end_dim)
    return lambda x: torch.flatten(x, start + 1 if start >= 0 else start, end + 1 if end >= 0 else end)


@_binder("AvgPool2d")
def _avgpool(op: Any, get: Get) -> Bound:
    kernel, stride, padding = pair(op.kernel_size), pair(op.stride), pair(op.padding)
    return lambda x: F.avg_pool2d(x, kernel, stride, padding)


@_binder("SumPool2d")
def _sumpool(op: Any, get: Get) -> Bound:
    kernel, stride, padding = pair(op.kernel_size), pair(op.stride), pair(op.padding)
    return lambda x: F.avg_pool2d(x, kernel, stride, padding, divisor_override=1)


@_binder("MaxPool2d")
def _maxpool(op: Any, get: Get) -> Bound:
    return lambda x: F.max_pool2d(x, op.kernel_size, op.stride, op.padding)


@_binder("Mean")
def _mean(op: Any, get: Get) -> Bound:
    axes = [axis + 1 if axis >= 0 else axis for axis in op.axes]
    return lambda x: x.mean(axes, keepdim=op.keepdim)


@_binder("BatchNorm")
def _batchnorm(op: Any, get: Get) -> Bound:
    mean, var, weight, bias = (get(name) for name in ("mean", "var", "weight", "bias"))
    return lambda x: F.batch_norm(x, mean, var, weight, bias, False, 0.0, op.eps)


@_binder("LayerNorm")
def _layernorm(op: Any, get: Get) -> Bound:
    weight, bias = get("weight"), get("bias")
    return lambda x: F.layer_norm(x, list(weight.shape), weight, bias, op.eps)


@_binder("ReLU")
def _relu(op: Any, get: Get) -> Bound:
    return F.relu


@_binder("Clip")
def _clip(op: Any, get: Get) -> Bound:
    return lambda x: F.hardtanh(x, op.low, op.high)


@_binder("Quantised")
def _quantised(op: Any, get: Get) -> Bound:
    threshold, levels = get("threshold"), op.levels

    def quantised(x: Tensor) -> Tensor:
        share = torch.clamp(x / threshold, 0, 1)
        steps = torch.round(share * levels) if op.ties == "even" else torch.floor(share * levels + 0.5)
        if steps.requires_grad:  # straight through the rounding
            steps = steps.detach() + levels * (share - share.detach())
        return steps / levels * threshold

    return quantised


@_binder("LeakyReLU")
def _leaky(op: Any, get: Get) -> Bound:
    return lambda x: F.leaky_relu(x, op.slope)


@_binder("Sigmoid")
def _sigmoid(op: Any, get: Get) -> Bound:
    return torch.sigmoid


@_binder("Tanh")
def _tanh(op: Any, get: Get) -> Bound:
    return torch.tanh


@_binder("GELU")
def _gelu(op: Any, get: Get) -> Bound:
    return lambda x: F.gelu(x, approximate=op.approximate)


@_binder("Softmax")
def _softmax(op: Any, get: Get) -> Bound:
    axis = op.axis + 1 if op.axis >= 0 else op.axis
    function = F.log_softmax if op.log else F.softmax
    return lambda x: function(x, axis)
