"""How large the currents and potentials get on calibration data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.dynamics import Dynamics, StepCoefficients, discretize
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.payloads import largest_payload
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.reference.batches import batches
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.reference.result import Record


@dataclass(frozen=True)
class Ranges:
    """Largest magnitudes seen, by node name; 0 where nobody looked."""

    largest: dict[str, float]

    def current(self, source: str) -> float:
        """Largest current an Encode or a Collect presents."""
        return self.largest.get(source, 0.0)

    def potential(self, neuron: str) -> float:
        """Largest membrane potential of an integrator; of neurons that payloads reach, see `_reached`."""
        return self.largest.get(neuron, 0.0)


def measure(graph: Graph, context: PassContext) -> Ranges:
    """Run the calibration data through the graph and note how large things get.

    Looked at: what Encodes and Collects present, integrators, and neurons with payloads.
    """
    names = [node.name for node in graph if node.on_chip and _is_looked_at(node)]
    counting = {
        node.name: discretize(node.op, node.dynamics)
        for node in graph
        if node.dynamics is not None and _counts(graph, node, node.dynamics)
    }
    largest = dict.fromkeys((*names, *counting), 0.0)
    if largest and context.calibration is None:
        raise refuse("E0213", "quantise needs data to know how large currents get", suggestion="pass --calib data.npz")
    if not largest or context.calibration is None:
        return Ranges(largest)
    executor = FloatExecutor(graph)
    record = [(name, "s") for name in names] + [(name, variable) for name in counting for variable in "suv"]
    for batch, done, total in batches(graph, context.calibration, context.batch_size):
        trace = executor.run_batch(batch, record).trace
        for name in names:
            largest[name] = max(largest[name], float(np.abs(trace[name, "s"]).max(initial=0.0)))
        for name, step in counting.items():
            largest[name] = max(largest[name], _reached(trace, name, step))
        context.progress("calibration: currents", done, total)
    return Ranges(largest)


def _is_looked_at(node: Node) -> bool:
    """Whether a node presents a current, constant for a sample, or adds up without end."""
    presents = node.kind == "Collect" or (node.kind == "Encode" and not node.is_event_source)
    return presents or (node.is_neuron and not node.is_spiking)


def _counts(graph: Graph, node: Node, dynamics: Dynamics) -> bool:
    """Whether a population fires several times in a step, or takes payloads: sums are then larger than of spikes."""
    if not (node.is_spiking and node.on_chip):
        return False
    synapses = [source for source in graph.predecessors(node.name) if source.is_synapse]
    feeds = [source for synapse in synapses for source in graph.predecessors(synapse.name)]
    steps = [source for source in feeds if source.type is not None and source.type.coding.per_step]
    keeps_current = dynamics.current_decay is not None and bool(np.all(np.asarray(dynamics.current_decay) >= 1))
    return keeps_current or any(largest_payload(graph, source) != 1 for source in (node, *steps))


def _reached(trace: dict[Record, np.ndarray], name: str, step: StepCoefficients) -> float:
    """Largest input of one step, in units of the potential, or half the largest potential before a reset.

    Beyond 24 bits an input wraps, which needs a margin twice as large as potentials do, which saturate.
    """
    fired = trace[name, "s"] * (0.0 if step.threshold is None else step.threshold)
    before = np.abs(trace[name, "v"] + fired).max(initial=0.0)
    return float(max(before / 2, np.abs(step.gain * trace[name, "u"]).max(initial=0.0)))
