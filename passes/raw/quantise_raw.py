"""Quantise a raw graph to Loihi's integers, for the data it will run on."""

from __future__ import annotations

from dataclasses import dataclass

from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.batchnorm import FoldBatchNorm
from hsnn_compiler.passes.noops import RemoveNoOps
from hsnn_compiler.passes.raw.building import Builder
from hsnn_compiler.passes.raw.neurons import Rule, rule_of, with_neurons_for_thresholds
from hsnn_compiler.passes.raw.payloads import Payloads, by_input, payload_unit
from hsnn_compiler.passes.raw.peaks import measure_peaks
from hsnn_compiler.passes.raw.ways import LINEAR_OPS, ROUTING_OPS, Arrivals, arrivals
from hsnn_compiler.reference.batches import Inputs, has_time

KNOWN_OPS = (*LINEAR_OPS, *ROUTING_OPS, "Input", "Output")


@dataclass(frozen=True)
class Integers:
    """A raw graph in integers.

    Attributes:
        graph: for `LoihiExecutor` and Lava; populations and outputs have the names of the real graph.
        findings: scales and losses of each population and input (I0457, I0458, W0449, W0459, W0460).
        payloads: makes the integers of its inputs from those of the real graph.
    """

    graph: Graph
    findings: tuple[Finding, ...]
    payloads: Payloads


def quantise_raw(graph: Graph, samples: Inputs) -> Integers:
    """Give a raw graph Loihi's integers: weights of 8 bits, biases of 13, decays of 12, thresholds of 17.

    Batch normalisation is folded. Linear ops between neurons become
    one synapse op; neurons that feed neurons get synapses of weight 1; resets to a
    value become resets to zero, thresholds that differ are divided into the weights, all of it exact. A bias is
    added to the potential; one that acts through a synaptic current, or arrives later than step 0, comes from an input
    of its own. What is then rounded, and by how much, the findings say.

    Args:
        graph: a raw graph in real numbers: inputs with a time axis, every neuron with dynamics.
        samples: inputs [samples, time, ...], by which currents, potentials and payloads are scaled.

    Raises:
        HsnnError: with all findings: E0434, E0435, E0443, E0444, E0445, E0453, E0455; E0330 for data that do not fit.
    """
    graph = infer_types(with_neurons_for_thresholds(_without_layers_for_training(graph)))
    findings = _foreign(graph)
    if findings:
        raise HsnnError(findings)
    data = by_input(graph, samples)
    rules: dict[str, Rule] = {}
    arriving: dict[str, Arrivals] = {}
    for node in graph:
        try:
            if node.is_neuron:
                rules[node.name] = rule_of(node)
            if node.is_neuron or node.kind == "Output":
                arriving[node.name] = arrivals(graph, node)
        except HsnnError as error:
            findings += error.findings
    if findings:
        raise HsnnError(findings)
    notes: list[Finding] = []
    units = {}
    for name, array in data.items():
        units[name], note = payload_unit(name, array, coarse=_meets_convolution(arriving, name))
        notes += [note] if note else []
    builder = Builder(graph, units)
    peaks, measured = measure_peaks(graph, data)
    if measured < len(next(iter(data.values()))):
        text = f"how large currents and potentials get was measured on the first {measured} samples"
        notes.append(Finding("I0457", text, suggestion="look at what a run says has saturated"))
    for name, found in arriving.items():
        try:
            if graph[name].is_neuron:
                builder.population(graph[name], rules[name], found, peaks[name])
            else:
                builder.output(graph[name], found)
        except HsnnError as error:
            findings += error.findings
    if findings:
        raise HsnnError(findings)
    return Integers(infer_types(builder.graph), (*notes, *builder.findings), Payloads(units, builder.constants))


def _without_layers_for_training(graph: Graph) -> Graph:
    context = PassContext()
    graph = infer_types(RemoveNoOps().run(infer_types(graph), context).graph)
    return FoldBatchNorm().run(graph, context).graph


def _foreign(graph: Graph) -> list[Finding]:
    """What has no integers here, or no place in a raw graph."""
    return [
        Finding(
            "E0455",
            f"{node.kind} has no integers" if has_time(node) else f"{node.kind} of values without a time axis",
            node=node.name,
            source=node.source,
            supported=", ".join(sorted({*KNOWN_OPS, "neurons"})),
            suggestion="--backend float" if has_time(node) else "hsnn-compile MODEL makes a program of it",
        )
        for node in graph
        if not has_time(node) or not (node.is_neuron or node.kind in KNOWN_OPS)
    ]


def _meets_convolution(arriving: dict[str, Arrivals], name: str) -> bool:
    """Whether an input goes through anything but a matrix."""
    return any(
        way.source == name and not any(op.kind in ("Affine", "Linear") for op in way.ops)
        for found in arriving.values()
        for way in found.ways
    )
