"""Quantise the chip's part to Loihi's integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.quant import NeuronQuant, WeightQuant
from hsnn_compiler.passes.base import BOUNDED, Pass, PassContext, PassResult
from hsnn_compiler.passes.chip_steps import inclusive_tests
from hsnn_compiler.passes.collecting import quantise_first_spikes
from hsnn_compiler.passes.populations import Population
from hsnn_compiler.passes.ranges import measure

COARSE_THRESHOLD = 32
BITS = range(2, 9)  # one bit of mixed signs would hold nothing but -256 and 0


@dataclass(frozen=True)
class Quantise(Pass):
    """Give weights, biases, decays and thresholds the integer formats of Loihi.

    Each population gets one scale S (integer units per real unit) for everything that arrives: as large
    as its weights allow, then lowered until the threshold theta S is an integer, so that rounding
    the threshold costs nothing. Weights: 8 bits, |W - W_int/S| <= step/(2 S). Biases: 13-bit
    mantissa, 3-bit exponent. Decays: 12 bits, one or one per neuron, off by at most 1/8192 (but that none is faster
    than 1/4096). Synapses behind neurons that fire several times in a step
    multiply by payloads. The parameters of the ops become the dequantised ones.
    """

    bits: int = 8

    name: ClassVar[str] = "quantise"
    contract: ClassVar[str] = BOUNDED
    requires: ClassVar[tuple[str, ...]] = ("placed", "timed", "neurons-and-synapses", "single-source", "direct")
    ensures: ClassVar[tuple[str, ...]] = ("quantised",)
    layer_options: ClassVar[tuple[str, ...]] = ("bits",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        _check_bits(self.bits, graph, context)
        graph = _one_encode_per_population(graph)
        ranges = measure(graph, context)
        findings: list[Finding] = []
        populations = [node for node in graph if node.is_population and node.on_chip]
        for node in populations:
            try:
                if node.kind == "FirstSpike":
                    quantise_first_spikes(graph, node, self.bits, context, ranges)
                else:
                    Population(graph, node, self.bits, context, ranges).quantise()
            except HsnnError as error:
                findings += error.findings
            findings += coarse(graph[node.name]) if has_coarse_weights(graph, node.name) else []
        findings += inclusive_tests(populations)
        notes = (f"{len(populations)} populations, weights of at most {self.bits} bits", *_own_decays(graph))
        return PassResult(graph, True, notes, tuple(findings))


def _own_decays(graph: Graph) -> list[str]:
    names = [n.name for n in graph if isinstance(n.quant, NeuronQuant) and n.quant.has_own_decays]
    return [f"decays per neuron, to 1/4096, in {', '.join(names)}"] if names else []


def _check_bits(bits: int, graph: Graph, context: PassContext) -> None:
    wrong = [("", bits)] + [(node.name, context.layer(node.name, "bits", bits)) for node in graph]
    findings = [
        Finding("E0212", f"weights of {number} bits", node=name, supported=f"{BITS[0]} to {BITS[-1]} bits")
        for name, number in wrong
        if number not in BITS
    ]
    if findings:
        raise HsnnError(findings)


def has_coarse_weights(graph: Graph, name: str) -> bool:
    """Whether a population's threshold says how finely its weights are rounded: not where their sums are shifted."""
    quants = [source.quant for source in graph.predecessors(name) if source.is_synapse]
    return any(isinstance(quant, WeightQuant) and quant.exponent == 0 for quant in quants)


def coarse(node: Node, suggestion: str = "raise the floor of calibrate-thresholds") -> list[Finding]:
    """Warn of a threshold so small in integers that most weights into the population round to nothing (W0449)."""
    quant = node.quant
    if not isinstance(quant, NeuronQuant) or quant.vth >= COARSE_THRESHOLD:
        return []
    return [
        Finding(
            "W0449",
            f"the threshold is only {quant.vth} integer units, so weights well below it have little resolution",
            node=node.name,
            source=node.source,
            suggestion=f"compare float and integer accuracy; {suggestion}",
        )
    ]


def _one_encode_per_population(graph: Graph) -> Graph:
    """An analog input that feeds several populations is presented to each at its own scale."""
    graph = graph.copy()
    for encode in graph.of_kind("Encode"):
        edges = [] if encode.is_event_source or not encode.on_chip else graph.out_edges(encode.name)[1:]
        for edge in edges:
            copy = encode.with_(name=graph.unique(f"{encode.name}.{edge.dst}"))
            graph.disconnect(edge)
            graph.add(copy, graph.in_edges(encode.name)[0].src)
            graph.connect(edge._replace(src=copy.name))
    return graph
