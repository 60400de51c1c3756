"""Sums, means, largest elements and norms over axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hsnn_compiler.backends.host.table import NoFormError, emits
from hsnn_compiler.backends.host.tracing import Arg, Trace

Axes = int | Sequence[int] | None


def _axes(x: Tensor, axes: Axes) -> list[int]:
    if axes is None or (not isinstance(axes, int) and not len(axes)):
        return list(range(x.dim()))
    return sorted(axis % x.dim() for axis in ([axes] if isinstance(axes, int) else axes))


def _reduced(t: Trace, kind: str, x: Arg, axes: Sequence[int], keepdim: bool) -> str:
    return t.op(kind, x, t.ints(*axes), keepdims=int(keepdim))


@emits("sum", "sum.dim_IntList")
def _sum(t: Trace, out: Tensor, x: Tensor, axes: Axes = None, keepdim: bool = False, *_: Any) -> Arg:
    axes = None if isinstance(axes, torch.dtype) else axes
    return _reduced(t, "ReduceSum", t.cast(x, out.dtype), _axes(x, axes), bool(keepdim))


@emits("mean", "mean.dim")
def _mean(t: Trace, out: Tensor, x: Tensor, axes: Axes = None, keepdim: bool = False, *_: Any) -> Arg:
    axes = None if isinstance(axes, torch.dtype) else axes
    return _reduced(t, "ReduceMean", t.cast(x, out.dtype), _axes(x, axes), bool(keepdim))


@emits("amax")
def _amax(t: Trace, out: Tensor, x: Tensor, axes: Axes = None, keepdim: bool = False) -> Arg:
    return _reduced(t, "ReduceMax", x, _axes(x, axes), keepdim)


@emits("amin")
def _amin(t: Trace, out: Tensor, x: Tensor, axes: Axes = None, keepdim: bool = False) -> Arg:
    return _reduced(t, "ReduceMin", x, _axes(x, axes), keepdim)


@emits("max.dim")
def _max(t: Trace, out: Any, x: Tensor, axis: int, keepdim: bool = False) -> tuple[Arg, Arg]:
    where = t.op("ArgMax", x, axis=axis % x.dim(), keepdims=int(keepdim))
    return _reduced(t, "ReduceMax", x, [axis % x.dim()], keepdim), where


@emits("min.dim")
def _min(t: Trace, out: Any, x: Tensor, axis: int, keepdim: bool = False) -> tuple[Arg, Arg]:
    where = t.op("ArgMin", x, axis=axis % x.dim(), keepdims=int(keepdim))
    return _reduced(t, "ReduceMin", x, [axis % x.dim()], keepdim), where


@emits("prod.dim_int")
def _prod(t: Trace, out: Tensor, x: Tensor, axis: int, keepdim: bool = False, *_: Any) -> Arg:
    return _reduced(t, "ReduceProd", t.cast(x, out.dtype), [axis % x.dim()], keepdim)


def _variance(t: Trace, x: Tensor, axes: Axes, correction: float | None, keepdim: bool) -> tuple[str, str]:
    """Variance and mean."""
    over = _axes(x, axes)
    count = math.prod(x.shape[axis] for axis in over)
    if any(t.is_batch(x.shape[axis]) for axis in over):
        raise NoFormError("a variance over the samples")
    middle = _reduced(t, "ReduceMean", x, over, keepdim=True)
    apart = t.op("Sub", x, middle)
    mean = _reduced(t, "ReduceMean", t.op("Mul", apart, apart), over, keepdim)
    left = count - (1 if correction is None else correction)
    factor = torch.tensor(count / left if left > 0 else math.nan, dtype=x.dtype)
    return t.op("Mul", mean, factor), middle if keepdim else t.op("Squeeze", middle, t.ints(*over))


@emits("var.correction")
def _var(
    t: Trace, out: Tensor, x: Tensor, axes: Axes = None, correction: float | None = None, keepdim: bool = False
) -> Arg:
    return _variance(t, x, axes, correction, keepdim)[0]


@emits("std.correction")
def _std(
    t: Trace, out: Tensor, x: Tensor, axes: Axes = None, correction: float | None = None, keepdim: bool = False
) -> Arg:
    return t.op("Sqrt", _variance(t, x, axes, correction, keepdim)[0])


@emits("var_mean.correction")
def _var_mean(
    t: Trace, out: Any, x: Tensor, axes: Axes = None, correction: float | None = None, keepdim: bool = False
) -> tuple[Arg, Arg]:
    return _variance(t, x, axes, correction, keepdim)


@emits("std_mean.correction")
def _std_mean(
    t: Trace, out: Any, x: Tensor, axes: Axes = None, correction: float | None = None, keepdim: bool = False
) -> tuple[Arg, Arg]:
    variance, mean = _variance(t, x, axes, correction, keepdim)
    return t.op("Sqrt", variance), mean


@emits("linalg_vector_norm")
def _vector_norm(
    t: Trace, out: Tensor, x: Tensor, order: float = 2, axes: Axes = None, keepdim: bool = False, *_: Any
) -> Arg:
    return norm(t, x, x.dtype, order, _axes(x, axes), keepdim)


def norm(t: Trace, x: Arg, dtype: torch.dtype, order: float, axes: Sequence[int], keepdim: bool) -> str:
    """(sum |x|^order)^(1/order) over axes."""
    if order in (1, 2):
        return _reduced(t, "ReduceL1" if order == 1 else "ReduceL2", x, axes, keepdim)
    size = t.op("Abs", x)
    if math.isinf(order):
        return _reduced(t, "ReduceMax" if order > 0 else "ReduceMin", size, axes, keepdim)
    if order == 0:
        some = t.op("Cast", t.op("Cast", x, to=9), to=1)
        return _reduced(t, "ReduceSum", some, axes, keepdim)
    total = _reduced(t, "ReduceSum", t.op("Pow", size, t.cast(order, dtype)), axes, keepdim)
    return t.op("Pow", total, t.cast(1 / order, dtype))


@emits("norm.ScalarOpt_dim")
def _norm(t: Trace, out: Tensor, x: Tensor, order: float | None, axes: Axes, keepdim: bool = False) -> Arg:
    return norm(t, x, x.dtype, 2 if order is None else order, _axes(x, axes), keepdim)


@emits("cumsum")
def _cumsum(t: Trace, out: Tensor, x: Tensor, axis: int, *_: Any) -> Arg:
    return t.op("CumSum", t.cast(x, out.dtype), torch.tensor(axis % x.dim()))


@emits("cumprod")
def _cumprod(t: Trace, out: Tensor, x: Tensor, axis: int, *_: Any) -> Arg:
    """Products over the lower triangle: row k holds the first k + 1 factors, and ones."""
    axis, size = axis % x.dim(), x.shape[axis]
    if t.is_batch(size):
        raise NoFormError("a product over the samples")
    inside = torch.ones(size, size).tril().bool().reshape(size, size, *(1,) * (x.dim() - axis - 1))
    factors = t.op("Where", inside, t.op("Unsqueeze", t.cast(x, out.dtype), t.ints(axis)), t.cast(1, out.dtype))
    return _reduced(t, "ReduceProd", factors, [axis + 1], keepdim=False)
