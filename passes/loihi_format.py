"""Loihi's number formats: real biases and decays as the integers of the chip; weights are in `ir.weight_format`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.quant import STATE_SHIFT
from hsnn_compiler.ir.weight_format import WeightFormat as WeightFormat
from hsnn_compiler.ir.weight_format import weight_format as weight_format

MANTISSA_MAX, MANTISSA_MIN, EXPONENT_MAX = 4095, -4096, 7
DECAY_UNITY = 4096
VTH_MAX = 2**17 - 1
STATE_MAX = 2**23 - 1


def bias_exponent(largest: float) -> int:
    """Smallest exponent with which a bias of this magnitude fits 13 signed bits.

    Returns a number above `EXPONENT_MAX` where none does.
    """
    return max(0, math.ceil(math.log2(largest / MANTISSA_MAX))) if largest > MANTISSA_MAX else 0


def one_or_each(numbers: np.ndarray, shape: tuple[int, ...]) -> int | np.ndarray:
    """Integers that broadcast against the shape of a population: one if all are equal, else int32 for each neuron."""
    if np.all(numbers == numbers.flat[0]):
        return int(numbers.flat[0])
    return np.broadcast_to(numbers, shape).astype(np.int32)


def decay_integer(decay: ArrayLike) -> np.ndarray:
    """dv for membranes that keep `decay` of their potential per step: 4096 (1 - decay), 12 bits."""
    return np.clip(np.rint(DECAY_UNITY * (1 - np.asarray(decay))), 0, DECAY_UNITY - 1).astype(np.int32)


def late_reset(thresholds: float, vth: int, dv: int | np.ndarray) -> int | np.ndarray | None:
    """What a spike takes, in units of v, where it is not one threshold (then None) but that over the chip's decay.

    One number, or int32 per neuron as `dv`. E0453 where that is beyond 24 bits.
    """
    if thresholds == 1:
        return None
    taken = np.rint((vth << STATE_SHIFT) * DECAY_UNITY / (DECAY_UNITY - np.asarray(dv)))
    if taken.max() > STATE_MAX:
        raise refuse(
            "E0453",
            f"a late reset by subtraction takes {thresholds:.3g} thresholds of {vth} units at once, beyond 24 bits",
            supported="a slower decay",
            suggestion="reset to zero, or a reset in the step of the spike",
        )
    return one_or_each(taken, taken.shape)


def current_decay_integer(decay: ArrayLike) -> np.ndarray:
    """du for synaptic currents that keep `decay` per step: 4096 (1 - decay) - 1, 12 bits; the largest forgets them.

    -1 keeps all of it, as Lava's processes allow.
    """
    return np.clip(np.rint(DECAY_UNITY * (1 - np.asarray(decay))) - 1, -1, DECAY_UNITY - 1).astype(np.int32)
