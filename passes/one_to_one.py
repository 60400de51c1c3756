"""Weights between neurons and their twins."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np


def one_to_one(factor: np.ndarray, shape: tuple[int, ...]) -> Any:
    """Synapses from each neuron to its twin: a depthwise 1x1 convolution, or a diagonal matrix."""
    factor = np.asarray(factor, np.float64)
    if len(shape) in (2, 3) and is_per_channel(factor):
        channels = np.broadcast_to(factor.reshape(-1), shape[:1])
        weight = channels.reshape(-1, *[1] * len(shape))
        conv = nir.Conv2d if len(shape) == 3 else nir.Conv1d
        side: Any = shape[1:] if len(shape) == 3 else shape[1]
        unit: Any = (1, 1) if len(shape) == 3 else 1
        zero: Any = (0, 0) if len(shape) == 3 else 0
        return conv(side, weight.copy(), unit, zero, unit, shape[0], np.zeros(shape[0]))
    return nir.Linear(np.diag(np.broadcast_to(factor, shape).reshape(-1)))


def is_per_channel(factor: np.ndarray) -> bool:
    """Whether an array that broadcasts against [channels, ...] only depends on the channel."""
    return factor.ndim == 0 or all(n == 1 for n in factor.shape[1:])
