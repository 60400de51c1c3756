"""Activation statistics per channel, gathered batch by batch in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.reference.batches import batches
from hsnn_compiler.reference.float_executor import FloatExecutor

BINS = 2048


@dataclass
class ChannelHistogram:
    """Histogram of the positive activations of each channel, between 0 and the channel's maximum.

    Attributes:
        maximum: [channels]
        counts: [channels, bins]
        reach: largest magnitude of the activation's input, [channels].
        samples: values seen of each channel, also those that are not positive.
    """

    maximum: np.ndarray
    counts: np.ndarray
    reach: np.ndarray
    samples: int = 0

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.maximum)

    def values(self) -> np.ndarray:
        """Centres of the bins, [channels, bins]."""
        bins = self.counts.shape[1]
        return self.maximum[:, None] * (np.arange(bins) + 0.5) / bins

    def percentile(self, percent: float) -> np.ndarray:
        """Value below which `percent` of the positive activations lie, [channels]."""
        cumulated = self.counts.cumsum(1)
        wanted = cumulated[:, -1:] * percent / 100
        bins = self.counts.shape[1]
        position = (cumulated < wanted).sum(1)
        return self.maximum * np.minimum(position + 1, bins) / bins

    def merged(self) -> ChannelHistogram:
        """One histogram over all channels."""
        top = self.maximum.max(initial=0.0)
        bins = self.counts.shape[1]
        index = np.minimum(self.values() / max(top, np.finfo(float).tiny) * bins, bins - 1).astype(int)
        counts = np.bincount(index.ravel(), self.counts.ravel(), minlength=bins)
        return ChannelHistogram(
            np.array([top]), counts[None], self.reach.max(keepdims=True), self.samples * self.channels
        )

    def add(self, samples: np.ndarray) -> None:
        """Count activations [samples, channels, ...]."""
        bins = self.counts.shape[1]
        columns = samples.reshape(len(samples), self.channels, -1).transpose(1, 0, 2).reshape(self.channels, -1)
        scale = np.divide(bins, self.maximum, out=np.zeros(self.channels), where=self.maximum > 0)
        index = np.minimum((columns * scale[:, None]).astype(int), bins - 1) + bins * np.arange(self.channels)[:, None]
        self.samples += columns.shape[1]
        self.counts += np.bincount(index[columns > 0], minlength=bins * self.channels).reshape(self.counts.shape)


def collect(graph: Graph, names: Sequence[str], context: PassContext) -> dict[str, ChannelHistogram]:
    """Histograms of the outputs of `names` over the calibration data: one run for ranges, one for counts."""
    assert context.calibration is not None
    sources = {name: [edge.src for edge in graph.in_edges(name)] for name in names}
    outputs = [(name, "s") for name in names]
    record = {*outputs, *((source, "s") for feeds in sources.values() for source in feeds)}
    executor = FloatExecutor(graph)
    maxima: dict[str, np.ndarray] = {}
    reaches: dict[str, np.ndarray] = {}
    for batch, done, total in batches(graph, context.calibration, context.batch_size):
        trace = executor.run_batch(batch, record).trace
        for name, feeds in sources.items():
            arriving = sum((trace[source, "s"] for source in feeds[1:]), start=trace[feeds[0], "s"])
            maxima[name] = np.maximum(maxima.get(name, 0.0), _per_channel(trace[name, "s"]))
            reaches[name] = np.maximum(reaches.get(name, 0.0), _per_channel(np.abs(arriving)))
        context.progress("calibration: ranges", done, total)
    found = {n: ChannelHistogram(m, np.zeros((len(m), BINS), np.int64), reaches[n]) for n, m in maxima.items()}
    for batch, done, total in batches(graph, context.calibration, context.batch_size):
        trace = executor.run_batch(batch, outputs).trace
        for name in names:
            found[name].add(trace[name, "s"])
        context.progress("calibration: histograms", done, total)
    return found


def _per_channel(array: np.ndarray) -> np.ndarray:
    """Maximum over everything but the channels of [samples, channels, ...]."""
    return array.reshape(len(array), array.shape[1], -1).max((0, 2)).astype(np.float64)
