"""Signals as bits: one bit per input, sample and step, 1 where the input is not 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from hsnn_compiler.kernels.stamp import STAMP
from hsnn_compiler.kernels.vectors import WORD, any_above_one, bit_count, nonzero_bits, pointer
from hsnn_compiler.kernels.workers import THREADS, share

NOT_BINARY = -(2**62)
"""Returned instead of a count."""
WORTH_SHARING = 2**20
"""Bytes to pack that pay for waking another thread."""


def _compiled(stamp: str) -> Any:
    @njit(cache=True, nogil=True)
    def pack(signal: np.ndarray, words: np.ndarray, first_word: int) -> int:
        """Write signals [rows, n] as bits into `words` [rows, row words] uint64, from `first_word` on.

        Returns the number of inputs that are not 0; or `NOT_BINARY`, if a uint8 is neither 0 nor 1.
        """
        _ = stamp
        rows, size = signal.shape
        whole = size // WORD * WORD
        start = pointer(signal)
        active = 0
        above = False
        for row in range(rows):
            for at in range(0, whole, WORD):
                word = nonzero_bits(start, row * size + at)
                words[row, first_word + at // WORD] = word
                active += bit_count(word)
                if signal.itemsize == 1:
                    above |= any_above_one(start, row * size + at)
            if whole < size:
                word = np.uint64(0)
                for at in range(whole, size):
                    value = signal[row, at]
                    if value != 0:
                        word |= np.uint64(1) << np.uint64(at - whole)
                    if signal.itemsize == 1 and value > 1:
                        above = True
                words[row, first_word + whole // WORD] = word
                active += bit_count(word)
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
