"""Receptive fields as runs of bits: where they lie in an input map, and which of their bits count."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hsnn_compiler.kernels.synapses import DenseSynapse, Synapse
from hsnn_compiler.kernels.vectors import WORD

UNALIGNED = WORD - 7
"""Bits that a load of eight bytes surely holds, wherever in its first byte they begin."""


@dataclass(frozen=True, eq=False)
class Segment:
    """Consecutive bits of a receptive field that one load finds.

    Attributes:
        start: first bit of the segment for the output position (0, 0), counted from the map's first bit.
        length: in bits.
        kernel_row, offset: where in the receptive field it begins, in rows and in bits of a row.
        slot: where in the words of the synapse its first bit goes.
    """

    start: int
    length: int
    kernel_row: int
    offset: int
    slot: int


@dataclass(frozen=True, eq=False)
class Window:
    """How the receptive field of one synapse moves over its map.

    Attributes:
        width, channels: of the map, with `height` rows.
        kernel: [kernel rows, bits of a run, out channels]. Between the taps of a dilated kernel, and for
            channels of other groups, it is zero.
        stride: steps of the field (rows, columns) per output position.
        origin: row and column where the field of position (0, 0) begins; negative within padding.
        row_step, column_step: rows and columns of the map from tap to tap.
        groups: groups of channels; consecutive output channels see consecutive input channels.
    """

    height: int
    width: int
    channels: int
    kernel: np.ndarray
    stride: tuple[int, int] = (1, 1)
    origin: tuple[int, int] = (0, 0)
    row_step: int = 1
    column_step: int = 1
    groups: int = 1

    @property
    def size(self) -> int:
        """Number of inputs."""
        return self.height * self.width * self.channels

    @property
    def first_bit(self) -> int:
        """Where the field of position (0, 0) begins; negative within padding."""
        return (self.origin[0] * self.width + self.origin[1]) * self.channels

    @property
    def steps(self) -> tuple[int, int]:
        """Bits from one output row to the next, and from one output column to the next."""
        return self.stride[0] * self.width * self.channels, self.stride[1] * self.channels

    def segments(self) -> list[Segment]:
        """The receptive field, cut so that every piece needs one load, and put into few words: first fit."""
        rows, run, _ = self.kernel.shape
        found: list[Segment] = []
        filled: list[int] = []  # bits of each word
        for row in range(rows):
            start = self.first_bit + row * self.row_step * self.width * self.channels
            offset = 0
            while offset < run:
                whole_bytes = not any(bits % 8 for bits in (start + offset, *self.steps))
                length = min(run - offset, WORD if whole_bytes else UNALIGNED)
                word = next((w for w, bits in enumerate(filled) if bits + length <= WORD), len(filled))
                if word == len(filled):
                    filled.append(0)
                found.append(Segment(start + offset, length, row, offset, WORD * word + filled[word]))
                filled[word] += length
                offset += length
        return found

    def masks(self, segment: Segment, columns: int, groups: int) -> np.ndarray:
        """Bits of a segment that count, for each group of channels and output column: [groups, columns] uint64."""
        tap, channel = np.divmod(np.arange(segment.offset, segment.offset + segment.length), self.channels)
        x = np.arange(columns)[:, None] * self.stride[1] + self.origin[1] + tap
        inside = (x >= 0) & (x < self.width) & (tap % self.column_step == 0)
        member = channel * groups // self.channels == np.arange(groups)[:, None]
        counts = (inside & member[:, None]).astype(np.uint64)
        return (counts << np.arange(segment.length, dtype=np.uint64)).sum(-1, dtype=np.uint64)


def window(synapse: Synapse) -> Window:
    """The receptive fields of a synapse. That of a dense one is everything."""
    weight = synapse.weight
    if isinstance(synapse, DenseSynapse):
        return Window(1, 1, synapse.in_size, weight.T[None])
    height, width, channels = synapse.input_shape
    out, per_group, rows, taps = weight.shape
    every = np.zeros((out, channels, rows, taps), weight.dtype)
    for group in range(synapse.groups):
        outs = slice(group * out // synapse.groups, (group + 1) * out // synapse.groups)
        every[outs, group * per_group : (group + 1) * per_group] = weight[outs]
    kernel = np.zeros((rows, synapse.dilation[1] * (taps - 1) + 1, channels, out), weight.dtype)
    kernel[:, :: synapse.dilation[1]] = every.transpose(2, 3, 1, 0)
    (top, _), (left, _) = synapse.padding
    return Window(
        height,
        width,
        channels,
        kernel.reshape(rows, -1, out),
        stride=synapse.stride,
        origin=(-top, -left),
        row_step=synapse.dilation[0],
        column_step=synapse.dilation[1],
        groups=synapse.groups,
    )
