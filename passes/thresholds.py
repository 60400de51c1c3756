"""Calibrate the thresholds of converted neurons on data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import nir
import numpy as np

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.passes.activations import SCALE_SUFFIX, analog_twin, converted_neurons, integrate_and_fire
from hsnn_compiler.passes.base import LOSSY, Pass, PassContext, PassResult
from hsnn_compiler.passes.histograms import ChannelHistogram, collect
from hsnn_compiler.passes.layer_options import METHODS

FRACTIONS = np.arange(1.0, 0.45, -0.05)  # candidates, as shares of theta
GRID = 95  # candidate thresholds, from the maximum down in steps of 1%, as in Li 2021


@dataclass(frozen=True)
class CalibrateThresholds(Pass):
    """Choose each channel's threshold from the activations on calibration data.

    ``mse`` (Li 2021): theta = max * (1 - i/100), i < 95, that minimises
    E || x - theta/T * clip(floor(x T / theta + 1/2), 0, T) ||^2; ``percentile`` (Rueckauer 2017): the given
    percentile of the non-zero activations; ``max``: the largest activation. Statistics are
    histograms filled batch by batch: memory does not grow with the number of samples.

    Reset to zero loses what exceeds the threshold, half a step's input on average. There a spike still stands
    for theta, but the neuron fires at alpha theta: driven by x it fires floor(T / (floor(alpha theta / x) + 1))
    times, and alpha minimises the squared error of that.

    A channel that hardly ever fires would get a tiny threshold, and in integers, where a layer has one
    threshold, weights that leave all other channels no resolution. So theta is at least `floor` times the
    largest magnitude of the channel's input, but not above the layer's largest theta; what such a channel
    loses is below theta / (2 T).
    """

    method: str = "mse"
    percentile: float = 99.9
    per_channel: bool = True
    floor: float = 0.125

    name: ClassVar[str] = "calibrate-thresholds"
    contract: ClassVar[str] = LOSSY
    requires: ClassVar[tuple[str, ...]] = ("timed",)
    layer_options: ClassVar[tuple[str, ...]] = ("threshold", "method", "percentile")

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        neurons = converted_neurons(graph)
        if not neurons:
            return PassResult(graph)
        findings = []
        if self.method not in METHODS:
            findings.append(Finding("E0212", f"no method {self.method!r}", supported=", ".join(METHODS)))
        if context.calibration is None:
            findings.append(Finding("E0213", "calibrate-thresholds needs data", suggestion="pass --calib data.npz"))
        if any(finding.is_error for finding in findings):
            return PassResult(graph, findings=tuple(findings))
        histograms = collect(analog_twin(graph), [n.name for n in neurons], context)
        graph = graph.copy()
        silent = []
        for node in neurons:
            histogram, steps = histograms[node.name], graph.timesteps or 1
            theta = self._threshold(node, histogram, steps, context)
            silent += [node.name] if not histogram.maximum.any() else []
            reset = node.dynamics.reset if node.dynamics is not None else context.reset
            fires_at = theta if reset == "subtract" else theta * firing_fraction(histogram, theta, steps)
            shape = node.op.v_threshold.shape
            op, dynamics = integrate_and_fire(fires_at.reshape(shape), reset)
            graph.update(node.name, op=op, dynamics=dynamics)
            graph.update(node.name + SCALE_SUFFIX, op=nir.Scale(theta.reshape(shape)))
        findings += [
            Finding("W0441", "no calibration sample activates this layer; its thresholds are a guess", node=name)
            for name in silent
        ]
        samples = 0 if context.calibration is None else len(context.calibration)
        origin = "made-up samples" if context.assumed else "samples"
        per = "channel" if self.per_channel else "layer"
        notes = [f"{len(neurons)} layers, method {self.method}, per {per}, from {samples} {origin}"]
        return PassResult(graph, True, tuple(notes), tuple(findings))

    def _threshold(self, node: Node, histogram: ChannelHistogram, steps: int, context: PassContext) -> np.ndarray:
        """Threshold per channel, [channels]."""
        fixed = context.layer(node.name, "threshold", 0.0)
        channels = histogram.channels
        if fixed > 0:
            return np.full(channels, fixed)
        if not self.per_channel:
            histogram = histogram.merged()
        chosen = context.layers.get(node.name, {})
        method = chosen.get("method", "percentile" if "percentile" in chosen else self.method)
        if method == "max":
            theta = histogram.maximum
        elif method == "percentile":
            theta = histogram.percentile(context.layer(node.name, "percentile", self.percentile))
        else:
            theta = least_squares(histogram, steps)
        # A channel that never fires keeps a threshold it will not reach: the layer's largest.
        fallback = theta.max() if theta.max() > 0 else 1.0
        # Never above the layer's largest threshold: where activations are clipped, that is where they end.
        theta = np.maximum(np.where(theta > 0, theta, fallback), np.minimum(self.floor * histogram.reach, fallback))
        return np.broadcast_to(theta, (channels,)).copy()


def least_squares(histogram: ChannelHistogram, steps: int) -> np.ndarray:
    """Threshold per channel with the smallest squared error of the rounded, clipped activation."""
    values, weights = histogram.values(), histogram.counts
    best = np.full(histogram.channels, np.inf)
    chosen = histogram.maximum.copy()
    for i in range(GRID):
        theta = np.maximum(histogram.maximum * (1 - i / 100), np.finfo(float).tiny)[:, None]
        levels = np.clip(np.floor(values * steps / theta + 0.5), 0, steps)
        error = (weights * (values - levels * theta / steps) ** 2).sum(1)
        better = error < best
        best[better] = error[better]
        chosen[better] = theta[better, 0]
    return np.where(histogram.maximum > 0, chosen, 0.0)


def firing_fraction(histogram: ChannelHistogram, theta: np.ndarray, steps: int) -> np.ndarray:
    """Per channel, the fraction of theta at which a neuron with reset to zero fires with the least squared error."""
    values, weights = histogram.values(), histogram.counts
    top = theta[:, None]
    best = np.full(histogram.channels, np.inf)
    chosen = np.ones(histogram.channels)
    for alpha in FRACTIONS:
        ratio = np.divide(alpha * top, values, out=np.full_like(values, np.inf), where=values > 0)
        period = np.floor(ratio) + 1
        error = (weights * (values - top * np.floor(steps / period) / steps) ** 2).sum(1)
        better = error < best
        best[better] = error[better]
        chosen[better] = alpha
    return chosen
