"""Vector registers and bit masks for compiled kernels, as numba intrinsics.

Numba leaves it to LLVM to find vectors in loops, and LLVM cannot keep an accumulator in registers
over a loop whose loads might alias it. A `Lanes` value is an LLVM vector of any width, e.g. 256
float32, which LLVM spreads over as many machine registers as it takes (16 with AVX-512).
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding  # type: ignore[import-untyped]
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.extending import register_model
from numba.np.arrayobj import make_array

intrinsic: Any = extending.intrinsic  # its declared type asks callers for the typing context, too

WORD = 64
"""Signals are looked at in words of so many bits."""
LINE = 64
"""Bytes of a cache line."""


class Lanes(types.Type):
    """The numba type of a vector of `width` numbers."""

    def __init__(self, dtype: types.Type, width: int) -> None:
        self.dtype, self.width = dtype, width
        super().__init__(name=f"Lanes({dtype}, {width})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Lanes) -> None:
        super().__init__(manager, fe_type, ir.VectorType(manager[fe_type.dtype].get_value_type(), fe_type.width))


Pointer = Any
"""For annotations: the numba type ``CPointer``. ``p[i]`` counts no references and knows no negative indices."""


def _vector_pointer(
    context: Any, builder: ir.IRBuilder, dtype: types.Type, pointer: ir.Value, index: ir.Value, width: int
) -> tuple[ir.Value, int]:
    """Pointer to `width` elements from `index` on, and the alignment that can be relied on."""
    element = context.get_value_type(dtype)
    start = builder.gep(pointer, [index])
    return builder.bitcast(start, ir.VectorType(element, width).as_pointer()), context.get_abi_sizeof(element)


def _splat(builder: ir.IRBuilder, value: ir.Value, width: int) -> ir.Value:
    vector = ir.VectorType(value.type, width)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
    order = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), order)


@intrinsic
def pointer(typingctx: Any, array: Any) -> Any:
    """To the first element of a contiguous array that somebody else keeps alive."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return make_array(array)(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), codegen


def _ramp(builder: ir.IRBuilder, step: ir.Value, width: int) -> ir.Value:
    """0, `step`, twice `step`, and so on."""
    lanes = ir.VectorType(step.type, width)
    return builder.mul(_splat(builder, step, width), ir.Constant(lanes, list(range(width))))


@intrinsic
def at(typingctx: Any, address: Any, like: Any) -> Any:
    """A pointer to an address, int64, of numbers of the same type as `like`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(like)(types.int64, like), codegen


@intrinsic
def records(typingctx: Any, address: Any) -> Any:
    """The same for `numba.carray`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


@intrinsic
def fetch_add(typingctx: Any, start: Any, index: Any, number: Any) -> Any:
    """Add to an int64 behind a pointer that other threads add to as well; returns what it was before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", builder.gep(args[0], [args[1]]), args[2], "seq_cst")

    return types.int64(start, types.intp, types.int64), codegen


@intrinsic
def ahead(typingctx: Any, start: Any, count: Any) -> Any:
    """A pointer `count` elements further."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return start(start, types.intp), codegen


@intrinsic
def aligned(typingctx: Any, start: Any) -> Any:
    """The next address at which a cache line begins: a vector across two lines takes two loads."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = ir.IntType(64)
        up = builder.add(builder.ptrtoint(args[0], address), address(LINE - 1))
        return builder.inttoptr(builder.and_(up, address(-LINE)), args[0].type)

    return start(start), codegen


@intrinsic(prefer_literal=True)
def load(typingctx: Any, start: Any, index: Any, width: Any) -> Any:
    """`width` (a literal) consecutive elements behind a pointer, from `index` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, align = _vector_pointer(context, builder, start.dtype, args[0], args[1], width.literal_value)
        return builder.load(source, align=align)

    return Lanes(start.dtype, width.literal_value)(start, types.intp, width), codegen


@intrinsic
def store(typingctx: Any, start: Any, index: Any, lanes: Any) -> Any:
    """Write all lanes behind a pointer, from `index` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        goal, align = _vector_pointer(context, builder, start.dtype, args[0], args[1], lanes.width)
        builder.store(args[2], goal, align=align)
        return context.get_dummy_value()

    return types.void(start, types.intp, lanes), codegen


@intrinsic
def add(typingctx: Any, left: Any, right: Any) -> Any:
    """Lane by lane; integers wrap."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(*args) if isinstance(left.dtype, types.Float) else builder.add(*args)

    return left(left, right), codegen


@intrinsic
def scale(typingctx: Any, lanes: Any, factor: Any) -> Any:
    """Every lane times one number of the same type; integers wrap."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        factors = _splat(builder, args[1], lanes.width)
        is_float = isinstance(lanes.dtype, types.Float)
        return builder.fmul(args[0], factors) if is_float else builder.mul(args[0], factors)

    return lanes(lanes, lanes.dtype), codegen


@intrinsic
def widen(typingctx: Any, lanes: Any, like: Any) -> Any:
    """Lanes of signed integers as lanes of what `like` points to."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = context.get_value_type(signature.return_type)
        is_float = isinstance(like.dtype, types.Float)
        return builder.sitofp(args[0], wide) if is_float else builder.sext(args[0], wide)

    return Lanes(like.dtype, lanes.width)(lanes, like), codegen


