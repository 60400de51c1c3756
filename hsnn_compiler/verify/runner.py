"""Runs one stage on batches and brings what comes out into the terms in which stages are compared."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.ops import ACTIVATIONS
from hsnn_compiler.reference.batches import has_time
from hsnn_compiler.reference.codes import first_spike_values
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.reference.loihi_executor import LoihiExecutor
from hsnn_compiler.reference.result import Record, Result
from hsnn_compiler.verify.stages import Stage

LAYERS = (*ACTIVATIONS, "LeakyReLU", "Sigmoid", "Tanh", "GELU")


@dataclass(frozen=True)
class Snapshot:
    """One batch in one stage.

    Attributes:
        outputs: of the first output, [samples, classes]; added up over time where it has time.
        signals: by layer, [samples, time, ...] spikes (bytes), or [samples, ...] values.
        spikes: of all populations together.
        saturated: see `Result`.
    """

    outputs: np.ndarray
    signals: dict[str, np.ndarray]
    spikes: int
    saturated: dict[str, int]


class Runner:
    """An executor for a stage.

    Args:
        stage: what to run.
        layers: names of the layers to look at. Not in its snapshots are those the stage has not, host values in
            integer stages, and converted layers of which it is not known what a spike stands for.
    """

    def __init__(self, stage: Stage, layers: Sequence[str]) -> None:
        import torch

        self.stage, self.graph = stage, stage.graph
        self.executor: LoihiExecutor | FloatExecutor
        if stage.integers:
            self.executor = LoihiExecutor(stage.graph)
        else:
            self.executor = FloatExecutor(stage.graph, torch.float64, method="auto")
        self.input = stage.graph.of_kind("Input")[0].name
        self.layers = [name for name in layers if name in self.graph and self._comparable(name)]

    @property
    def timed(self) -> set[str]:
        """Layers with a time axis."""
        return {name for name in self.layers if has_time(self.graph[name])}

    def _comparable(self, name: str) -> bool:
        node = self.graph[name]
        if not has_time(node):
            return not self.stage.integers
        return node.was is None or name in self.stage.scales

    def run(self, x: np.ndarray) -> Snapshot:
        """Run samples [samples, ...]."""
        result = self.executor.run_batch({self.input: x}, [(name, "s") for name in self.layers])
        spiking = {node.name for node in self.graph if node.is_spiking}
        return Snapshot(
            outputs_of(self.graph, result),
            {name: _compact(result.trace[name, "s"], name in spiking) for name in self.layers},
            sum(count for name, count in result.spikes.items() if name in spiking),
            dict(result.saturated),
        )

    def traces(self, x: np.ndarray, record: Collection[Record]) -> dict[Record, np.ndarray]:
        """Run samples again, for recordings."""
        return self.executor.run_batch({self.input: x}, record).trace

    def activity(self, name: str, signal: np.ndarray) -> np.ndarray:
        """[samples, ...]: the rate times what a spike in every step stands for, or the value.

        Of neurons that fire once, the share of the window that is left at the spike stands for the rate.
        """
        if name not in self.timed:
            return signal
        once = self.graph[name].kind == "FirstSpike"
        rate: np.ndarray = first_spike_values(signal) if once else signal.mean(1, dtype=np.float64)
        return rate * self.scale(name)

    def most_spikes(self, name: str) -> int:
        """How often a neuron of the layer fires in one step at most; 1 where there is no bound."""
        dynamics = self.graph[name].dynamics
        return 1 if dynamics is None else dynamics.max_spikes or 1

    def scale(self, name: str) -> np.ndarray:
        """What a spike in every step stands for; broadcasts against the layer's shape."""
        return np.asarray(self.stage.scales.get(name, 1.0), np.float64)


def layers_of(graph: Graph) -> list[str]:
    """The layers of a captured graph that stages are compared at: activations and spiking populations."""
    return [node.name for node in graph.topological() if node.is_spiking or node.kind in LAYERS]


def outputs_of(graph: Graph, result: Result) -> np.ndarray:
    """[samples, classes] of the first output, in float64."""
    name = sorted(result.outputs, key=lambda name: (len(name), name))[0]
    return flat_outputs(result.outputs[name], graph)


def flat_outputs(array: np.ndarray, graph: Graph) -> np.ndarray:
    """[samples, classes] of what an output node puts out; added up over time where it has time."""
    node = graph.of_kind("Output")[0]
    array = array.astype(np.float64)
    if array.ndim == len(node.shape) + 2:
        array = array.sum(1)
    return array.reshape(len(array), -1)


def _compact(signal: np.ndarray, spiking: bool) -> np.ndarray:
    """Single spikes as bytes."""
    return signal.astype(np.uint8) if spiking and signal.max(initial=0) <= 255 else signal
