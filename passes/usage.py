"""Count what the network needs on the chip, layer by layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hsnn_compiler.ir.fan_out import fan_out
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.quant import WeightQuant
from hsnn_compiler.targets import Target


@dataclass(frozen=True)
class Usage:
    """What one population and the synapses into it need.

    Attributes:
        name: of the population.
        neurons: number of neurons.
        synapses: connections, counted as the chip sees them (a convolution's weights once per use).
        axons: input axons: neurons that feed it, once per connection.
        weight_bits: memory for weights, bits; convolution kernels count once, as cores share them among their neurons.
        share: of one core, by whatever fills it first; 1.0 is one full core.
        bound_by: what that is.
    """

    name: str
    neurons: int
    synapses: int
    axons: int
    weight_bits: int
    share: float
    bound_by: str

    @property
    def cores(self) -> int:
        """Estimated neuron cores: populations do not share one."""
        return max(1, math.ceil(self.share))


def totals(usage: list[Usage], target: Target) -> list[tuple[str, int, int]]:
    """(what, used, limit) for all chips of the target together."""
    return [
        ("neurons", sum(item.neurons for item in usage), target.chips * target["chip.neurons"]),
        ("synapses", sum(item.synapses for item in usage), target.chips * target["chip.synapses"]),
        ("neuron cores", sum(item.cores for item in usage), target.chips * target["chip.neuron_cores"]),
    ]


def usages(graph: Graph, target: Target) -> list[Usage]:
    """What every population on the chip needs, in the order of the graph."""
    return [_usage(graph, node, target) for node in graph if node.is_population and node.on_chip]


def incoming(graph: Graph, population: Node) -> list[Node]:
    """Synapse ops that end at a population, or at a `Collect` in front of it, which is part of it on the chip."""
    sources = graph.predecessors(population.name)
    collects = [source.name for source in sources if source.kind == "Collect"]
    behind = [synapse for name in collects for synapse in graph.predecessors(name)]
    return [source for source in (*sources, *behind) if source.is_synapse]


def _usage(graph: Graph, node: Node, target: Target) -> Usage:
    assert node.type is not None
    feeds = incoming(graph, node)
    synapses = sum(connections(graph, source) for source in feeds)
    neurons = node.type.size
    bits = sum(_bits(source) for source in feeds)
    memory = target["core.synapse_words"] * target["core.weights_per_word"] * 8
    axons = sum(math.prod(graph.predecessors(source.name)[0].shape) for source in feeds)
    bounds = {
        "neurons": neurons / target["core.neurons"],
        "synapse memory": bits / memory,
        "input axons": axons / target["core.input_axons"],
    }
    bound_by = max(bounds, key=lambda what: bounds[what])
    return Usage(node.name, neurons, synapses, axons, bits, bounds[bound_by], bound_by)


def connections(graph: Graph, node: Node) -> int:
    """Connections of a synapse op that are not zero, borders of convolutions taken off exactly."""
    return int(fan_out(node.op, chip_weights(node), graph.predecessors(node.name)[0].shape).sum())


def chip_weights(node: Node) -> np.ndarray:
    """Weights of a synapse op as the chip holds them: the integers, or the real numbers before quantisation."""
    weights: np.ndarray = node.quant.integers if isinstance(node.quant, WeightQuant) else node.op.weight
    return weights


def _bits(node: Node) -> int:
    bits = node.quant.bits if isinstance(node.quant, WeightQuant) else 8
    return int(np.count_nonzero(chip_weights(node))) * bits
