"""How large currents and potentials get on given data, from a run in real numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.reference.batches import batches
from hsnn_compiler.reference.float_executor import FloatExecutor

TRACE_BYTES = 2**28
"""Recordings of one batch stay below this, as far as the number of samples decides it."""
NEURON_STEPS = 2**27
"""So many are looked at, of at least one sample: more takes longer than running the integers."""


@dataclass(frozen=True, eq=False)
class Peak:
    """Largest magnitudes of a population over samples and steps, per neuron, in the units of its graph."""

    u: np.ndarray
    v: np.ndarray


def measure_peaks(graph: Graph, inputs: Mapping[str, np.ndarray]) -> tuple[dict[str, Peak], int]:
    """Run data [samples, time, ...] through a raw graph in real numbers; by population, and of how many samples."""
    populations = [node for node in graph if node.is_neuron]
    record = [(node.name, variable) for node in populations for variable in "uv"]
    peaks = {node.name: Peak(np.zeros(node.shape), np.zeros(node.shape)) for node in populations}
    first = next(iter(inputs.values()))
    per_sample = max(1, first.shape[1] * sum(int(np.prod(node.shape)) for node in populations))
    samples = min(len(first), max(1, NEURON_STEPS // per_sample))
    some = {name: array[:samples] for name, array in inputs.items()}
    executor = FloatExecutor(graph, method="auto")
    for batch, _, _ in batches(graph, some, max(1, TRACE_BYTES // (8 * per_sample))):
        trace = executor.run_batch(batch, record).trace
        for name, peak in peaks.items():
            np.maximum(peak.u, np.abs(trace[name, "u"]).max((0, 1)), out=peak.u)
            np.maximum(peak.v, np.abs(trace[name, "v"]).max((0, 1)), out=peak.v)
    return peaks, samples