@intrinsic
def shift(typingctx: Any, lanes: Any, left: Any, right: Any) -> Any:
    """Integers: ``(x << left) >> right`` in the lane's own width (int32), `left` and `right` int32; floats: as is."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if isinstance(lanes.dtype, types.Float):
            return args[0]
        up, down = (_splat(builder, amount, lanes.width) for amount in args[1:])
        return builder.ashr(builder.shl(args[0], up), down)

    return lanes(lanes, types.int32, types.int32), codegen


@intrinsic
def nonzero_bits(typingctx: Any, start: Any, index: Any) -> Any:
    """Which of the 64 elements behind a pointer, from `index` on, are not 0: uint64, the first in the lowest bit."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, align = _vector_pointer(context, builder, start.dtype, args[0], args[1], WORD)
        value = builder.load(source, align=align)
        zero = ir.Constant(value.type, None)
        if isinstance(start.dtype, types.Float):
            mask = builder.fcmp_unordered("!=", value, zero)
        else:
            mask = builder.icmp_unsigned("!=", value, zero)
        return builder.bitcast(mask, ir.IntType(WORD))

    return types.uint64(start, types.intp), codegen


@intrinsic
def any_above_one(typingctx: Any, start: Any, index: Any) -> Any:
    """Whether any of the 64 unsigned integers behind a pointer, from `index` on, is more than 1."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if isinstance(start.dtype, types.Float):  # asked of bytes only, but compiled for every type
            return ir.IntType(1)(0)
        source, align = _vector_pointer(context, builder, start.dtype, args[0], args[1], WORD)
        value = builder.load(source, align=align)
        one = ir.Constant(value.type, [1] * WORD)
        mask = builder.bitcast(builder.icmp_unsigned(">", value, one), ir.IntType(WORD))
        return builder.icmp_unsigned("!=", mask, ir.IntType(WORD)(0))

    return types.boolean(start, types.intp), codegen


@intrinsic
def bits_at(typingctx: Any, words: Any, bit: Any) -> Any:
    """Bits from `bit` on, counted from a pointer to uint64: at least 57 good ones, uint64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte = builder.gep(builder.bitcast(args[0], cgutils.voidptr_t), [builder.ashr(args[1], ir.IntType(64)(3))])
        value = builder.load(builder.bitcast(byte, ir.IntType(64).as_pointer()), align=1)
        return builder.lshr(value, builder.and_(args[1], ir.IntType(64)(7)))

    return types.uint64(words, types.intp), codegen


@intrinsic(prefer_literal=True)
def bits_along(typingctx: Any, words: Any, bit: Any, step: Any, width: Any) -> Any:
    """`bits_at` for `width` (a literal) positions, each `step` bits behind the one before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        low = builder.bitcast(args[0], cgutils.voidptr_t)
        bytes_ = ir.Constant(ir.VectorType(word, width.literal_value), ir.Undefined)
        at = args[1]
        for lane in range(width.literal_value):
            place = builder.bitcast(builder.gep(low, [builder.ashr(at, word(3))]), word.as_pointer())
            bytes_ = builder.insert_element(bytes_, builder.load(place, align=1), ir.IntType(32)(lane))
            at = builder.add(at, args[2])
        lanes = width.literal_value
        within = builder.add(_splat(builder, args[1], lanes), _ramp(builder, args[2], lanes))
        return builder.lshr(bytes_, builder.and_(within, _splat(builder, word(7), lanes)))

    return Lanes(types.uint64, width.literal_value)(words, types.intp, types.intp, width), codegen


@intrinsic(prefer_literal=True)
def bits_near(typingctx: Any, words: Any, bit: Any, step: Any, width: Any) -> Any:
    """`bits_along`, where all bits that count lie within 57."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte = builder.gep(builder.bitcast(args[0], cgutils.voidptr_t), [builder.ashr(args[1], ir.IntType(64)(3))])
        value = builder.load(builder.bitcast(byte, ir.IntType(64).as_pointer()), align=1)
        value = builder.lshr(value, builder.and_(args[1], ir.IntType(64)(7)))
        return builder.lshr(_splat(builder, value, width.literal_value), _ramp(builder, args[2], width.literal_value))

    return Lanes(types.uint64, width.literal_value)(words, types.intp, types.intp, width), codegen


@intrinsic
def masked(typingctx: Any, lanes: Any, masks: Any, left: Any) -> Any:
    """``(lanes & masks) << left`` of uint64, with one number for all to the left."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.shl(builder.and_(args[0], args[1]), _splat(builder, args[2], lanes.width))

    return lanes(lanes, lanes, types.uint64), codegen


@intrinsic
def first_bit(typingctx: Any, word: Any) -> Any:
    """Position of the lowest set bit of a uint64; 64 if there is none."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.IntType(1)(0))

    return types.intp(types.uint64), codegen


@intrinsic
def bit_count(typingctx: Any, word: Any) -> Any:
    """Number of set bits of a uint64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.intp(types.uint64), codegen


def widest(dtype: np.dtype) -> int:
    """Lanes that fit the machine's vector registers, of which half hold an accumulator."""
    features = llvmlite.binding.get_host_cpu_features()
    bits, count = (512, 32) if features.get("avx512f") else (256, 16) if features.get("avx2") else (128, 16)
    return bits // (8 * dtype.itemsize) * count // 2
