"""Tables that tell the event kernel where the inputs of an output position lie, and their weights.

All synapses of a layer look at one row of bits per sample and step: every input map in C order, with
zero bits before and behind it that stand for the rows above and below the map. The receptive field of
an output position is a number of runs of bits, one per kernel row; the runs are put side by side into
64-bit *words*. Cut into *segments*, each of which one unaligned load finds, they look the same at
every position but for the columns that lie beside the map, which a mask per output column removes.
Bit i of word w has weight row ``64 * w + i``. A dense synapse is the case of a single position.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hsnn_compiler.kernels.synapses import DenseSynapse, Synapse
from hsnn_compiler.kernels.tables import ROWS, SEGMENT, Tables, on_lines
from hsnn_compiler.kernels.vectors import WORD
from hsnn_compiler.kernels.windows import window

NARROWEST = 16
"""Fewest lanes of an accumulator: one AVX-512 register of float32."""
NOTHING = np.empty(0, np.int16)
WRAP_SHIFT = 8
"""Left and right again: wraps 32-bit integers into 24 bits, as Loihi's convolutions do."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What the event kernel needs to know of the synapses, and where it expects their inputs.

    Attributes:
        tables: for the kernel.
        row_words: 64-bit words that hold the inputs of a sample at a step.
        places: for each synapse its first word.
    """

    tables: Tables
    row_words: int
    places: tuple[int, ...]


def make_plan(synapses: Sequence[Synapse], out_shape: tuple[int, ...], dtype: np.dtype, widest: int) -> Plan:
    """Tables for synapses that are all dense, or all convolutions onto the same map.

    Args:
        synapses: at least one.
        out_shape: of the population.
        dtype: of the weights; int32 sums are finished as Loihi does, each synapse on its own.
        widest: most lanes that an accumulator may have.
    """
    windows = [window(synapse) for synapse in synapses]
    rows, columns, channels = out_shape if len(out_shape) == 3 else (1, 1, out_shape[0])
    groups = windows[0].groups
    # Groups that do not fill their lanes would waste more than they save: then all blocks see all inputs.
    if any(each.groups != groups for each in windows) or channels // groups % NARROWEST:
        groups = 1
    segments: list[tuple[int, ...]] = []
    masks, parts, kernels, places = [], [], [], []
    row_words = words = 0
    for synapse, each in zip(synapses, windows, strict=True):
        start = row_words + -(min(each.first_bit, 0) // WORD)
        first_word, first_segment = words, len(segments)
        pieces = each.segments()
        kernel = np.zeros(((max(piece.slot for piece in pieces) // WORD + 1) * WORD, channels), each.kernel.dtype)
        for piece in pieces:
            word, shift = divmod(piece.slot, WORD)
            segments.append((start * WORD + piece.start, *each.steps, first_word + word, piece.length, shift))
            masks.append(each.masks(piece, columns, groups))
            rows_of_piece = each.kernel[piece.kernel_row, piece.offset : piece.offset + piece.length]
            kernel[piece.slot : piece.slot + piece.length] = rows_of_piece
        down, right = each.steps
        last_bit = max(segment[0] for segment in segments[first_segment:]) + (rows - 1) * down + (columns - 1) * right
        # A load of eight bytes may begin in the last word that holds a segment and end in the next.
        row_words = max(start + -(-each.size // WORD), last_bit // WORD + 2)
        places.append(start)
        kernels.append(kernel)
        words += len(kernel) // WORD
        parts.append((first_word, words, first_segment, len(segments), *_finish(synapse)))
    if dtype.kind == "f":
        parts = [(0, words, 0, len(segments), 0, 0)]
    lanes = _lanes(channels // groups, widest, exactly=groups > 1)
    blocks = np.arange(0, channels, lanes)
    kernel = np.concatenate(kernels)
    integers, unit = _narrow(kernels, dtype)
    tables = Tables(
        segments=np.array([segment[:SEGMENT] for segment in segments], np.int64),
        shifts=np.array([segment[SEGMENT] for segment in segments], np.uint64),
        masks=np.ascontiguousarray(np.stack(masks, 1)),
        parts=np.array(parts, np.int64),
        weights=_in_blocks(kernel, blocks, lanes, dtype),
        narrow=NOTHING if integers is None else _in_blocks(integers, blocks, lanes, np.dtype(np.int16)),
        unit=np.array([unit], dtype),
        blocks=blocks,
        channels=channels,
    )
    return Plan(tables, row_words, tuple(places))


def no_synapses(out_shape: tuple[int, ...], dtype: np.dtype) -> Tables:
    """Tables with which the event kernel runs neurons only, on currents from elsewhere."""
    _, columns, channels = out_shape if len(out_shape) == 3 else (1, 1, out_shape[0])
    return Tables(
        segments=np.empty((0, SEGMENT), np.int64),
        shifts=np.empty(0, np.uint64),
        masks=np.empty((1, 0, columns), np.uint64),
        parts=np.empty((0, 6), np.int64),
        weights=np.empty((1, 1, NARROWEST), dtype),
        narrow=NOTHING,
        unit=np.ones(1, dtype),
        blocks=np.zeros(1, np.int64),
        channels=channels,
    )


def _narrow(kernels: Sequence[np.ndarray], dtype: np.dtype) -> tuple[np.ndarray | None, float]:
    """Weight rows as 16-bit integers and their unit, a power of two; None if they, or any sums of them, are none.

    Then sums in 16 bits are exact, as they are in floating point: it is the same, bit for bit, in half the bytes.
    Weights are like this after a quantisation to eight bits.

    Args:
        kernels: [64 * words, channels] of each synapse; the sums of integers are kept apart.
        dtype: of the layer.
    """
    whole, unit = np.concatenate(kernels).astype(np.float64), 1.0
    if dtype.kind == "f":
        kernels = [whole]
        largest = np.abs(whole).max(initial=0)
        if not np.isfinite(largest):
            return None, 1.0
        exponent = math.frexp(largest)[1] - 15
        whole, unit = np.ldexp(whole, -exponent), math.ldexp(1.0, exponent)
        while (whole % 2 == 0).all() and whole.any():
            whole, unit = whole / 2, 2 * unit
        if (whole % 1).any() or unit < np.finfo(dtype).tiny:
            return None, 1.0
    ends = np.cumsum([len(kernel) for kernel in kernels])[:-1]
    for rows in np.split(whole, ends):
        if rows.clip(0).sum(0).max(initial=0) >= 2**15 or -rows.clip(None, 0).sum(0).min(initial=0) > 2**15:
            return None, 1.0
    return whole.astype(np.int16), unit


def _finish(synapse: Synapse) -> tuple[int, int]:
    """Shifts left and right that make of an int32 sum what Loihi makes of it."""
    if isinstance(synapse, DenseSynapse):
        return max(synapse.exponent, 0), max(-synapse.exponent, 0)
    return WRAP_SHIFT, WRAP_SHIFT


def _lanes(channels: int, widest: int, exactly: bool) -> int:
    """Width of the accumulator: few wasted lanes, and few blocks, as each looks at all active inputs."""
    widths = [NARROWEST]
    while widths[-1] < widest and not (exactly and channels % (2 * widths[-1])):
        widths.append(2 * widths[-1])
    # Looking up an active input costs about as much as adding to three registers.
    return min(widths, key=lambda width: -(-channels // width) * (width + 3 * NARROWEST))


def _in_blocks(kernel: np.ndarray, blocks: np.ndarray, lanes: int, dtype: np.dtype) -> np.ndarray:
    """Weight rows [64 * words, channels] as [blocks, 65 * words, lanes]; what is new is zero."""
    words = kernel.reshape(-1, WORD, kernel.shape[1])
    padded = np.pad(words, ((0, 0), (0, ROWS - WORD), (0, lanes))).reshape(-1, kernel.shape[1] + lanes)
    return on_lines(np.stack([padded[:, start : start + lanes] for start in blocks]).astype(dtype))
