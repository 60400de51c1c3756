"""Arithmetic, comparisons and functions of single numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hsnn_compiler.backends.host.table import NoFormError, emits
from hsnn_compiler.backends.host.tracing import Arg, Trace

_ONE_NODE = {
    "abs": "Abs", "acos": "Acos", "acosh": "Acosh", "asin": "Asin", "asinh": "Asinh", "atan": "Atan",
    "atanh": "Atanh", "ceil": "Ceil", "cos": "Cos", "cosh": "Cosh", "erf": "Erf", "exp": "Exp", "floor": "Floor",
    "log": "Log", "neg": "Neg", "reciprocal": "Reciprocal", "relu": "Relu", "round": "Round", "sigmoid": "Sigmoid",
    "sign": "Sign", "sin": "Sin", "sinh": "Sinh", "sqrt": "Sqrt", "tan": "Tan", "tanh": "Tanh",
}  # fmt: skip
_OF_INTEGERS = ("abs", "neg", "sign", "relu")
_LEFT_ALONE = ("ceil", "floor", "round", "trunc")  # of integers


def _one_node(name: str, kind: str) -> None:
    @emits(name)
    def emit(t: Trace, out: Tensor, x: Tensor) -> Arg:
        if not out.is_floating_point() and name in _LEFT_ALONE:
            return x
        if not out.is_floating_point() and name not in _OF_INTEGERS:
            raise NoFormError(f"{name} of integers")
        return t.op(kind, t.cast(x, out.dtype))


for _name, _kind in _ONE_NODE.items():
    _one_node(_name, _kind)


def _precisely(name: str, formula: Callable[[Trace, str], str]) -> None:
    """A function that loses digits near zero in 32 bits: computed in 64."""

    @emits(name)
    def emit(t: Trace, out: Tensor, x: Tensor) -> Arg:
        done = formula(t, t.op("Cast", x, to=11))
        return done if out.dtype is torch.float64 else t.op("Cast", done, to=1)


def _f64(number: float) -> Tensor:
    return torch.tensor(number, dtype=torch.float64)


_precisely("expm1", lambda t, x: t.op("Sub", t.op("Exp", x), _f64(1)))
_precisely("log1p", lambda t, x: t.op("Log", t.op("Add", x, _f64(1))))
_precisely("exp2", lambda t, x: t.op("Exp", t.op("Mul", x, _f64(math.log(2)))))
_precisely("log2", lambda t, x: t.op("Div", t.op("Log", x), _f64(math.log(2))))
_precisely("log10", lambda t, x: t.op("Div", t.op("Log", x), _f64(math.log(10))))


@emits("rsqrt")
def _rsqrt(t: Trace, out: Tensor, x: Tensor) -> Arg:
    return t.op("Reciprocal", t.op("Sqrt", t.cast(x, out.dtype)))


@emits("erfc")
def _erfc(t: Trace, out: Tensor, x: Tensor) -> Arg:
    return t.op("Sub", t.cast(1, out.dtype), t.op("Erf", t.cast(x, out.dtype)))


def truncated(t: Trace, x: Arg) -> str:
    """A number without its fraction."""
    return t.op("Mul", t.op("Sign", x), t.op("Floor", t.op("Abs", x)))


@emits("trunc")
def _trunc(t: Trace, out: Tensor, x: Tensor) -> Arg:
    return truncated(t, x) if out.is_floating_point() else x


@emits("frac")
def _frac(t: Trace, out: Tensor, x: Tensor) -> Arg:
    return t.op("Sub", x, truncated(t, x))


@emits("round.decimals")
def _round(t: Trace, out: Tensor, x: Tensor, decimals: int = 0) -> Arg:
    factor = t.cast(10.0 ** abs(decimals), out.dtype)
    to, back = ("Mul", "Div") if decimals >= 0 else ("Div", "Mul")
    return t.op(back, t.op("Round", t.op(to, x, factor)), factor)


@emits("isnan")
def _isnan(t: Trace, out: Tensor, x: Tensor) -> Arg:
    return t.op("IsNaN", x)


# -- two numbers --------------------------------------------------------------------------------------


def _pair(t: Trace, out: Tensor, a: Arg, b: Arg) -> tuple[Arg, Arg]:
    return t.cast(a, out.dtype), t.cast(b, out.dtype)


def _scaled(t: Trace, out: Tensor, b: Arg, alpha: float) -> Arg:
    b = t.cast(b, out.dtype)
    return b if alpha == 1 else t.op("Mul", b, t.cast(alpha, out.dtype))


@emits("add.Tensor", "add.Scalar")
def _add(t: Trace, out: Tensor, a: Arg, b: Arg, alpha: float = 1) -> Arg:
    if out.dtype is torch.bool:
        return t.op("Or", a, b)
    return t.op("Add", t.cast(a, out.dtype), _scaled(t, out, b, alpha))


@emits("sub.Tensor", "sub.Scalar")
def _sub(t: Trace, out: Tensor, a: Arg, b: Arg, alpha: float = 1) -> Arg:
    return t.op("Sub", t.cast(a, out.dtype), _scaled(t, out, b, alpha))


@emits("rsub.Tensor", "rsub.Scalar")
def _rsub(t: Trace, out: Tensor, a: Arg, b: Arg, alpha: float = 1) -> Arg:
    return t.op("Sub", t.cast(b, out.dtype), _scaled(t, out, a, alpha))


@emits("mul.Tensor", "mul.Scalar")
def _mul(t: Trace, out: Tensor, a: Arg, b: Arg) -> Arg:
    return t.op("And" if out.dtype is torch.bool else "Mul", *_pair(t, out, a, b))


@emits("div.Tensor", "div.Scalar", "div.Tensor_mode", "div.Scalar_mode")
def _div(t: Trace, out: Tensor, a: Arg, b: Arg, rounding_mode: str | None = None) -> Arg:
    if rounding_mode is None:
        return t.op("Div", *_pair(t, out, a, b))
    if not out.is_floating_point():
        raise NoFormError("a division of integers, rounded")
    ratio = t.op("Div", *_pair(t, out, a, b))
    return truncated(t, ratio) if rounding_mode == "trunc" else t.op("Floor", ratio)


@emits("floor_divide", "floor_divide.Scalar")
def _floor_divide(t: Trace, out: Tensor, a: Arg, b: Arg) -> Arg:
    return _div(t, out, a, b, "floor")


@emits("fmod.Tensor", "fmod.Scalar")
def _fmod(t: Trace, out: Tensor, a: Arg, b: Arg) -> Arg:
    return t.op("Mod", *_pair(t, out, a, b), fmod=1)


@emits("remainder.Tensor", "remainder.Scalar", "remainder.Scalar_Tensor")
def _remainder(t: Trace, out: Tensor, a: Arg, b: Arg) -> Arg:
    a, b = _pair(t, out, a, b)
    if not out.is_floating_point():
        return t.op("Mod", a, b)
    rest, zero = t.op("Mod", a, b, fmod=1), t.cast(0, out.dtype)
    differs = t.op("Less", t.op("Mul", t.op("Sign", rest), t.op("Sign", b)), zero)
    return t.op("Where", differs, t.op("Add", rest, b), rest)


@emits("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar")
def _pow(t: Trace, out: Tensor, a: Arg, b: Arg) -> Arg:
    if isinstance(b, (int, float)) and b == 2:
        a = t.cast(a, out.dtype)
        return t.op("Mul", a, a)
    return t.op("Pow", *_pair(t, out, a, b))


def _binary(kind: str, *keys: str) -> None:
    @emits(*keys)
    def emit(t: Trace, out: Tensor, a: Arg, b: Arg) -> Arg:
        return t.op(kind, *_pair(t, out, a, b))


_binary("Max", "maximum")
_binary("Min", "minimum")


def _ignoring_nan(kind: str, key: str) -> None:
    @emits(key)
    def emit(t: Trace, out: Tensor, a: Arg, b: Arg) -> Arg:
        a, b = _pair(t, out, a, b)
        both = t.op(kind, a, b)
        return t.op("Where", t.op("IsNaN", a), b, t.op("Where", t.op("IsNaN", b), a, both))


_ignoring_nan("Max", "fmax")
_ignoring_nan("Min", "fmin")


@emits("atan2")
def _atan2(t: Trace, out: Tensor, y: Arg, x: Arg) -> Arg:
    y, x = _pair(t, out, y, x)
    zero, pi = t.cast(0, out.dtype), t.cast(math.pi, out.dtype)
    angle = t.op("Atan", t.op("Div", y, x))
    side = t.op("Where", t.op("Less", y, zero), t.op("Neg", pi), pi)
    turned = t.op("Where", t.op("Less", x, zero), t.op("Add", angle, side), angle)
    at_zero = t.op("Mul", t.op("Sign", y), t.op("Div", pi, t.cast(2, out.dtype)))
    return t.op("Where", t.op("Equal", x, zero), at_zero, turned)


@emits("hypot")
def _hypot(t: Trace, out: Tensor, a: Arg, b: Arg) -> Arg:
    a, b = _pair(t, out, a, b)
    return t.op("Sqrt", t.op("Add", t.op("Mul", a, a), t.op("Mul", b, b)))


# -- truth --------------------------------------------------------------------------------------------


def _comparison(kind: str, name: str, negated: bool = False) -> None:
    @emits(f"{name}.Tensor", f"{name}.Scalar")
    def emit(t: Trace, out: Tensor, a: Arg, b: Arg) -> Arg:
        dtype = torch.result_type(a, b)
        if dtype is torch.bool and kind != "Equal":
            dtype = torch.int32
        found = t.op(kind, t.cast(a, dtype), t.cast(b, dtype))
        return t.op("Not", found) if negated else found


_comparison("Equal", "eq")
_comparison("Equal", "ne", negated=True)
_comparison("Less", "lt")
_comparison("LessOrEqual", "le")
_comparison("Greater", "gt")
_comparison("GreaterOrEqual", "ge")


def _logic(kind: str, *keys: str) -> None:
    @emits(*keys)
    def emit(t: Trace, out: Tensor, *args: Arg) -> Arg:
        if out.dtype is not torch.bool:
            raise NoFormError("operations on single bits")
        return t.op(kind, *(t.cast(arg, torch.bool) for arg in args))


_logic("And", "logical_and", "bitwise_and.Tensor", "bitwise_and.Scalar")
_logic("Or", "logical_or", "bitwise_or.Tensor", "bitwise_or.Scalar")
_logic("Xor", "logical_xor", "bitwise_xor.Tensor", "bitwise_xor.Scalar")
_logic("Not", "logical_not", "bitwise_not")


@emits("where.self", "where.ScalarSelf", "where.ScalarOther", "where.Scalar")
def _where(t: Trace, out: Tensor, condition: Tensor, a: Arg, b: Arg) -> Arg:
    condition = t.cast(condition, torch.bool)
    if out.dtype is torch.bool:
        a, b = t.cast(t.cast(a, torch.bool), torch.uint8), t.cast(t.cast(b, torch.bool), torch.uint8)
        return t.op("Cast", t.op("Where", condition, _u8(t, a), _u8(t, b)), to=9)
    return t.op("Where", condition, *_pair(t, out, a, b))


def _u8(t: Trace, item: Arg) -> Arg:
    return t.op("Cast", item, to=2) if isinstance(item, str) else item


@emits("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(t: Trace, out: Tensor, x: Tensor, mask: Tensor, value: Arg) -> Arg:
    return _where(t, out, mask, value, x)


# -- within bounds ------------------------------------------------------------------------------------


@emits("clamp", "clamp.Tensor", "hardtanh")
def _clamp(t: Trace, out: Tensor, x: Arg, low: Arg = None, high: Arg = None) -> Arg:
    """Of bounds that cross the upper one wins, as in torch."""
    x = t.cast(x, out.dtype)
    if low is not None:
        x = t.op("Max", x, t.cast(low, out.dtype))
    return x if high is None else t.op("Min", x, t.cast(high, out.dtype))


@emits("clamp_min", "clamp_min.Tensor")
def _clamp_min(t: Trace, out: Tensor, x: Arg, low: Arg) -> Arg:
    return _clamp(t, out, x, low)


@emits("clamp_max", "clamp_max.Tensor")
def _clamp_max(t: Trace, out: Tensor, x: Arg, high: Arg) -> Arg:
    return _clamp(t, out, x, None, high)


def _copies(*keys: str) -> None:
    @emits(*keys)
    def emit(t: Trace, out: Tensor, x: Tensor, *_: Any) -> Arg:
        return t.cast(x, out.dtype)


_copies("clone", "detach", "alias", "lift_fresh", "lift_fresh_copy", "contiguous", "_to_copy", "to.dtype",
        "to.dtype_layout", "to.device", "to.other", "_conj", "resolve_conj", "resolve_neg")  # fmt: skip
