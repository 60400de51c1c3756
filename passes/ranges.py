"""How large the currents and potentials get on calibration data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.reference.batches import batches
from hsnn_compiler.reference.float_executor import FloatExecutor


@dataclass(frozen=True)
class Ranges:
    """Largest magnitudes seen, by node name."""

    largest: dict[str, float]

    def current(self, encode: str) -> float:
        """Largest current an Encode presents."""
        return self.largest.get(encode, 0.0)

    def potential(self, neuron: str) -> float:
        """Largest membrane potential of an integrator."""
        return self.largest.get(neuron, 0.0)


def measure(graph: Graph, context: PassContext) -> Ranges:
    """Run the calibration data through the graph and note what Encodes and integrators reach."""
    names = [node.name for node in graph if node.kind == "Encode" or (node.is_neuron and not node.is_spiking)]
    largest = dict.fromkeys(names, 0.0)
    if names and context.calibration is None:
        raise refuse("E0213", "quantise needs data to know how large currents get", suggestion="pass --calib data.npz")
    if not names or context.calibration is None:
        return Ranges(largest)
    executor = FloatExecutor(graph)
    record = [(name, "s") for name in names]
    for batch, done, total in batches(graph, context.calibration, context.batch_size):
        trace = executor.run_batch(batch, record).trace
        for name in names:
            largest[name] = max(largest[name], float(np.abs(trace[name, "s"]).max(initial=0.0)))
        context.progress("calibration: currents", done, total)
    return Ranges(largest)
