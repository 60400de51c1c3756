"""What a call of the event kernel takes: what to do, what drives the neurons, and where to write."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Task(NamedTuple):
    """What one call of a kernel does: ranges of samples, output rows, and blocks of channels.

    Only a population of one position (a dense one) may be divided into blocks.
    """

    first_sample: int
    last_sample: int
    first_row: int
    last_row: int
    first_block: int
    last_block: int


class Inputs(NamedTuple):
    """What drives the neurons.

    Attributes:
        bits: [samples, time, row words] uint64, see `pack`.
        payload: [samples, time, 64 * row words] value of every bit; [0, 0, 0] if all inputs are 0 or 1.
        bias: [1 or rows, columns * channels, and lanes to spare] added to the synaptic sums.
        extra: [samples, time, n] more input; [0, 0, 0] if there is none.
        resets: [time] whether the state starts anew before the step; [0] if it never does.
        leak: [1 or samples, 1 or rows, columns * channels] added to Loihi's v at every step; floats: [1, 1, 0].
        start: [1 or n] v after a reset.
        coefficients: of the neurons, see `updates`: [k, 1, 1], or [8, 1 or rows, columns * channels].
    """

    bits: np.ndarray
    payload: np.ndarray
    bias: np.ndarray
    extra: np.ndarray
    resets: np.ndarray
    leak: np.ndarray
    start: np.ndarray
    coefficients: np.ndarray

    def of(self, part: slice) -> Inputs:
        """Those of some samples."""
        return self._replace(
            bits=self.bits[part],
            payload=self.payload[part],
            extra=self.extra[part],
            leak=self.leak[part] if len(self.leak) > 1 else self.leak,
        )


class Outputs(NamedTuple):
    """What a kernel writes.

    Attributes:
        u, v: [samples, n] the state. u is [0, 0] if it has no memory.
        spikes: [samples, time, n] uint8; [1, 1, n] if nobody wants them.
        u_record, v_record: [samples, time, n]; [0, 0, 0] if nobody wants them.
    """

    u: np.ndarray
    v: np.ndarray
    spikes: np.ndarray
    u_record: np.ndarray
    v_record: np.ndarray

    def of(self, part: slice) -> Outputs:
        """Those of some samples."""
        return Outputs(*(array[part] for array in self))
