"""Activation functions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hsnn_compiler.backends.host.table import emits
from hsnn_compiler.backends.host.tracing import Arg, Trace


def _number(x: Tensor, value: float) -> Tensor:
    return torch.tensor(value, dtype=x.dtype)


@emits("gelu")
def _gelu(t: Trace, out: Tensor, x: Tensor, approximate: str) -> Arg:
    half, one = _number(x, 0.5), _number(x, 1)
    if approximate == "tanh":
        cube = t.op("Mul", t.op("Mul", t.op("Mul", x, x), x), _number(x, 0.044715))
        bend = t.op("Tanh", t.op("Mul", t.op("Add", x, cube), _number(x, math.sqrt(2 / math.pi))))
    else:
        bend = t.op("Erf", t.op("Mul", x, _number(x, math.sqrt(0.5))))
    return t.op("Mul", t.op("Mul", x, half), t.op("Add", bend, one))


@emits("silu")
def _silu(t: Trace, out: Tensor, x: Tensor) -> Arg:
    return t.op("Mul", x, t.op("Sigmoid", x))


@emits("softplus")
def _softplus(t: Trace, out: Tensor, x: Tensor, beta: float = 1, threshold: float = 20) -> Arg:
    steep = x if beta == 1 else t.op("Mul", x, _number(x, beta))
    soft = t.op("Softplus", steep)
    soft = soft if beta == 1 else t.op("Div", soft, _number(x, beta))
    return t.op("Where", t.op("Greater", steep, _number(x, threshold)), x, soft)


@emits("log_sigmoid_forward")
def _log_sigmoid(t: Trace, out: Any, x: Tensor) -> tuple[Arg, None]:
    return t.op("Neg", t.op("Softplus", t.op("Neg", x))), None


@emits("mish")
def _mish(t: Trace, out: Tensor, x: Tensor) -> Arg:
    return t.op("Mul", x, t.op("Tanh", t.op("Softplus", x)))


@emits("elu")
def _elu(t: Trace, out: Tensor, x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Arg:
    """scale x above zero, scale alpha (exp(input_scale x) - 1) below."""
    low = t.op("Min", x, _number(x, 0))
    low = low if input_scale == 1 else t.op("Mul", low, _number(x, input_scale))
    low = t.op("Mul", t.op("Sub", t.op("Exp", low), _number(x, 1)), _number(x, alpha * scale))
    high = x if scale == 1 else t.op("Mul", x, _number(x, scale))
    return t.op("Where", t.op("Greater", x, _number(x, 0)), high, low)


@emits("leaky_relu")
def _leaky_relu(t: Trace, out: Tensor, x: Tensor, slope: float) -> Arg:
    return t.op("LeakyRelu", x, alpha=float(slope))


@emits("rrelu")
def _rrelu(t: Trace, out: Tensor, x: Tensor, low: float = 1 / 8, high: float = 1 / 3, *_: Any) -> Arg:
    return t.op("LeakyRelu", x, alpha=(low + high) / 2)  # as in evaluation mode


@emits("_prelu_kernel")
def _prelu(t: Trace, out: Tensor, x: Tensor, weight: Tensor) -> Arg:
    return t.op("Where", t.op("Greater", x, _number(x, 0)), x, t.op("Mul", weight, x))


@emits("hardsigmoid")
def _hardsigmoid(t: Trace, out: Tensor, x: Tensor) -> Arg:
    return t.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)


@emits("hardswish")
def _hardswish(t: Trace, out: Tensor, x: Tensor) -> Arg:
    return t.op("Mul", x, t.op("HardSigmoid", x, alpha=1 / 6, beta=0.5))


@emits("hardshrink")
def _hardshrink(t: Trace, out: Tensor, x: Tensor, bound: float = 0.5) -> Arg:
    within = t.op("LessOrEqual", t.op("Abs", x), _number(x, bound))
    return t.op("Where", within, _number(x, 0), x)


@emits("softshrink")
def _softshrink(t: Trace, out: Tensor, x: Tensor, bound: float = 0.5) -> Arg:
    within = t.op("LessOrEqual", t.op("Abs", x), _number(x, bound))
    less = t.op("Sub", x, t.op("Mul", t.op("Sign", x), _number(x, bound)))
    return t.op("Where", within, _number(x, 0), less)


@emits("threshold")
def _threshold(t: Trace, out: Tensor, x: Tensor, bound: float, value: float) -> Arg:
    return t.op("Where", t.op("LessOrEqual", x, _number(x, bound)), _number(x, value), x)


@emits("softmax.int", "_softmax", "_safe_softmax")
def _softmax(t: Trace, out: Tensor, x: Tensor, axis: int, *_: Any) -> Arg:
    return t.op("Softmax", t.cast(x, out.dtype), axis=axis % out.dim())


@emits("log_softmax.int", "_log_softmax")
def _log_softmax(t: Trace, out: Tensor, x: Tensor, axis: int, *_: Any) -> Arg:
    return t.op("LogSoftmax", t.cast(x, out.dtype), axis=axis % out.dim())
