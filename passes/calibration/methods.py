"""Methods that choose a threshold per channel from the histogram of its activations.

Each returns the activation at which a neuron that fires in every step ends, [channels]; 0 for a channel that is
never active. With `levels` = T steps (times the most spikes of one step) a rate stands for a multiple of
theta / levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hsnn_compiler.passes.calibration.histograms import ChannelHistogram

GRID = 95  # candidate thresholds, from the maximum down in steps of 1%, as in Li 2021
BISECTIONS = 24
TOLERANCE = 0.04


@dataclass(frozen=True)
class Settings:
    """What methods may depend on.

    Attributes:
        levels: values a rate can take, besides 0.
        percentile: for `percentile`.
        tolerance: for `balanced`; 0 for `TOLERANCE` / (levels + 1): the more levels, the less has to be clipped.
    """

    levels: int
    percentile: float = 99.9
    tolerance: float = 0.0


def maximum(histogram: ChannelHistogram, settings: Settings) -> np.ndarray:
    """The largest activation: nothing clips (Diehl 2015)."""
    return histogram.maximum


def percentile(histogram: ChannelHistogram, settings: Settings) -> np.ndarray:
    """The given percentile of the positive activations (Rueckauer 2017)."""
    return histogram.percentile(settings.percentile)


def least_squares(histogram: ChannelHistogram, settings: Settings) -> np.ndarray:
    """Smallest squared error of the rounded, clipped activation (Li 2021).

    theta = max * (1 - i/100), i < 95, that minimises E || x - theta/L * clip(floor(x L / theta + 1/2), 0, L) ||^2
    """
    values, weights, levels = histogram.values(), histogram.counts, settings.levels
    best = np.full(histogram.channels, np.inf)
    chosen = histogram.maximum.copy()
    for i in range(GRID):
        theta = np.maximum(histogram.maximum * (1 - i / 100), np.finfo(float).tiny)[:, None]
        rounded = np.clip(np.floor(values * levels / theta + 0.5), 0, levels)
        error = (weights * (values - rounded * theta / levels) ** 2).sum(1)
        better = error < best
        best[better] = error[better]
        chosen[better] = theta[better, 0]
    return np.where(histogram.maximum > 0, chosen, 0.0)


def balanced(histogram: ChannelHistogram, settings: Settings) -> np.ndarray:
    """Local threshold balancing (CVPR 2025), iterated until it changes little rather than a fixed number of times.

    The published rule adds 2 E[relu(x - theta)] to theta per batch, from 0 on, so its result depends on how many
    batches there are. It grows by less than the share `tolerance` once 2 E[relu(x - theta)] <= tolerance * theta:
    the smallest such theta is taken, found by bisection (the left side falls with theta, the right side grows).
    """
    values = histogram.values()
    tolerance = settings.tolerance or TOLERANCE / (settings.levels + 1)
    low, high = np.zeros(histogram.channels), histogram.maximum.copy()
    for _ in range(BISECTIONS):
        theta = (low + high) / 2
        excess = (histogram.counts * np.maximum(values - theta[:, None], 0)).sum(1) / max(histogram.samples, 1)
        settled = 2 * excess <= tolerance * theta
        high, low = np.where(settled, theta, high), np.where(settled, low, theta)
    return high


METHODS: dict[str, Callable[[ChannelHistogram, Settings], np.ndarray]] = {
    "mse": least_squares,
    "ltb": balanced,
    "percentile": percentile,
    "max": maximum,
}
"""By the name that the pass's option `method` takes."""
