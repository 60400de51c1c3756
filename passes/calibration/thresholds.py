"""Calibrate converted neurons on data: their thresholds, and what spikes get wrong behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import nir
import numpy as np

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.ops import FirstSpike
from hsnn_compiler.passes.activations import SCALE_SUFFIX, analog_twin, converted_neurons
from hsnn_compiler.passes.base import LOSSY, Pass, PassContext, PassResult, listing
from hsnn_compiler.passes.calibration.correction import CORRECTIONS, Correction, too_large
from hsnn_compiler.passes.calibration.histograms import ChannelHistogram, collect
from hsnn_compiler.passes.calibration.methods import METHODS, Settings
from hsnn_compiler.passes.calibration.mixtures import copies_of_each, with_mixtures
from hsnn_compiler.passes.calibration.selection import Score, Way, choose
from hsnn_compiler.passes.trained import CHOSEN_BY_HAND, is_exact, trained_end

AUTO = "auto"
TRAINED = "trained"
FRACTIONS = np.arange(1.0, 0.45, -0.05)  # candidates, as shares of theta
WAYS = tuple(
    Way(method, correct)
    for method, correct in (
        ("mse", "none"),
        ("ltb", "none"),
        ("ltb", "weights"),
        ("mse", "weights"),
        ("ltb", "bias"),
        ("mse", "potential"),
        ("percentile", "none"),
    )
)


@dataclass(frozen=True)
class CalibrateThresholds(Pass):
    """Choose each channel's threshold from the activations on calibration data, and correct what is left.

    `method`: ``mse``, least squared error of the rounded and clipped activation (Li 2021); ``ltb``, local threshold
    balancing (CVPR 2025); ``percentile`` of the positive activations (Rueckauer 2017); ``max``. `correct`, layer after
    layer on the spikes that really arrive: ``bias`` per channel; ``potential``, also the start potential of each neuron
    (both Li 2021); ``weights``, weights and biases fitted anew by ridge regression; ``none``. ``auto`` tries
    combinations and takes the best on samples that it was not fitted to, see `selection.choose`. Statistics are
    gathered batch by batch: memory does not grow with the number of samples. `mixtures`: to the samples come mixtures
    of two of them, see `with_mixtures`.

    Reset to zero loses what exceeds the threshold, half a step's input on average. There a spike still stands
    for theta, but the neuron fires at alpha theta: driven by x it fires floor(T / (floor(alpha theta / x) + 1))
    times, and alpha minimises the squared error of that.

    A channel that hardly ever fires would get a tiny threshold, and in integers, where a layer has one
    threshold, weights that leave all other channels no resolution. So theta is at least `floor` times the
    largest magnitude of the channel's input, but not above the layer's largest theta; what such a channel
    loses is below theta / (2 T).

    Quantised activations keep the thresholds they were trained with, whatever the method, unless ``--layer`` asks for
    another one. ``auto`` corrects nothing where all of them are computed exactly.
    """

    method: str = AUTO
    correct: str = AUTO
    percentile: float = 99.9
    tolerance: float = 0.0
    per_channel: bool = True
    floor: float = 0.125
    mixtures: bool = True

    name: ClassVar[str] = "calibrate-thresholds"
    contract: ClassVar[str] = LOSSY
    requires: ClassVar[tuple[str, ...]] = ("timed",)
    layer_options: ClassVar[tuple[str, ...]] = ("threshold", "method", "percentile")

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        neurons = converted_neurons(graph)
        if not neurons:
            return PassResult(graph)
        findings = self._problems(context)
        if findings:
            return PassResult(graph, findings=tuple(findings))
        trained = [node for node in neurons if _is_trained(node, context)]
        exact = [node for node in trained if is_exact(node, graph.timesteps or 1)]
        if self.correct == AUTO and exact == neurons:
            return PassResult(graph, notes=(f"{len(neurons)} layers compute what they were trained to: nothing to do",))
        mixtures = self._mixtures(graph, context)
        assert context.calibration is not None  # or a finding
        mixed = replace(context, calibration=with_mixtures(context.calibration, mixtures))
        histograms = collect(analog_twin(graph), [n.name for n in neurons], mixed)
        findings = [
            Finding("W0441", "no calibration sample activates this layer; its thresholds are a guess", node=name)
            for name, histogram in histograms.items()
            if not histogram.maximum.any() and graph[name] not in trained
        ]
        ways = self._ways(context, trained == neurons)
        way = ways[0]
        scores: dict[Way, Score] = {}
        if len(ways) > 1:
            way, scores = choose(graph, context, ways, lambda part: self._prepare(graph, part), mixtures)
        done = self._prepare(graph, mixed, histograms)(way)
        samples = 0 if context.calibration is None else len(context.calibration)
        origin = "made-up samples" if context.assumed else "samples and mixtures of them" if mixtures else "samples"
        per = "channel" if self.per_channel else "layer"
        kept = f", {len(trained)} of them with trained thresholds" if trained else ""
        what = f"{len(neurons)} layers{kept}, method {way.method}, correction {way.correct}, per {per}"
        chosen = replace(self, method=self.method if way.method == TRAINED else way.method, correct=way.correct)
        notes = (f"{what}, from {samples} {origin}", *_said(scores))
        if way.correct == "weights" and (large := too_large(graph)):
            notes = (*notes, f"too large to be fitted anew, their weights stay: {listing(large)}")
        return PassResult(done, True, notes, tuple(findings), chosen=chosen)

    def _problems(self, context: PassContext) -> list[Finding]:
        findings = []
        for what, legal in (("method", (*METHODS, AUTO)), ("correct", (*CORRECTIONS, AUTO))):
            if (chosen := getattr(self, what)) not in legal:
                findings.append(Finding("E0212", f"no {what} {chosen!r}", supported=", ".join(legal)))
        if context.calibration is None:
            findings.append(Finding("E0213", "calibrate-thresholds needs data", suggestion="pass --calib data.npz"))
        return findings

    def _mixtures(self, graph: Graph, context: PassContext) -> int:
        """Of each sample; none of made-up ones."""
        if not self.mixtures or context.assumed or context.calibration is None:
            return 0
        return copies_of_each(graph, context.calibration)

    def _ways(self, context: PassContext, trained: bool) -> list[Way]:
        """What to choose from; made-up data is no ground to choose on, and all thresholds may be trained ones."""
        enough = not context.assumed and context.calibration is not None and len(context.calibration) > 1
        wanted = [
            Way(
                TRAINED if trained else way.method if self.method == AUTO else self.method,
                way.correct if self.correct == AUTO else self.correct,
            )
            for way in (WAYS if enough else WAYS[:1])
        ]
        return list(dict.fromkeys(wanted))

    def _prepare(
        self, graph: Graph, context: PassContext, histograms: dict[str, ChannelHistogram] | None = None
    ) -> Callable[[Way], Graph]:
        """What calibrates the graph in a given way on the data of the context."""
        neurons = converted_neurons(graph)
        seen = histograms or collect(analog_twin(graph), [node.name for node in neurons], context)
        chosen: dict[str, Graph] = {}

        def calibrate(way: Way) -> Graph:
            if way.method not in chosen:
                done = graph.copy()
                for node in neurons:
                    theta, fires_at = self._threshold(way, node, seen[node.name], graph.timesteps or 1, context)
                    _set_threshold(done, node, theta, fires_at)
                chosen[way.method] = done
            return Correction(way.correct).apply(chosen[way.method], context)

        return calibrate

    def _threshold(
        self, way: Way, node: Node, histogram: ChannelHistogram, steps: int, context: PassContext
    ) -> tuple[np.ndarray, np.ndarray]:
        """What a spike stands for, and the potential at which the neuron fires, [channels] each."""
        channels = histogram.channels
        spikes = 1 if node.dynamics is None else node.dynamics.max_spikes
        fixed = context.layer(node.name, "threshold", 0.0)
        end = trained_end(node.was)
        if end is not None and _is_trained(node, context):
            theta = np.broadcast_to(end.reshape(-1), (channels,)) / spikes
        elif fixed > 0:
            theta = np.full(channels, fixed)
        else:
            seen = histogram if self.per_channel else histogram.merged()
            theta = np.broadcast_to(self._end(way, node, seen, steps * spikes, context), (channels,)) / spikes
        if node.dynamics is not None and node.dynamics.reset != "subtract":
            return theta, theta * firing_fraction(histogram, theta, steps)
        return theta, theta

    def _end(self, way: Way, node: Node, histogram: ChannelHistogram, levels: int, context: PassContext) -> np.ndarray:
        """The activation at which a neuron that always fires ends, [channels or 1]."""
        chosen = context.layers.get(node.name, {})
        method = chosen.get("method", "percentile" if "percentile" in chosen else way.method)
        percentile = context.layer(node.name, "percentile", self.percentile)
        theta = METHODS[method](histogram, Settings(levels, percentile, self.tolerance))
        # A channel that never fires keeps a threshold it will not reach: the layer's largest.
        fallback = theta.max() if theta.max() > 0 else 1.0
        # Never above the layer's largest threshold: where activations are clipped, that is where they end.
        return np.maximum(np.where(theta > 0, theta, fallback), np.minimum(self.floor * histogram.reach, fallback))


def _is_trained(node: Node, context: PassContext) -> bool:
    """Whether a neuron keeps a threshold it was trained with."""
    return trained_end(node.was) is not None and not set(CHOSEN_BY_HAND) & context.layers.get(node.name, {}).keys()


def _set_threshold(graph: Graph, node: Node, theta: np.ndarray, fires_at: np.ndarray) -> None:
    shape = (len(theta), *[1] * (len(node.shape) - 1))
    threshold = fires_at.reshape(shape)
    if node.dynamics is None:
        graph.update(node.name, op=FirstSpike(threshold))
    else:
        start = threshold / 2 if node.dynamics.reset == "subtract" else np.zeros_like(threshold)
        op = nir.IF(r=np.ones_like(threshold), v_threshold=threshold, v_reset=np.zeros_like(threshold))
        graph.update(node.name, op=op, dynamics=replace(node.dynamics, v_init=start))
    graph.update(node.name + SCALE_SUFFIX, op=nir.Scale(theta.reshape(shape)))


def _said(scores: dict[Way, Score]) -> list[str]:
    """How the ways did, in one note."""
    if not scores:
        return []
    ranked = sorted(scores.items(), key=lambda item: item[1].error)
    tried = listing(f"{way} {100 * score.agreement:.1f}% (error {score.error:.2g})" for way, score in ranked)
    return [f"agreement with the network before conversion on held-out samples: {tried}"]


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
