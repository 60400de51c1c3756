"""Properties of graphs that passes require and ensure; each is checked, not believed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hsnn_compiler.ir.dynamics import discretize
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.ops import ACTIVATIONS
from hsnn_compiler.ir.stages import is_host
from hsnn_compiler.ir.types import Coding
from hsnn_compiler.reference.spinnaker2_cells import input_scale, integers, synapses

ROUNDED = 1e-6
"""A weight that is so close to a whole number of steps counts as one."""


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
    return not any(node.on_chip for node in graph.of_kind(*ACTIVATIONS))


def _direct(graph: Graph) -> bool:
    """Every direct Encode feeds neurons only: the input reaches the chip as a current, or as spikes."""
    encodes = [node for node in graph.of_kind("Encode") if not node.is_event_source]
    return all(node.is_population for encode in encodes for node in graph.successors(encode.name))


def _chip_only_neurons_and_synapses(graph: Graph) -> bool:
    allowed = ("Flatten", "Encode", "Collect")
    return all(node.is_population or node.is_synapse or node.kind in allowed for node in graph if node.on_chip)


def ends_synapses(node: Node) -> bool:
    """Whether a layer of synapses may end at a node: a population, or what collects for one."""
    return node.is_population or node.kind == "Collect"


def sends_spikes(node: Node) -> bool:
    """Whether synapses on the chip may begin at a node: it fires, or the host sends what it puts out in every step."""
    from_host = is_host(node) and node.type is not None and node.type.coding in (Coding.SPIKES, Coding.GRADED)
    return node.is_spiking or from_host


def _single_source(graph: Graph) -> bool:
    """Every synapse op on the chip has one source, and ends at neurons."""
    return all(
        len(graph.in_edges(node.name)) == 1 and all(ends_synapses(n) for n in graph.successors(node.name))
        for node in graph
        if node.on_chip and node.is_synapse
    )


def _quantised(graph: Graph) -> bool:
    return _placed(graph) and all(
        node.quant is not None for node in graph if node.on_chip and (ends_synapses(node) or node.is_synapse)
    )


def _pynn_neurons(graph: Graph) -> bool:
    """Every population on the chip is one that IF_curr_delta can be: a leak, and reset to zero at once."""
    steps = [discretize(node.op, node.dynamics) for node in graph if node.on_chip and node.dynamics is not None]
    others = [node for node in graph if node.on_chip and node.is_population and node.dynamics is None]
    return not others and all(
        step.is_basic
        and step.current_decay is None
        and step.reset == ("none" if step.threshold is None else "zero")
        and bool(np.all((step.decay >= 0) & (step.decay < 1)))
        for step in steps
    )


def _lif_neurons(graph: Graph) -> bool:
    """Every population on the chip is one that py-spinnaker2's LIF neurons can be: reset by subtraction or to zero."""
    steps = [discretize(node.op, node.dynamics) for node in graph if node.on_chip and node.dynamics is not None]
    others = [node for node in graph if node.on_chip and node.is_population and node.dynamics is None]
    return not others and all(
        step.is_basic
        and step.current_decay is None
        and step.reset in (("none",) if step.threshold is None else ("zero", "subtract"))
        and bool(np.all((step.decay >= 0) & (step.decay <= 1)) and np.all(step.gain > 0))
        for step in steps
    )


def _int8_weights(graph: Graph) -> bool:
    """Every weight on the chip is a whole number of its neuron's steps."""
    for node in graph:
        if node.on_chip and node.is_population:
            scale = input_scale(graph, node)
            for feed in synapses(graph, node):
                rows = np.broadcast_to(scale.reshape(-1), len(feed.op.weight))
                steps = feed.op.weight * rows.reshape(-1, *[1] * (feed.op.weight.ndim - 1))
                if np.abs(steps - integers(feed.op, scale)).max(initial=0) > ROUNDED:
                    return False
    return True


def _scheduled(graph: Graph) -> bool:
    return _placed(graph) and all(node.schedule is not None for node in graph if node.on_chip and ends_synapses(node))


PROPERTIES: dict[str, Callable[[Graph], bool]] = {
    "typed": _typed,
    "no-noops": _no_noops,
    "placed": _placed,
    "timed": _timed,
    "direct": _direct,
    "neurons-and-synapses": _chip_only_neurons_and_synapses,
    "single-source": _single_source,
    "quantised": _quantised,
    "pynn-neurons": _pynn_neurons,
    "lif-neurons": _lif_neurons,
    "int8-weights": _int8_weights,
    "scheduled": _scheduled,
}

COMPLETE = ("placed", "timed", "quantised", "scheduled")
"""What a graph must be to be emitted for Loihi 2."""

COMPLETE_FOR = {
    "loihi2": COMPLETE,
    "spinnaker": ("placed", "timed", "pynn-neurons", "scheduled"),
    "spinnaker2": ("placed", "timed", "lif-neurons", "int8-weights", "scheduled"),
}
"""What a graph must be to be emitted, by family of targets."""
