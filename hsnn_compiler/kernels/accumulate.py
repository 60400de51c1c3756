"""Synaptic sums of one row of output positions: the weight rows of active inputs, added up in registers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from hsnn_compiler.kernels.tables import ROWS, SEGMENT
from hsnn_compiler.kernels.vectors import (
    Pointer,
    add,
    ahead,
    bits_along,
    bits_at,
    bits_near,
    first_bit,
    load,
    masked,
    scale,
    shift,
    store,
    widen,
)

LANES = 8
"""Output positions whose inputs are looked up together."""
GOOD_BITS = 57
"""Of a word that begins at any bit, and is loaded from any byte."""


class Pointers(NamedTuple):
    """The `Tables` and the scratch memory of a running kernel, without reference counts.

    Attributes:
        segments, shifts, masks, parts, weights, narrow, unit, blocks, channels: as in `Tables`.
        segment_count, groups, columns, part_count, depth, block_count: their sizes; depth is rows of weights.
        words: [words, columns] receptive fields of a row of positions.
        sums: [columns * channels, and lanes to spare] the result. A block writes all its lanes, also those
            beyond the last channel, over the next column: what belongs there is written later, so the last comes first.
    """

    segments: Pointer
    shifts: Pointer
    masks: Pointer
    parts: Pointer
    weights: Pointer
    narrow: Pointer
    unit: Pointer
    blocks: Pointer
    channels: int
    segment_count: int
    groups: int
    columns: int
    part_count: int
    depth: int
    block_count: int
    words: Pointer
    sums: Pointer


def _compiled(function: Any, *numbers: int) -> Any:
    """`njit`, under a name that says what these numbers are.

    The linker knows a compiled function by its qualified name, its types, and a number that counts up as a process
    compiles. Two processes can give two functions made by one factory the same number; what they have kept on disk is
    then loaded into a third one, and there one function stands for both.
    """
    function.__qualname__ = "_".join([function.__qualname__, *map(str, numbers)])
    return njit(function)


def _binary(width: int, unasked: int, at_once: int) -> Any:
    """Accumulator of so many lanes for inputs of 0 and 1.

    The first `unasked` active inputs of a word are added without asking whether there are any, the others
    `at_once`; for those that are missing it is the row of zeros behind the word's 64. While rows are narrow, a
    branch that is guessed wrong costs more. The numbers were found by trying, at activities of 2 to 30 %.
    """

    def binary(p: Pointers, first_block: int, last_block: int, bias: Pointer) -> None:
        sums, zero = p.sums, load(p.weights, (p.depth - 1) * width, width)
        for number in range(last_block - first_block):
            block = last_block - 1 - number
            channel, rows = p.blocks[block], ahead(p.weights, block * p.depth * width)
            for part in range(p.part_count):
                first_word, last_word = p.parts[6 * part], p.parts[6 * part + 1]
                up, down = np.int32(p.parts[6 * part + 4]), np.int32(p.parts[6 * part + 5])
                before = ahead(sums if part else bias, channel)
                for column in range(p.columns):
                    total = zero
                    for word in range(first_word, last_word):
                        active, here = p.words[word * p.columns + column], ahead(rows, word * ROWS * width)
                        for _ in range(unasked):
                            total = add(total, load(here, first_bit(active) * width, width))
                            active &= active - np.uint64(1)
                        while active != 0:
                            for _ in range(at_once):
                                total = add(total, load(here, first_bit(active) * width, width))
                                active &= active - np.uint64(1)
                    at = column * p.channels
                    store(sums, channel + at, add(shift(total, up, down), load(before, at, width)))

    return _compiled(binary, width, unasked, at_once)


def _narrow(width: int, unasked: int, at_once: int) -> Any:
    """As `_binary`, for weights that are 16-bit integers times a unit, and whose sums are, too: half the bytes."""

    def narrow(p: Pointers, first_block: int, last_block: int, bias: Pointer) -> None:
        sums, unit, zero = p.sums, p.unit[0], load(p.narrow, (p.depth - 1) * width, width)
        for number in range(last_block - first_block):
            block = last_block - 1 - number
            channel, rows = p.blocks[block], ahead(p.narrow, block * p.depth * width)
            for part in range(p.part_count):
                first_word, last_word = p.parts[6 * part], p.parts[6 * part + 1]
                up, down = np.int32(p.parts[6 * part + 4]), np.int32(p.parts[6 * part + 5])
                before = ahead(sums if part else bias, channel)
                for column in range(p.columns):
                    total = zero
                    for word in range(first_word, last_word):
                        active, here = p.words[word * p.columns + column], ahead(rows, word * ROWS * width)
                        for _ in range(unasked):
                            total = add(total, load(here, first_bit(active) * width, width))
                            active &= active - np.uint64(1)
                        while active != 0:
                            for _ in range(at_once):
                                total = add(total, load(here, first_bit(active) * width, width))
                                active &= active - np.uint64(1)
                    at = column * p.channels
                    wide = scale(shift(widen(total, sums), up, down), unit)
                    store(sums, channel + at, add(wide, load(before, at, width)))

    return _compiled(narrow, width, unasked, at_once)


def _graded(width: int) -> Any:
    """Accumulator of so many lanes for inputs with payloads."""

    def graded(p: Pointers, bias: Pointer, bits: Pointer, row: int, payload: Pointer) -> None:
        weights, sums = p.weights, p.sums
        zero = load(weights, (p.depth - 1) * width, width)
        for column in range(p.columns):
            for part in range(p.part_count):
                for block in range(p.block_count):
                    total = zero
                    group = block * p.groups // p.block_count
                    for segment in range(p.parts[6 * part + 2], p.parts[6 * part + 3]):
                        at = SEGMENT * segment
                        start = p.segments[at] + row * p.segments[at + 1] + column * p.segments[at + 2]
                        line = block * p.depth + p.segments[at + 3] * ROWS + np.int64(p.shifts[segment])
                        mask = p.masks[(group * p.segment_count + segment) * p.columns + column]
                        active = bits_at(bits, start) & mask
                        while active != 0:
                            bit = first_bit(active)
                            total = add(total, scale(load(weights, (line + bit) * width, width), payload[start + bit]))
                            active &= active - np.uint64(1)
                    total = shift(total, np.int32(p.parts[6 * part + 4]), np.int32(p.parts[6 * part + 5]))
                    at = column * p.channels + p.blocks[block]
                    store(sums, at, add(total, load(sums if part else bias, at, width)))

    return _compiled(graded, width)


_narrow_16, _narrow_32, _narrow_64 = _narrow(16, 3, 4), _narrow(32, 3, 4), _narrow(64, 2, 4)
_narrow_128, _narrow_256 = _narrow(128, 1, 2), _narrow(256, 1, 1)
_binary_16, _graded_16 = _binary(16, 3, 4), _graded(16)
_binary_32, _graded_32 = _binary(32, 2, 4), _graded(32)
_binary_64, _graded_64 = _binary(64, 1, 2), _graded(64)
_binary_128, _graded_128 = _binary(128, 0, 1), _graded(128)
_binary_256, _graded_256 = _binary(256, 0, 1), _graded(256)


@njit
def _look(p: Pointers, group: int, bits: Pointer, row: int) -> None:
    """Put together the words of all positions of an output row."""
    words, columns = p.words, p.columns
    whole = columns // LANES * LANES
    for at in range(columns * (p.depth // ROWS)):
        words[at] = np.uint64(0)
    for segment in range(p.segment_count):
        found_at = ahead(p.segments, SEGMENT * segment)
        start, step, up = found_at[0] + row * found_at[1], found_at[2], p.shifts[segment]
        goal = ahead(words, found_at[3] * columns)
        masks = ahead(p.masks, (group * p.segment_count + segment) * columns)
        if (LANES - 1) * step + found_at[4] <= GOOD_BITS:
            for column in range(0, whole, LANES):
                found = masked(bits_near(bits, start + column * step, step, LANES), load(masks, column, LANES), up)
                store(goal, column, add(found, load(goal, column, LANES)))  # of bits apart from each other
        else:
            for column in range(0, whole, LANES):
                found = masked(bits_along(bits, start + column * step, step, LANES), load(masks, column, LANES), up)
                store(goal, column, add(found, load(goal, column, LANES)))
        for column in range(whole, columns):
            goal[column] |= (bits_at(bits, start + column * step) & masks[column]) << up


@njit
def sum_row(
    p: Pointers,
    lanes: int,
    is_narrow: bool,
    bias: Pointer,
    bits: Pointer,
    row: int,
    payload: Pointer,
    is_graded: bool,
) -> None:
    """Sums of all synapses, and the bias, of one row of output positions at one step, into ``p.sums``.

    Args:
        p: as there.
        lanes: of the weights.
        is_narrow: whether there are narrow ones.
        bias: [columns * channels, and lanes to spare].
        bits: [row words] uint64, the inputs of the sample at the step.
        row: of the output map.
        payload: [64 * row words] the value of every input; looked at only if `is_graded`.
    """
    if is_graded:
        if lanes == 16:
            _graded_16(p, bias, bits, row, payload)
        elif lanes == 32:
            _graded_32(p, bias, bits, row, payload)
        elif lanes == 64:
            _graded_64(p, bias, bits, row, payload)
        elif lanes == 128:
            _graded_128(p, bias, bits, row, payload)
        else:
            _graded_256(p, bias, bits, row, payload)
        return
    for group in range(p.groups):
        first, last = group * p.block_count // p.groups, (group + 1) * p.block_count // p.groups
        _look(p, group, bits, row)
        if is_narrow:
            if lanes == 16:
                _narrow_16(p, first, last, bias)
            elif lanes == 32:
                _narrow_32(p, first, last, bias)
            elif lanes == 64:
                _narrow_64(p, first, last, bias)
            elif lanes == 128:
                _narrow_128(p, first, last, bias)
            else:
                _narrow_256(p, first, last, bias)
        elif lanes == 16:
            _binary_16(p, first, last, bias)
        elif lanes == 32:
            _binary_32(p, first, last, bias)
        elif lanes == 64:
            _binary_64(p, first, last, bias)
        elif lanes == 128:
            _binary_128(p, first, last, bias)
        else:
            _binary_256(p, first, last, bias)
