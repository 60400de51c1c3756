"""Shapes: what only moves, cuts, joins or repeats numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hsnn_compiler.backends.host.table import NoFormError, emits
from hsnn_compiler.backends.host.tracing import Arg, Trace, onnx_type

END = 2**63 - 1


@emits("view", "_unsafe_view", "reshape", "view_copy", "_reshape_alias", "_reshape_copy", "squeeze", "squeeze.dim",
       "squeeze.dims", "unsqueeze", "flatten.using_ints", "unflatten.int")  # fmt: skip
def _reshape(t: Trace, out: Tensor, x: Tensor, *_: Any) -> Arg:
    return x if out.shape == x.shape else t.reshape(x, out.shape)


@emits("permute")
def _permute(t: Trace, out: Tensor, x: Tensor, axes: Sequence[int]) -> Arg:
    return transposed(t, x, [axis % out.dim() for axis in axes])


def transposed(t: Trace, x: Arg, axes: Sequence[int]) -> Arg:
    """Axes in another order."""
    return x if list(axes) == sorted(axes) else t.op("Transpose", x, perm=list(axes))


@emits("transpose.int", "transpose_copy.int")
def _transpose(t: Trace, out: Tensor, x: Tensor, a: int, b: int) -> Arg:
    axes = list(range(out.dim()))
    if axes:
        axes[a], axes[b] = axes[b], axes[a]
    return transposed(t, x, axes)


@emits("t")
def _t(t: Trace, out: Tensor, x: Tensor) -> Arg:
    return transposed(t, x, list(range(out.dim()))[::-1])


@emits("expand", "broadcast_to", "expand_as")
def _expand(t: Trace, out: Tensor, x: Tensor, *_: Any) -> Arg:
    return t.expand(x, x.shape, out.shape)


@emits("repeat")
def _repeat(t: Trace, out: Tensor, x: Tensor, times: Sequence[int]) -> Arg:
    shape = (1,) * (len(times) - x.dim()) + tuple(x.shape)
    given: Arg = x if len(shape) == x.dim() else t.reshape(x, shape)
    return t.op("Tile", given, t.sizes(times))


def cut(t: Trace, x: Arg, axis: int, start: int, stop: int, step: int = 1) -> str:
    """Part of an axis, as Python slices it."""
    return t.op("Slice", x, t.ints(start), t.ints(stop), t.ints(axis), t.ints(step))


@emits("slice.Tensor")
def _slice(
    t: Trace, out: Tensor, x: Tensor, axis: int = 0, start: int | None = None, stop: int | None = None, step: int = 1
) -> Arg:
    if out.shape == x.shape and step == 1:
        return x
    if t.is_batch(x.shape[axis]):
        raise NoFormError("a choice among the samples")
    return cut(t, x, axis % x.dim(), start or 0, END if stop is None else stop, step)


@emits("select.int")
def _select(t: Trace, out: Tensor, x: Tensor, axis: int, index: int) -> Arg:
    if t.is_batch(x.shape[axis]):
        raise NoFormError("a choice among the samples")
    return t.op("Gather", x, torch.tensor(index), axis=axis % x.dim())


@emits("unbind.int")
def _unbind(t: Trace, out: Sequence[Tensor], x: Tensor, axis: int = 0) -> list[Arg]:
    return [_select(t, part, x, axis, i) for i, part in enumerate(out)]


@emits("split.Tensor", "split_with_sizes", "chunk", "unsafe_split.Tensor", "unsafe_chunk", "tensor_split.sections",
       "tensor_split.indices", "split.sizes")  # fmt: skip
def _split(t: Trace, out: Sequence[Tensor], x: Tensor, how: Any, axis: int = 0) -> list[Arg]:
    if t.is_batch(x.shape[axis]) and len(out) > 1:
        raise NoFormError("a choice among the samples")
    parts: list[Arg] = []
    start = 0
    for part in out:
        stop = start + part.shape[axis]
        parts.append(x if len(out) == 1 else cut(t, x, axis % x.dim(), start, stop))
        start = stop
    return parts


@emits("cat", "concat", "concatenate")
def _cat(t: Trace, out: Tensor, parts: Sequence[Tensor], axis: int = 0) -> Arg:
    return joined(t, [t.cast(part, out.dtype) for part in parts if tuple(part.shape) != (0,)], axis % out.dim())


def joined(t: Trace, parts: Sequence[Arg], axis: int) -> Arg:
    """Values one after the other along an axis."""
    return parts[0] if len(parts) == 1 else t.op("Concat", *parts, axis=axis)


@emits("stack")
def _stack(t: Trace, out: Tensor, parts: Sequence[Tensor], axis: int = 0) -> Arg:
    axis %= out.dim()
    return joined(t, [t.op("Unsqueeze", t.cast(part, out.dtype), t.ints(axis)) for part in parts], axis)


@emits("flip")
def _flip(t: Trace, out: Tensor, x: Tensor, axes: Sequence[int]) -> Arg:
    found: Arg = x
    for axis in axes:
        found = cut(t, found, axis % x.dim(), -1, -END, -1)
    return found


@emits("roll")
def _roll(t: Trace, out: Tensor, x: Tensor, shifts: Sequence[int], axes: Sequence[int] = ()) -> Arg:
    if not axes:
        raise NoFormError("a roll over all axes")
    found: Arg = x
    for shift, axis in zip(shifts, axes, strict=True):
        if t.is_batch(x.shape[axis]):
            raise NoFormError("a choice among the samples")
        at = -shift % x.shape[axis]
        if at:
            axis %= x.dim()
            found = t.op("Concat", cut(t, found, axis, at, END), cut(t, found, axis, 0, at), axis=axis)
    return found


# -- padding ------------------------------------------------------------------------------------------


def _amounts(rank: int, pad: Sequence[int]) -> list[int]:
    """Padding as ONNX writes it: before every axis, then after; torch names the last axis first."""
    before, after = [0] * rank, [0] * rank
    for i in range(len(pad) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = pad[2 * i], pad[2 * i + 1]
    return before + after


@emits("constant_pad_nd")
def _constant_pad(t: Trace, out: Tensor, x: Tensor, pad: Sequence[int], value: float = 0) -> Arg:
    return t.op("Pad", x, t.ints(*_amounts(x.dim(), pad)), t.cast(value, out.dtype), mode="constant")


@emits("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
def _reflection_pad(t: Trace, out: Tensor, x: Tensor, pad: Sequence[int]) -> Arg:
    return t.op("Pad", x, t.ints(*_amounts(x.dim(), pad)), mode="reflect")


@emits("replication_pad1d", "replication_pad2d", "replication_pad3d")
def _replication_pad(t: Trace, out: Tensor, x: Tensor, pad: Sequence[int]) -> Arg:
    return t.op("Pad", x, t.ints(*_amounts(x.dim(), pad)), mode="edge")


@emits("_pad_circular")
def _circular_pad(t: Trace, out: Tensor, x: Tensor, pad: Sequence[int]) -> Arg:
    if min(pad) < 0:
        raise NoFormError("a circular padding that cuts")
    found: Arg = x
    for i in range(len(pad) // 2):
        axis, before, after = x.dim() - 1 - i, pad[2 * i], pad[2 * i + 1]
        parts = [cut(t, found, axis, x.shape[axis] - before, END)] if before else []
        parts.append(found)
        parts += [cut(t, found, axis, 0, after)] if after else []
        found = joined(t, parts, axis)
    return found


# -- made of one number -------------------------------------------------------------------------------


def _filled(value: float, *keys: str) -> None:
    @emits(*keys)
    def emit(t: Trace, out: Tensor, *_: Any) -> Arg:
        return t.expand(torch.full((1,) * out.dim(), value, dtype=out.dtype), (1,) * out.dim(), out.shape)


_filled(0, "zeros", "zeros_like", "new_zeros", "empty.memory_format", "empty_like", "new_empty")
_filled(1, "ones", "ones_like", "new_ones")


@emits("full", "full_like", "new_full")
def _full(t: Trace, out: Tensor, like: Any, value: Any, *rest: Any) -> Arg:
    if isinstance(value, (list, tuple)):
        value = rest[0]  # new_full names the size first
    return t.expand(torch.full((1,) * out.dim(), value, dtype=out.dtype), (1,) * out.dim(), out.shape)


@emits("arange", "arange.start", "arange.start_step")
def _arange(t: Trace, out: Tensor, *args: Any) -> Arg:
    """0, 1, ... over the samples."""
    if args[0] != out.shape[0] and args[:2] != (0, out.shape[0]):
        raise NoFormError("numbers that count the samples otherwise than from zero")
    length = t.op("Squeeze", t.sizes(out.shape), t.ints(0))
    whole = t.op("Range", torch.tensor(0), length, torch.tensor(1))
    return whole if out.dtype is torch.int64 else t.op("Cast", whole, to=onnx_type(out.dtype))
