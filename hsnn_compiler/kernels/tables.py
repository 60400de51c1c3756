"""What the event kernel is told of the synapses, as arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hsnn_compiler.kernels.vectors import LINE, WORD

ROWS = WORD + 1
"""Rows of weights per word of inputs: one per bit, and a row of zeros for no bit."""

SEGMENT = 5
"""Numbers that describe a segment."""


class Tables(NamedTuple):
    """Where the inputs of every output position lie, and their weights.

    Attributes:
        segments: [segments, `SEGMENT`] bit for the first position, its steps per output row and column, the word, and
            how many bits a segment has.
        shifts: [segments] uint64, position of the segment in its word.
        masks: [groups, segments, columns] uint64, which bits of a segment count.
        parts: [parts, 6] sums of their own: words from, to, segments from, to, shift of the sum left and right.
        weights: [blocks, 65 * words, lanes], see `ROWS`.
        narrow: the same as 16-bit integers, to be multiplied by the unit, if they are such and so are all their sums;
            else empty.
        unit: [1] of the layer's type.
        blocks: [blocks] first channel of each block of `lanes` channels, ascending; equally many per group.
        channels: of the output map.
    """

    segments: np.ndarray
    shifts: np.ndarray
    masks: np.ndarray
    parts: np.ndarray
    weights: np.ndarray
    narrow: np.ndarray
    unit: np.ndarray
    blocks: np.ndarray
    channels: int


def on_lines(array: np.ndarray) -> np.ndarray:
    """A copy that begins where a cache line begins, as NumPy's own arrays need not."""
    memory = np.empty(array.nbytes + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
