"""Corrections of a converted network, layer after layer: each makes up for what the layers before it get wrong.

Each layer is corrected against the network before conversion (its *analog twin*), on the spikes that the layers
before it, corrected already, really send. Samples come in batches; memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Collect, Decode
from hsnn_compiler.passes.activations import SCALE_SUFFIX, analog_twin, converted_neurons
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.batchnorm import with_weights
from hsnn_compiler.passes.calibration.regression import LARGEST, Regression
from hsnn_compiler.passes.calibration.replay import Replay, Signals
from hsnn_compiler.reference.batches import has_time
from hsnn_compiler.reference.codes import step_weights

CORRECTIONS = ("none", "bias", "potential", "weights")


@dataclass(frozen=True)
class Correction:
    """What to correct.

    Attributes:
        kind: one of `CORRECTIONS`: ``bias``, b_c += mean(a - s) per channel; ``potential``, the same and then
            v_0 += T mean(a - s) per neuron (Li 2021); ``weights``, weights and biases of each layer fitted anew, see
            `Regression`. a: activation of the twin; s: mean of the spikes over time, in its units.
    """

    kind: str

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        """The graph, corrected on the calibration data."""
        if self.kind == "none":
            return graph
        twin = infer_types(analog_twin(graph))
        graph = infer_types(graph)
        run = _SideBySide(graph, twin, context)
        rounds = _rounds(graph, _layers(graph) if self.kind == "weights" else _neurons(graph))
        for number, names in enumerate(rounds, start=1):
            if self.kind == "weights":
                _fit(graph, run, names)
            else:
                _shift(graph, run, names, self.kind == "potential")
            context.progress("calibration: corrections", number, len(rounds))
        return graph


class _SideBySide:
    """The converted network and the one before conversion, on the same samples."""

    def __init__(self, graph: Graph, twin: Graph, context: PassContext) -> None:
        self.graph, self.twin = graph, twin
        self.converted, self.analog = Replay(graph, context), Replay(twin, context)

    def arriving(self, names: Sequence[str]) -> Iterator[tuple[Signals, Signals]]:
        """Per batch: what feeds `names`, which change next, and what they should give."""
        feeds = {edge.src for name in names for edge in self.graph.in_edges(name)}
        yield from zip(
            self.converted.advance(self.graph, sorted(feeds)), self.analog.advance(self.twin, names), strict=True
        )

    def rates(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Mean rate of each neuron that `arriving` led to, over the samples, in units of its activation, [*shape]."""
        behind = [name + SCALE_SUFFIX for name in names]
        means = _Means()
        for signals in self.converted.run(self.graph, behind):
            means.add({name: signals[scaled].mean(1) for name, scaled in zip(names, behind, strict=True)})
        return means.of_all()


class _Means:
    """Means over samples that come in batches."""

    def __init__(self) -> None:
        self.totals: dict[str, np.ndarray] = {}
        self.count = 0

    def add(self, signals: Signals) -> None:
        for name, signal in signals.items():
            self.totals[name] = self.totals.get(name, 0.0) + signal.sum(0, dtype=np.float64)
        self.count += len(next(iter(signals.values())))

    def of_all(self) -> dict[str, np.ndarray]:
        return {name: total / self.count for name, total in self.totals.items()}


# -- weights --------------------------------------------------------------------------------------


def _fit(graph: Graph, run: _SideBySide, names: Sequence[str]) -> None:
    feeds = {name: [edge.src for edge in graph.in_edges(name)] for name in names}
    readers = {name: _reader(graph, name) for name in names}
    values = {name: _values(reader, graph.timesteps or 1) for name, reader in readers.items()}
    # A bias of its own would be weighed with the spikes by the Collect behind, which has one itself.
    fits = {name: Regression(graph[name].op, intercept=reader is None) for name, reader in readers.items()}
    for got, wanted in run.arriving(names):
        for name, fit in fits.items():
            fit.add(np.asarray(sum(_mean(got[source], values[name]) for source in feeds[name])), wanted[name])
    for name, fit in fits.items():
        weight, bias = fit.solve()
        graph.update(name, op=with_weights(graph[name].op, weight, bias))


# -- bias and potential ---------------------------------------------------------------------------


def _shift(graph: Graph, run: _SideBySide, names: Sequence[str], potential: bool) -> None:
    activations = _Means()
    for _, right in run.arriving(names):
        activations.add(right)
    wanted = activations.of_all()
    for name, rate in run.rates(names).items():
        node, error = graph[name], wanted[name] - rate
        per_channel = error.reshape(len(error), -1).mean(1).reshape(-1, *[1] * (error.ndim - 1))
        assert node.dynamics is not None
        leak = per_channel if node.dynamics.leak is None else node.dynamics.leak + per_channel
        graph.update(name, dynamics=replace(node.dynamics, leak=leak))
    if not potential:
        return
    for name, rate in run.rates(names).items():
        dynamics = graph[name].dynamics
        assert dynamics is not None
        start = np.asarray(dynamics.v_init) + (graph.timesteps or 1) * (wanted[name] - rate)
        graph.update(name, dynamics=replace(dynamics, v_init=start))


# -- which nodes, in which order ------------------------------------------------------------------


def _neurons(graph: Graph) -> list[str]:
    return [node.name for node in converted_neurons(graph) if node.is_neuron]


def _layers(graph: Graph) -> list[str]:
    """Synapse ops behind converted neurons whose normal equations fit into memory."""
    return [name for name in _behind_neurons(graph) if not _is_large(graph[name])]


def too_large(graph: Graph) -> list[str]:
    """Synapse ops that keep their weights because their normal equations would not fit into memory."""
    return [name for name in _behind_neurons(graph) if _is_large(graph[name])]


def _behind_neurons(graph: Graph) -> list[str]:
    behind: set[str] = set()
    for node in converted_neurons(graph):
        behind |= graph.descendants(node.name)
    return [node.name for node in graph if node.is_synapse and node.name in behind and node.on_chip]


def _is_large(node: Node) -> bool:
    return bool(np.prod(node.op.weight.shape[1:]) >= LARGEST)


def _rounds(graph: Graph, names: Sequence[str]) -> list[list[str]]:
    """Nodes to correct together: none of a round lies behind another one of it, all before it are done."""
    wanted = set(names)
    depth: dict[str, int] = {}
    rounds: dict[int, list[str]] = {}
    for node in graph.topological():
        before = max((depth[edge.src] for edge in graph.in_edges(node.name)), default=0)
        depth[node.name] = before + (node.name in wanted)
        if node.name in wanted:
            rounds.setdefault(depth[node.name], []).append(node.name)
    return [rounds[number] for number in sorted(rounds)]


# -- what spikes stand for ------------------------------------------------------------------------


def _reader(graph: Graph, name: str) -> Collect | None:
    """The `Collect` behind a node and before the next populations, if there is one."""
    for following in graph.successors(name):
        if isinstance(following.op, Collect):
            return following.op
        if not following.is_population and has_time(following) and (reader := _reader(graph, following.name)):
            return reader
    return None


def _values(reader: Collect | None, steps: int) -> np.ndarray:
    """What a spike stands for at each step, [T]: 1/T each, or what the `Collect` that reads it says."""
    weights, whole = step_weights(reader or Decode("mean"), steps)
    return weights.numpy() / whole


def _mean(signal: np.ndarray, values: np.ndarray) -> np.ndarray:
    """[samples, time, ...] to [samples, ...], each step weighed."""
    return np.einsum("nt...,t->n...", signal, values.astype(signal.dtype))
