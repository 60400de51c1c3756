"""What of a neuron's step the stock model IF_curr_delta does; everything else is refused."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.dynamics import StepCoefficients, discretize
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.types import Coding

SUPPORTED = "V <- beta V + input, a spike where V reaches the threshold, then V = 0: IF and LIF with reset to zero"
ON_HOST = "--layer {name}:place=host runs these neurons on the host; --target loihi2 has more kinds of them"
MOST_LEAK_FREE = 2.0**-12
"""A potential that loses a smaller share per step counts as one that loses nothing, see `LeakIntegrators`."""

NO_STEP = {
    "FirstSpike": "neurons that fire once (time to first spike)",
    "SigmaDelta": "sigma-delta neurons",
    "DeltaEncoder": "delta encoders",
    "Collect": "inputs that are collected for a window and presented in the next (events of an analog input, decoded)",
}


def refusals(graph: Graph) -> list[Finding]:
    """Every population, and every signal into one, that stock SpiNNaker neurons cannot be (E0510, E0511)."""
    findings = []
    for node in graph:
        if not node.on_chip:
            continue
        findings += [
            Finding(code, text, node=node.name, source=node.source, supported=supported, suggestion=way_out)
            for code, text, supported, way_out in _wrong(graph, node)
        ]
    return findings


def _wrong(graph: Graph, node: Node) -> Iterator[tuple[str, str, str, str]]:
    on_host = ON_HOST.format(name=node.name)
    if node.kind in NO_STEP:
        way_out = "--encode current or host" if node.kind in ("Collect", "FirstSpike") else on_host
        yield "E0511", NO_STEP[node.kind], SUPPORTED, way_out
    if node.is_neuron and node.dynamics is not None:
        step = discretize(node.op, node.dynamics)
        if step.threshold is not None and step.reset == "subtract":
            text = "reset by subtraction, which stock SpiNNaker neurons do not have"
            yield "E0510", text, "reset to zero", _softer(node)
        for text in odd_steps(node, step):
            yield "E0511", text, SUPPORTED, on_host
    yield from odd_synapses(graph, node)


def odd_synapses(graph: Graph, node: Node) -> Iterator[tuple[str, str, str, str]]:
    """What is not spikes of 0 or 1, without a delay of the model: code, text, what is supported, a way out."""
    if not (node.is_synapse or node.is_population):
        return
    for edge in graph.in_edges(node.name):
        source = graph[edge.src]
        if edge.delay:
            text, way_out = f"a delay of {edge.delay} steps in the model", ON_HOST.format(name=node.name)
            yield "E0511", text, "connections without delays", way_out
        if node.is_synapse and source.type is not None and source.type.coding is Coding.GRADED:
            yield "E0511", f"graded spikes, from {source.name}", "spikes of 0 or 1", "--max-spikes 1"


def _softer(node: Node) -> str:
    converted = node.was is not None
    first = "--reset zero" if converted else "--reset force-zero lets them reset to zero, with its measured loss"
    return f"{first}; --target spinnaker2 subtracts; {ON_HOST.format(name=node.name)}"


def odd_steps(node: Node, step: StepCoefficients) -> Iterator[str]:
    """What a step does besides a leak, a threshold and a reset at once, in words."""
    if step.current_decay is not None:
        yield f"{node.kind}, a neuron with a synaptic current"
    wrong = step.decay[(step.decay < 0) | (step.decay > 1)]
    if wrong.size:
        yield f"a decay of {wrong.flat[0]:.4g} per step"
    if step.v_min is not None and np.any(step.v_min > -np.inf):
        yield "a lower bound of the potential"
    if step.threshold is None:
        return
    if step.reset == "none":
        yield "neurons that fire and do not reset"
    if step.reset == "value" and np.any(step.v_reset):
        yield "reset to a value other than zero"
    if step.reset != "none" and step.reset_at not in ("spike", "before") and step.reset != "subtract":
        yield f"a reset that acts later (reset_at={step.reset_at})"
    if step.reset_current or step.reset_to_current:
        yield "a reset of the synaptic current"
    if step.max_spikes != 1:
        yield f"up to {step.max_spikes or 'any number of'} spikes in one step"
    if step.refractory:
        yield f"{step.refractory} refractory steps"
    if np.any(step.threshold <= 0):
        yield "a threshold that is not positive"
