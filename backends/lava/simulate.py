"""Run a compiled program on Lava's CPU backend and bring the result back in the graph's terms."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from hsnn_compiler.backends.host.runner import onnx_runner
from hsnn_compiler.backends.lava.emit import chip_inputs, depth_of, leaving
from hsnn_compiler.backends.lava.layout import from_lava
from hsnn_compiler.backends.lava.runner import run_network
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.reference.batches import Inputs
from hsnn_compiler.reference.loihi_ends import complete
from hsnn_compiler.reference.loihi_executor import LoihiExecutor
from hsnn_compiler.reference.result import Record, Result


def simulate(
    graph: Graph,
    directory: Path,
    inputs: Inputs,
    record: Collection[Record] = (),
    *,
    deadline_s: float,
    on_progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Run samples one after the other on Lava, in a child process.

    Args:
        graph: the quantised, scheduled graph from which ``directory/network.py`` was emitted.
        directory: folder with the emitted network.
        inputs: [samples, ...] as for the executors.
        record: signals (population, ``s``, ``u`` or ``v``) to keep; [samples, time, ...] in the graph's layout.
        deadline_s: seconds after which the run is ended.
        on_progress: called with (steps done, all steps).
    """
    host = LoihiExecutor(graph, hosts=onnx_runner)
    given = chip_inputs(host, inputs)
    spikes = [(node.name, "s") for node in graph if node.is_spiking and node.on_chip]
    outputs = {(node.name, "s" if node.is_spiking else "v") for node in leaving(graph)}
    wanted: dict[str, list[str]] = {}
    for name, variable in sorted({*spikes, *outputs, *(_lava_signal(graph, key) for key in record)}):
        wanted.setdefault(name, []).append(variable)
    recorded = run_network(directory, given, wanted, deadline_s=deadline_s, on_progress=on_progress)
    latency = depth_of(graph)
    trace = {key: _windows(graph, key[0], np.asarray(array), latency) for key, array in recorded.items()}
    result = complete(host, inputs, {name: trace[name, variable] for name, variable in outputs})
    result.trace = {key: trace[_lava_signal(graph, key)] for key in record}
    result.spikes = {name: int(np.count_nonzero(trace[name, "s"])) for name, _ in spikes}
    return result


def _lava_signal(graph: Graph, key: Record) -> Record:
    """What Lava records for a signal: neurons that never spike put out their potential."""
    name, variable = key
    return (name, "v") if variable == "s" and graph[name].is_neuron and not graph[name].is_spiking else key


def _windows(graph: Graph, name: str, recorded: np.ndarray, latency: int) -> np.ndarray:
    """Cut [steps, *lava shape] into [samples, time, *shape]."""
    node = graph[name]
    assert node.schedule is not None
    depth, period = node.schedule.depth, node.schedule.period
    own = recorded[depth : len(recorded) - latency + depth].reshape(-1, period, *recorded.shape[1:])
    return from_lava(own[:, : graph.timesteps], node.shape)
