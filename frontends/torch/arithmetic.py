"""Sums, differences, and products with constants.

What a constant does to a value is written with ops the graph has: ``x * c`` and ``x / c`` are
a Scale, ``x + c`` is a BatchNorm that only shifts (weight 1, bias c, mean 0, variance 1,
eps 0), and ``x - y`` is ``x + (-1) * y``.
"""
# ruff: noqa: A002 - the parameters have torch's own names, so that they bind as torch's do

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import torch

from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.registry import Unsupported, function
from hsnn_compiler.frontends.torch.tracer import Shape
from hsnn_compiler.ir.host_call import HostCall
from hsnn_compiler.ir.ops import Add, BatchNorm

Tensor = torch.Tensor


@function("add", "torch.add", "Tensor.add", "Tensor.add_", "Tensor.__add__", "Tensor.__radd__", "Tensor.__iadd__")
def _add(call: Call, input: Any, other: Any, *, alpha: float = 1, out: None = None) -> str:
    return _sum(call, input, other, float(alpha))


@function("sub", "torch.sub", "torch.subtract", "Tensor.sub", "Tensor.sub_", "Tensor.subtract")
@function("sub", "Tensor.__sub__", "Tensor.__isub__")
def _sub(call: Call, input: Any, other: Any, *, alpha: float = 1, out: None = None) -> str:
    return _sum(call, input, other, -float(alpha))


@function("sub", "torch.rsub", "Tensor.__rsub__")
def _rsub(call: Call, input: Any, other: Any, *, alpha: float = 1) -> str:
    return _sum(call, other, input, -float(alpha))


@function("neg", "torch.neg", "torch.negative", "Tensor.neg", "Tensor.neg_", "Tensor.negative", "Tensor.__neg__")
def _neg(call: Call, input: Tensor, *, out: None = None) -> str:
    return call.emit(nir.Scale(_spread(np.float32(-1), call.shape(input))), input)


@function("mul", "torch.mul", "torch.multiply", "Tensor.mul", "Tensor.mul_", "Tensor.multiply")
@function("mul", "Tensor.__mul__", "Tensor.__rmul__", "Tensor.__imul__")
def _mul(call: Call, input: Any, other: Any, *, out: None = None) -> str:
    x, factor = (input, other) if call.is_traced(input) else (other, input)
    if call.is_traced(factor):
        if (
            call.axes_of(x) == call.axes_of(factor)
            and call.axes_of(x).count == 2
            and call.shape(x) == call.shape(factor)
        ):
            return call.emit(HostCall("torch.mul", "x0, x1", call.shape(x)), x, factor, ports=True)
        raise Unsupported(
            "a product of two computed tensors", "products of a computed tensor and a constant or parameter"
        )
    constant = _constant(call, factor, call.shape(x))
    if np.all(constant == 1):
        return call.node(x)
    return call.emit(nir.Scale(_spread(constant, call.shape(x))), x)


@function("div", "torch.div", "torch.divide", "torch.true_divide", "Tensor.div", "Tensor.div_", "Tensor.divide")
@function("div", "Tensor.true_divide", "Tensor.__truediv__", "Tensor.__itruediv__", "Tensor.__div__")
def _div(call: Call, input: Any, other: Any, *, rounding_mode: str | None = None, out: None = None) -> str:
    if rounding_mode is not None or not call.is_traced(input) or call.is_traced(other):
        raise Unsupported("a division by a computed tensor, or a rounding one", "x / c with a constant c")
    constant = _constant(call, other, call.shape(input))
    if np.any(constant == 0):
        raise Unsupported("a division by zero", "constants other than zero")
    return call.emit(nir.Scale(_spread(np.float32(1) / constant, call.shape(input))), input)


def _sum(call: Call, left: Any, right: Any, factor: float) -> str:
    """``left + factor * right``."""
    if call.is_traced(left) and call.is_traced(right):
        if call.shape(left) != call.shape(right):
            raise Unsupported(
                f"a sum of shapes {list(call.shape(left))} and {list(call.shape(right))}",
                "sums of equal shapes",
            )
        first, second = call.node(left), call.node(right)
        if factor != 1:
            second = _scaled(call, second, factor)
        return call.emit(Add(), first, second, ports=True)
    if call.is_traced(left):
        node, constant = call.node(left), factor * _constant(call, right, call.shape(left))
    else:
        node, constant = call.node(right), _constant(call, left, call.shape(right))
        if factor != 1:
            node = _scaled(call, node, factor)
    return _shifted(call, node, constant)


def _scaled(call: Call, node: str, factor: float) -> str:
    shape = call.tracer.graph[node].shape
    return call.emit(nir.Scale(_spread(np.float32(factor), shape)), node, stem=f"{call.stem}.scale")


def _shifted(call: Call, node: str, constant: np.ndarray) -> str:
    """Add a constant that is the same for all elements of a channel."""
    if not np.any(constant):
        return node
    shape = call.tracer.graph[node].shape
    spread = _spread(np.asarray(constant, np.float32), shape)
    if not shape or spread.size != shape[0]:
        raise Unsupported(
            f"a sum with a constant of shape {list(np.shape(constant))}",
            f"sums with a number or with one number per channel, here of shape {_per_channel(shape)}",
            "add the constant as the bias of a layer",
        )
    bias = spread.reshape(-1)
    one, zero = np.ones_like(bias), np.zeros_like(bias)
    return call.emit(BatchNorm(weight=one, bias=bias, mean=zero, var=one, eps=0.0), node)


def _constant(call: Call, item: Any, shape: Shape) -> np.ndarray:
    """A constant operand as float32, without batch axis, as many axes as the sample has at most."""
    if isinstance(item, torch.Tensor):
        array = call.array(item)
        if array.ndim == len(shape) + 1:
            if np.any(array != array[:1]):
                raise Unsupported(
                    "a constant differs from sample to sample (or it was computed where capture cannot see)",
                    "constants without a batch axis",
                    code="E0406",
                )
            array = array[0]
    elif isinstance(item, (int, float, np.integer, np.floating)):
        array = np.asarray(item, np.float32)
    else:
        raise Unsupported(f"arithmetic with a {type(item).__name__}", "numbers and tensors")
    if np.broadcast_shapes(array.shape, shape) != shape:
        raise Unsupported(
            f"arithmetic of a value of shape {list(shape)} with a larger constant of {list(array.shape)}",
            "constants that do not change the value's shape",
        )
    return np.asarray(array)


def _spread(constant: Any, shape: Shape) -> np.ndarray:
    """A constant as one number per channel, shaped (C, 1, ...), or in full shape if it varies otherwise."""
    array = np.asarray(constant, np.float32)
    array = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    target = tuple(_per_channel(shape)) if all(n == 1 for n in array.shape[1:]) else shape
    return np.array(np.broadcast_to(array, target))


def _per_channel(shape: Shape) -> list[int]:
    return [n if axis == 0 else 1 for axis, n in enumerate(shape)]
