"""Choosing elements: by position, by order, by place in a triangle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from hsnn_compiler.backends.host.aten_shapes import cut, transposed
from hsnn_compiler.backends.host.table import NoFormError, emits, prepares
from hsnn_compiler.backends.host.tracing import Arg, Trace


@emits("index.Tensor", "_unsafe_index.Tensor")
def _index(t: Trace, out: Tensor, x: Tensor, where: Sequence[Tensor | None]) -> Arg:
    axes = [axis for axis, index in enumerate(where) if index is not None]
    found = [index for index in where if index is not None]
    is_block = axes == list(range(axes[0], axes[0] + len(axes)))
    if any(t.is_batch(x.shape[axis]) for axis in axes) and not all(isinstance(i, FakeTensor) for i in found):
        raise NoFormError("a choice among the samples")
    if len(axes) == 1:
        return t.op("Gather", x, found[0], axis=axes[0])
    if is_block and (flat := _grid(found)) is not None:
        chosen: Arg = x
        for axis, index in zip(axes, flat, strict=True):
            chosen = t.op("Gather", chosen, index, axis=axis)
        return t.reshape(chosen, out.shape)
    shape = torch.broadcast_shapes(*(index.shape for index in found))
    columns = [t.op("Unsqueeze", t.expand(i, i.shape, shape), t.ints(len(shape))) for i in found]
    others = [axis for axis in range(x.dim()) if axis not in axes]
    taken = t.op("GatherND", transposed(t, x, axes + others), t.op("Concat", *columns, axis=len(shape)))
    if not is_block:
        return taken
    start = axes[0]  # the new axes stand where the first of the old ones stood
    back = [len(shape) + k for k in range(start)] + list(range(len(shape)))
    return transposed(t, taken, back + [k for k in range(out.dim()) if k not in back])


@prepares("index.Tensor", "_unsafe_index.Tensor")
def _as_numbers(x: Tensor, indices: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """Masks among the indices as positions."""
    found: list[Tensor | None] = []
    for index in indices:
        if index is None or index.dtype not in (torch.bool, torch.uint8):
            found.append(None if index is None else index if isinstance(index, FakeTensor) else index.long())
        elif isinstance(index, FakeTensor):
            raise NoFormError("a choice by a mask that depends on the input")
        else:
            found += list(index.nonzero().unbind(1))
    return x, found


def _grid(indices: Sequence[Tensor]) -> list[Tensor] | None:
    """Positions along each axis, if together they are a grid of all of them (``ix_``); else None."""
    rank = max(index.dim() for index in indices)
    flat = []
    for k, index in enumerate(indices):
        shape = (1,) * (rank - index.dim()) + tuple(index.shape)
        if rank != len(indices) or isinstance(index, FakeTensor) or any(n > 1 and a != k for a, n in enumerate(shape)):
            return None
        flat.append(index.reshape(-1))
    return flat


@emits("index_select", "take_along_axis")
def _index_select(t: Trace, out: Tensor, x: Tensor, axis: int, index: Tensor) -> Arg:
    if t.is_batch(x.shape[axis]):
        raise NoFormError("a choice among the samples")
    return t.op("Gather", x, index, axis=axis % x.dim())


@emits("embedding")
def _embedding(t: Trace, out: Tensor, weight: Tensor, index: Tensor, *_: Any) -> Arg:
    return t.op("Gather", weight, index, axis=0)


@emits("gather")
def _gather(t: Trace, out: Tensor, x: Tensor, axis: int, index: Tensor, *_: Any) -> Arg:
    axis %= x.dim()
    found: Arg = x
    for other in range(x.dim()):  # an index may be shorter than what it chooses from
        if other != axis and index.shape[other] != x.shape[other]:
            found = cut(t, found, other, 0, index.shape[other])
    return t.op("GatherElements", found, index, axis=axis)


@emits("unfold")
def _unfold(t: Trace, out: Tensor, x: Tensor, axis: int, size: int, step: int) -> Arg:
    if t.is_batch(x.shape[axis]):
        raise NoFormError("a choice among the samples")
    axis %= x.dim()
    windows = np.arange(out.shape[axis])[:, None] * step + np.arange(size)
    found = t.op("Gather", x, windows.astype(np.int64), axis=axis)
    order = [k for k in range(x.dim() + 1) if k != axis + 1]
    return transposed(t, found, [*order, axis + 1])


@emits("col2im")
def _col2im(
    t: Trace, out: Tensor, x: Tensor, size: Sequence[int], kernel: Sequence[int], dilation: Sequence[int],
    padding: Sequence[int], stride: Sequence[int],
) -> Arg:  # fmt: skip
    pads = [*padding, *padding]
    return t.op(
        "Col2Im", x, t.ints(*size), t.ints(*kernel), dilations=list(dilation), pads=pads, strides=list(stride)
    )  # fmt: skip


# -- order --------------------------------------------------------------------------------------------


def ordered(t: Trace, x: Arg, count: int, axis: int, largest: bool) -> tuple[str, ...]:
    """The `count` largest (or smallest) elements along an axis in order, and where they were."""
    return t.ops("TopK", 2, x, t.ints(count), axis=axis, largest=int(largest), sorted=1)


@emits("topk")
def _topk(
    t: Trace, out: Any, x: Tensor, count: int, axis: int = -1, largest: bool = True, in_order: bool = True
) -> tuple[Arg, ...]:
    return ordered(t, x, count, axis % x.dim(), largest)


@emits("sort")
def _sort(t: Trace, out: Any, x: Tensor, axis: int = -1, descending: bool = False) -> tuple[Arg, ...]:
    return ordered(t, x, x.shape[axis], axis % x.dim(), descending)


@emits("sort.stable")
def _stable_sort(
    t: Trace, out: Any, x: Tensor, stable: bool | None, axis: int = -1, descending: bool = False
) -> tuple[Arg, ...]:
    return _sort(t, out, x, axis, descending)  # TopK names the first of equal elements first


@emits("kthvalue")
def _kthvalue(t: Trace, out: Any, x: Tensor, k: int, axis: int = -1, keepdim: bool = False) -> tuple[Arg, ...]:
    axis %= x.dim()
    last = [cut(t, found, axis, k - 1, k) for found in ordered(t, x, k, axis, largest=False)]
    return tuple(last if keepdim else [t.op("Squeeze", found, t.ints(axis)) for found in last])


@emits("median.dim")
def _median(t: Trace, out: Any, x: Tensor, axis: int = -1, keepdim: bool = False) -> tuple[Arg, ...]:
    return _kthvalue(t, out, x, (x.shape[axis] + 1) // 2, axis, keepdim)


# -- triangles ----------------------------------------------------------------------------------------


@emits("triu")
def _triu(t: Trace, out: Tensor, x: Tensor, k: int = 0) -> Arg:
    return _in_triangle(t, out, x, torch.triu(torch.ones(tuple(x.shape[-2:])), k))


@emits("tril")
def _tril(t: Trace, out: Tensor, x: Tensor, k: int = 0) -> Arg:
    return _in_triangle(t, out, x, torch.tril(torch.ones(tuple(x.shape[-2:])), k))


def _in_triangle(t: Trace, out: Tensor, x: Tensor, inside: Tensor) -> Arg:
    if any(map(t.is_batch, x.shape[-2:])):
        raise NoFormError("a triangle over the samples")
    if out.dtype is torch.bool:
        return t.op("And", x, inside.bool())
    return t.op("Where", inside.bool(), x, t.cast(0, out.dtype))


@emits("diagonal")
def _diagonal(t: Trace, out: Tensor, x: Tensor, offset: int = 0, a: int = 0, b: int = 1) -> Arg:
    a, b = a % x.dim(), b % x.dim()
    if t.is_batch(x.shape[a]) or t.is_batch(x.shape[b]):
        raise NoFormError("a diagonal over the samples")
    others = [k for k in range(x.dim()) if k not in (a, b)]
    rows, columns = x.shape[a], x.shape[b]
    places = torch.arange(rows * columns).reshape(rows, columns).diagonal(offset)
    flat = t.reshape(transposed(t, x, [*others, a, b]), [*(x.shape[k] for k in others), rows * columns])
    return t.op("Gather", flat, places, axis=len(others))
