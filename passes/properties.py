"""Properties of graphs that passes require and ensure; each is checked, not believed."""

from __future__ import annotations

from collections.abc import Callable

from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.quant import NeuronQuant, WeightQuant


def _typed(graph: Graph) -> bool:
    return all(node.type is not None for node in graph)


def _no_noops(graph: Graph) -> bool:
    return not graph.of_kind("NoOp")


def _placed(graph: Graph) -> bool:
    return all(node.placement is not None for node in graph)


def _timed(graph: Graph) -> bool:
    """Every edge between host and chip is a crossing, and no activation is left on the chip."""
    if graph.timesteps is None:
        return False
    return not any(node.on_chip for node in graph.of_kind("ReLU", "Clip"))


def _direct(graph: Graph) -> bool:
    """Every Encode feeds neurons only: the input reaches the chip as a current."""
    return all(node.is_neuron for encode in graph.of_kind("Encode") for node in graph.successors(encode.name))


def _chip_only_neurons_and_synapses(graph: Graph) -> bool:
    allowed = ("Flatten", "Encode")
    return all(node.is_neuron or node.is_synapse or node.kind in allowed for node in graph if node.on_chip)


def _single_source(graph: Graph) -> bool:
    """Every synapse op on the chip has one source, and ends at neurons."""
    return all(
        len(graph.in_edges(node.name)) == 1 and all(n.is_neuron for n in graph.successors(node.name))
        for node in graph
        if node.on_chip and node.is_synapse
    )


def _quantised(graph: Graph) -> bool:
    return _placed(graph) and all(
        isinstance(node.quant, (WeightQuant, NeuronQuant))
        for node in graph
        if node.on_chip and (node.is_neuron or node.is_synapse)
    )


def _scheduled(graph: Graph) -> bool:
    return _placed(graph) and all(node.schedule is not None for node in graph if node.on_chip and node.is_neuron)


PROPERTIES: dict[str, Callable[[Graph], bool]] = {
    "typed": _typed,
    "no-noops": _no_noops,
    "placed": _placed,
    "timed": _timed,
    "direct": _direct,
    "neurons-and-synapses": _chip_only_neurons_and_synapses,
    "single-source": _single_source,
    "quantised": _quantised,
    "scheduled": _scheduled,
}

COMPLETE = ("placed", "timed", "quantised", "scheduled")
"""What a graph must be to be emitted."""
