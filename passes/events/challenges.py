"""What a network loses when events drive it that was trained on a current: three numbers per layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hsnn_compiler.ir.dynamics import discretize
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.ops import threshold_of
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.reference.batches import batches
from hsnn_compiler.reference.codes import first_spike_values
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.reference.result import Record, Result
from hsnn_compiler.report.table import Cell, Table

COLUMNS = (
    "layer",
    "threshold mismatch",
    "threshold mismatch, mapped",
    "lost temporal dynamics",
    "lost temporal dynamics, mapped",
    "activation shift",
    "activation shift, mapped",
)
NOTES = (
    "Threshold mismatch: how strongly the neurons are excited - the current into the membrane with its constant part,"
    " averaged over the steps, in thresholds, its positive part averaged over samples and neurons - over the same under"
    " direct coding; 1 is none.",
    "Lost temporal dynamics: 1 - the correlation of that current, step by step, with the one under direct coding, over"
    " samples, steps and neurons; 0 is none.",
    "Activation shift: the mean difference of a neuron's rate (spikes per step) from that under direct coding; 0 is"
    " none.",
)


@dataclass
class Moments:
    """Sums over the calibration data of the current into a layer, in thresholds, under events and direct coding.

    Attributes:
        count: currents added up per channel.
        means: averages over the steps of a sample, counted per channel.
        totals: of the two currents, [2, channels].
        excited: of the positive parts of both averages over the steps, [2, channels].
        squares: of both currents squared and of their product, over all channels, [3].
        averages: of both averages squared, [2, channels].
        shift: magnitudes of the difference of rates.
        rates: how many of those.
    """

    count: int = 0
    means: int = 0
    totals: np.ndarray = field(default_factory=lambda: np.zeros((2, 1)))
    excited: np.ndarray = field(default_factory=lambda: np.zeros((2, 1)))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(3))
    averages: np.ndarray = field(default_factory=lambda: np.zeros((2, 1)))
    shift: float = 0.0
    rates: int = 0

    def add(self, event: np.ndarray, direct: np.ndarray) -> None:
        """Count currents [samples, time, channels, ...]."""
        both = np.stack([event, direct]).astype(np.float64)
        average = np.moveaxis(both.mean(2), 2, 1)
        both = np.moveaxis(both, 3, 1).reshape(2, both.shape[3], -1)
        average = average.reshape(*both.shape[:2], -1)
        self.count += both.shape[2]
        self.means += average.shape[2]
        self.totals = self.totals + both.sum(2)
        self.excited = self.excited + np.maximum(average, 0).sum(2)
        self.squares = self.squares + np.array([(both[0] ** 2).sum(), (both[1] ** 2).sum(), (both[0] * both[1]).sum()])
        self.averages = self.averages + (average**2).sum(2)

    def add_rates(self, event: np.ndarray, direct: np.ndarray) -> None:
        """Count rates [samples, ...]."""
        self.shift += float(np.abs(event - direct).sum())
        self.rates += event.size

    def mean(self) -> np.ndarray:
        """Mean of both currents, [2, channels]."""
        return self.totals / max(self.count, 1)

    def spread(self) -> np.ndarray:
        """Standard deviation of both, averaged over the steps, over samples and pixels, [2, channels]."""
        variance: np.ndarray = self.averages / max(self.means, 1) - self.mean() ** 2
        return np.sqrt(np.maximum(variance, 0))

    @property
    def mismatch(self) -> float:
        """Mean excitation over that under direct coding; 1 where there is none under both."""
        event, direct = self.excited.sum(1)
        return float(event / direct) if direct > 0 else (1.0 if event <= 0 else float("inf"))

    @property
    def lost(self) -> float:
        """1 - correlation; 0 where neither current ever changes, 1 where one does."""
        total = max(self.count * self.totals.shape[1], 1)
        mean = self.totals.sum(1) / total
        spread = self.squares[:2] / total - mean**2
        if not spread.min() > 0:
            return float(spread.max() > 0)
        return float(1 - (self.squares[2] / total - mean.prod()) / np.sqrt(spread.prod()))

    @property
    def moved(self) -> float:
        """Mean magnitude of the difference of rates."""
        return self.shift / max(self.rates, 1)


def spiking_layers(graph: Graph) -> list[Node]:
    """The layers that are compared: all that fire."""
    return [node for node in graph.topological() if node.is_spiking]


def compare(events: Graph, direct: Graph, names: Sequence[str], context: PassContext) -> dict[str, Moments]:
    """Run the calibration data through both and compare the currents, in thresholds, and rates of layers."""
    found = {name: Moments() for name in names}
    for one, other in zip(_runs(events, names, context), _runs(direct, names, context), strict=True):
        for name, moments in found.items():
            moments.add(_current(events, name, one), _current(direct, name, other))
            moments.add_rates(_rate(events[name], one), _rate(direct[name], other))
    return found


def table(before: Mapping[str, Moments], after: Mapping[str, Moments]) -> Table:
    """Both, side by side; what was not measured before is left out."""
    rows: list[tuple[Cell, ...]] = []
    for name, m in after.items():
        b = before.get(name)
        was = (None, None, None) if b is None else (_finite(b.mismatch), b.lost, b.moved)
        rows.append((name, was[0], _finite(m.mismatch), was[1], m.lost, was[2], m.moved))
    return Table("Events instead of a current: before and after mapping", COLUMNS, rows, NOTES)


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None


def _current(graph: Graph, name: str, result: Result) -> np.ndarray:
    """What drives a layer's membrane, constants included, in its thresholds, [samples, time, ...]."""
    keys = [key for key in _wanted(graph, [name]) if key != (name, "s")]
    total: np.ndarray = sum((result.trace[key] for key in keys[1:]), start=result.trace[keys[0]])
    node = graph[name]
    if node.dynamics is not None:
        step = discretize(node.op, node.dynamics)
        total = total + np.divide(step.leak, step.gain, out=np.zeros_like(step.leak * step.gain), where=step.gain != 0)
    return total / threshold_of(node.op)


def _rate(node: Node, result: Result) -> np.ndarray:
    """Spikes per step, [samples, ...]; of neurons that fire once, the share of the window that is left."""
    spikes = result.trace[node.name, "s"]
    if node.kind == "FirstSpike":
        return first_spike_values(spikes)
    rates: np.ndarray = spikes.mean(1, dtype=np.float64)
    return rates


def _wanted(graph: Graph, names: Iterable[str]) -> list[Record]:
    """Signals to record: spikes, and the synaptic current; what arrives, where there is no such state."""
    found: list[Record] = []
    for name in names:
        found.append((name, "s"))
        if graph[name].is_neuron:
            found.append((name, "u"))
        else:
            found += [(edge.src, "s") for edge in graph.in_edges(name)]
    return found


def _runs(graph: Graph, names: Sequence[str], context: PassContext) -> Iterator[Result]:
    """Run what lies before some layers on the calibration data, batch by batch."""
    assert context.calibration is not None
    keep = set(names).union(*(graph.ancestors(name) for name in names))
    cut = graph.copy()
    for node in graph:
        if node.name not in keep:
            cut.remove(node.name)
    executor, record = FloatExecutor(cut, method="auto"), _wanted(cut, names)
    for batch, done, total in batches(cut, context.calibration, context.batch_size):
        yield executor.run_batch(batch, record)
        context.progress("calibration: events against a current", done, total)
