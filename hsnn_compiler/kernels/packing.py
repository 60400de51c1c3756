"""Signals as bits: one bit per input, sample and step, 1 where the input is not 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from hsnn_compiler.kernels.stamp import STAMP
from hsnn_compiler.kernels.vectors import (
    WORD,
    Pointer,
    ahead,
    any_above_one,
    bit_count,
    first_bit,
    nonzero_bits,
    pointer,
)
from hsnn_compiler.kernels.workers import THREADS, share

NOT_BINARY = -(2**62)
"""Returned instead of a count."""
WORTH_SHARING = 2**20
"""Bytes to pack that pay for waking another thread."""


@njit
def pack_row(source: Pointer, size: int, target: Pointer, is_byte: bool) -> tuple[int, int]:
    """Write which of `size` numbers are not 0 into words; returns how many, and a number above 0 if a byte was above 1.

    Args:
        source, target: of the numbers, and of uint64.
        size: count of numbers.
        is_byte: whether they are uint8.
    """
    active, above, whole = 0, 0, size // WORD * WORD
    for at in range(0, whole, WORD):
        word = nonzero_bits(source, at)
        target[at // WORD] = word
        active += bit_count(word)
        if is_byte:
            above |= any_above_one(source, at)
    if whole < size:
        word = np.uint64(0)
        for at in range(whole, size):
            if source[at] != 0:
                word |= np.uint64(1) << np.uint64(at - whole)
                if is_byte:
                    above |= source[at] > 1
        target[whole // WORD] = word
        active += bit_count(word)
    return active, above


@njit
def pack_planes(source: Pointer, channels: int, size: int, target: Pointer) -> tuple[int, int]:
    """As `pack_row`, of bytes [channels, size / channels] that are to lie channels last."""
    plane, active, above, one = size // channels, 0, 0, np.uint64(1)
    for word in range((size + WORD - 1) // WORD):
        target[word] = np.uint64(0)
    for channel in range(channels):
        start = channel * plane
        for at in range(0, plane // WORD * WORD, WORD):
            word = nonzero_bits(source, start + at)
            above |= any_above_one(source, start + at)
            active += bit_count(word)
            while word != 0:
                bit = (at + first_bit(word)) * channels + channel
                target[bit // WORD] |= one << np.uint64(bit % WORD)
                word &= word - one
        for at in range(plane // WORD * WORD, plane):
            value = source[start + at]
            if value != 0:
                bit = at * channels + channel
                target[bit // WORD] |= one << np.uint64(bit % WORD)
                active += 1
                above |= value > 1
    return active, above


def _compiled(stamp: str) -> Any:
    @njit(cache=True, nogil=True)
    def pack(signal: np.ndarray, words: np.ndarray, first_word: int) -> int:
        """Write signals [rows, n] as bits into `words` [rows, row words] uint64, from `first_word` on.

        Returns the number of inputs that are not 0; or `NOT_BINARY`, if a uint8 is neither 0 nor 1.
        """
        _ = stamp
        size, row_words = signal.shape[1], words.shape[1]
        source, target = pointer(signal), pointer(words)
        active = above = 0
        for row in range(len(signal)):
            to = ahead(target, row * row_words + first_word)
            found, more = pack_row(ahead(source, row * size), size, to, signal.itemsize == 1)
            active += found
            above |= more
        return NOT_BINARY if above else active

    return pack


pack = _compiled(STAMP)


class Packed(NamedTuple):
    """The inputs of some samples, as the event kernel looks at them.

    Attributes:
        bits: [samples, time, row words] uint64.
        payload: [samples, time, 64 * row words] value of every bit; [0, 0, 0] if all inputs are 0 or 1.
        active: number of inputs that are not 0.
    """

    bits: np.ndarray
    payload: np.ndarray
    active: int


def pack_signals(signals: Sequence[np.ndarray], places: Sequence[int], row_words: int, dtype: np.dtype) -> Packed:
    """Pack signals [samples, time, n], each from its place (a word) on.

    Raises:
        ValueError: if a uint8 signal holds anything but 0 and 1.
    """
    samples, time, _ = signals[0].shape
    bits = np.zeros((samples * time, row_words), np.uint64)
    payload = None
    active = 0
    for signal, place in zip(signals, places, strict=True):
        found = _pack_rows(signal.reshape(samples * time, -1), bits, place)
        if found < 0:
            raise ValueError("a signal of type uint8 holds spikes, 0 or 1; give values in another type")
        active += found
        if signal.dtype != np.uint8:
            payload = np.zeros((samples, time, WORD * row_words), dtype) if payload is None else payload
    if payload is None:
        return Packed(bits.reshape(samples, time, row_words), np.empty((0, 0, 0), dtype), active)
    for signal, place in zip(signals, places, strict=True):
        payload[:, :, WORD * place : WORD * place + signal.shape[2]] = signal
    return Packed(bits.reshape(samples, time, row_words), payload, active)


def _pack_rows(signal: np.ndarray, bits: np.ndarray, place: int) -> int:
    if signal.nbytes < WORTH_SHARING:
        return pack(signal, bits, place)
    size = -(-len(signal) // (4 * THREADS))
    parts = [slice(first, first + size) for first in range(0, len(signal), size)]
    return share(lambda part: pack(signal[part], bits[part], place), parts)
