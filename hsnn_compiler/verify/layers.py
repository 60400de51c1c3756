"""How well one layer's rates stand for the activations of the source: running sums, so that memory does not grow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


class Layer:
    """Statistics of one layer in one stage, against the activation of the node of the same name in the source.

    A rate times the layer's scale (what a spike in every step stands for: the threshold that calibration chose) is
    its *activity*, which is compared with the source's activation. Everything is a sum over samples, or one number per
    neuron.

    Args:
        steps: T; None where the layer has no time in this stage.
        scale: what a spike in every step stands for; broadcasts against the layer's shape.
        converted: whether the layer was an activation; only then are there clipping and rounding to speak of.
        spikes: most spikes of one step.

    Attributes:
        samples: how many were added.
        peak: largest activation of the source, per neuron.
        counts: spikes per neuron, over all samples.
        errors: sum over samples of (activity - activation)^2, per neuron.
        saturated: neuron-steps in which an integer state left its range; set by the replay.
    """

    def __init__(self, steps: int | None, scale: np.ndarray, converted: bool = True, spikes: int = 1) -> None:
        self.steps, self.scale, self.most = steps, np.asarray(scale, np.float64), spikes
        self.becomes_rates = converted and steps is not None
        self.samples = self.values = 0
        self.saturated: int | None = None
        self.peak: np.ndarray = np.zeros(0)
        self.counts: np.ndarray = np.zeros(0)
        self.errors: np.ndarray = np.zeros(0)
        self._sums = np.zeros(5)  # of a, r, a^2, r^2, a r
        self._over = self._over2 = self._full = self._rounding = 0.0

    def add(self, source: np.ndarray, activity: np.ndarray) -> None:
        """Take a batch in.

        Args:
            source: activations of the source, [samples, ...].
            activity: of this stage, [samples, ...]: rate times scale, or the value where there is no time.
        """
        a, r = source.astype(np.float64), activity.astype(np.float64)
        if not self.samples:
            self.peak, self.counts, self.errors = (np.zeros(a.shape[1:]) for _ in range(3))
        self.samples, self.values = self.samples + len(a), self.values + a.size
        self._sums += [a.sum(), r.sum(), (a * a).sum(), (r * r).sum(), (a * r).sum()]
        np.maximum(self.peak, a.max(0), out=self.peak)
        self.errors += ((r - a) ** 2).sum(0)
        if self.steps is None:
            return
        self.counts += np.rint(r / self.scale * self.steps).sum(0)
        self._full += float((r >= self.scale * (self.most - 0.5 / self.steps)).sum())
        over = np.maximum(a - self.scale * (self.most + 0.5 / self.steps), 0)  # half a level above is still rounding
        self._over += float((over > 0).sum())
        self._over2 += float((over**2).sum())
        self._rounding += float(((staircase(a, self.scale, self.steps, self.most) - a) ** 2).sum())

    @property
    def levels(self) -> int:
        """How many spikes there can be in a sample; 1 without time."""
        return (self.steps or 1) * self.most

    @property
    def rate(self) -> float | None:
        """Spikes per neuron and step; None without time."""
        if self.steps is None:
            return None
        return float(self.counts.sum()) / max(self.values, 1) / self.steps

    @property
    def correlation(self) -> float | None:
        """Pearson's, over neurons and samples; None where one side is constant."""
        a, r, aa, rr, ar = self._sums / max(self.values, 1)
        spread = (aa - a * a) * (rr - r * r)
        return float((ar - a * r) / math.sqrt(spread)) if spread > 1e-18 * aa * rr and spread > 0 else None

    @property
    def error(self) -> float | None:
        """Root of the mean square of activity - activation, relative to that of the activation."""
        return _relative(float(self.errors.sum()), self._sums[2])

    @property
    def rounding(self) -> float | None:
        """The same error of the best that T steps and this scale allow: the activation clipped and rounded."""
        return _relative(self._rounding, self._sums[2]) if self.becomes_rates else None

    @property
    def clipped(self) -> float | None:
        """Share of activations above what as many spikes in every step as there can be stand for."""
        return self._over / max(self.values, 1) if self.becomes_rates else None

    @property
    def clipping(self) -> float | None:
        """Relative root mean square of what lies above it."""
        return _relative(self._over2, self._sums[2]) if self.becomes_rates else None

    @property
    def silent(self) -> float | None:
        """Share of neurons that never fired, though the source's activation is worth a spike in some sample."""
        if self.steps is None:
            return None
        return float(((self.counts == 0) & (self.peak >= self.scale / (2 * self.steps))).mean())

    @property
    def full(self) -> float | None:
        """Share of neurons and samples with a spike (or as many as there can be) in every step."""
        return self._full / max(self.values, 1) if self.steps is not None else None

    @property
    def mean_ratio(self) -> float | None:
        """Mean activity over mean activation of the source: below 1, something is lost."""
        return float(self._sums[1] / self._sums[0]) if self._sums[0] > 0 else None

    @property
    def worst(self) -> tuple[int, ...]:
        """Index of the neuron with the largest error."""
        return tuple(int(i) for i in np.unravel_index(int(self.errors.argmax()), self.errors.shape))

    def headroom(self) -> float | None:
        """Median over channels of the end of the range / largest activation: how many times too high it lies."""
        if not self.becomes_rates or self.peak.ndim == 0:
            return None
        peaks = self.peak.reshape(len(self.peak), -1).max(1)
        scales = np.broadcast_to(self.scale, self.peak.shape).reshape(len(self.peak), -1).max(1)
        alive = peaks > 0
        return float(np.median(self.most * scales[alive] / peaks[alive])) if alive.any() else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what the properties say."""
        names = ("rate", "correlation", "error", "rounding", "clipped", "silent", "full", "saturated")
        return {name: getattr(self, name) for name in names}


def staircase(a: np.ndarray, scale: np.ndarray, steps: int, spikes: int = 1) -> np.ndarray:
    """theta/T clip(floor(a T/theta + 1/2), 0, N T): what a neuron with v_0 = theta/2 makes of a constant input.

    N is `spikes`, how often it fires in a step at most.
    """
    levels: np.ndarray = np.clip(np.floor(a * steps / scale + 0.5), 0, steps * spikes)
    return levels * scale / steps


def _relative(square: float, reference: float) -> float | None:
    return math.sqrt(square / reference) if reference > 0 else None
