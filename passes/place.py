"""Count what the network needs on the chip, layer by layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.quant import WeightQuant
from hsnn_compiler.ir.shapes import conv_padding
from hsnn_compiler.passes.base import BOUNDED, Pass, PassContext, PassResult
from hsnn_compiler.targets import Target


@dataclass(frozen=True)
class Usage:
    """What one population and the synapses into it need.

    Attributes:
        name: of the population.
        neurons: number of neurons.
        synapses: connections, counted as the chip sees them (a convolution's weights once per use).
        weight_bits: memory for weights, bits; convolution kernels count once, as cores share them among their neurons.
        share: of one core, by whatever fills it first; 1.0 is one full core.
        bound_by: what that is.
    """

    name: str
    neurons: int
    synapses: int
    weight_bits: int
    share: float
    bound_by: str

    @property
    def cores(self) -> int:
        """Estimated neuron cores: populations do not share one."""
        return max(1, math.ceil(self.share))


@dataclass(frozen=True)
class Place(Pass):
    """Estimate neuron cores per layer against one core's and one chip's limits.

    An estimate: neurons per core, synapse memory per core and input axons per core each give a lower
    bound, the largest of which is used. Constants and their sources: ``hsnn-compile targets loihi2``.
    """

    name: ClassVar[str] = "place"
    contract: ClassVar[str] = BOUNDED
    requires: ClassVar[tuple[str, ...]] = ("scheduled",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        usage = usages(graph, context.target)
        target = context.target
        findings = []
        for what, used, limit in totals(usage, target):
            if used > limit:
                findings.append(
                    Finding(
                        "E0501",
                        f"{used} {what}, the chip has {limit}",
                        supported=f"one {target.title}",
                        suggestion="fewer channels, more pooling, or pin layers to the host: --layer NAME:place=host",
                    )
                )
        cores = sum(item.cores for item in usage)
        return PassResult(graph, False, (f"about {cores} of {target['chip.neuron_cores']} cores",), tuple(findings))


def totals(usage: list[Usage], target: Target) -> list[tuple[str, int, int]]:
    """(what, used, limit) for the whole chip."""
    return [
        ("neurons", sum(item.neurons for item in usage), target["chip.neurons"]),
        ("synapses", sum(item.synapses for item in usage), target["chip.synapses"]),
        ("neuron cores", sum(item.cores for item in usage), target["chip.neuron_cores"]),
    ]


def usages(graph: Graph, target: Target) -> list[Usage]:
    """What every population on the chip needs, in the order of the graph."""
    return [_usage(graph, node, target) for node in graph if node.is_neuron and node.on_chip]


def _usage(graph: Graph, node: Node, target: Target) -> Usage:
    assert node.type is not None
    incoming = [source for source in graph.predecessors(node.name) if source.is_synapse]
    synapses = sum(connections(graph, source) for source in incoming)
    neurons = node.type.size
    bits = sum(_bits(source) for source in incoming)
    memory = target["core.synapse_words"] * target["core.weights_per_word"] * 8
    axons = sum(math.prod(graph.predecessors(source.name)[0].shape) for source in incoming)
    bounds = {
        "neurons": neurons / target["core.neurons"],
        "synapse memory": bits / memory,
        "input axons": axons / target["core.input_axons"],
    }
    bound_by = max(bounds, key=lambda what: bounds[what])
    return Usage(node.name, neurons, synapses, bits, bounds[bound_by], bound_by)


def connections(graph: Graph, node: Node) -> int:
    """Connections of a synapse op that are not zero, borders of convolutions taken off exactly."""
    used = node.quant.integers if isinstance(node.quant, WeightQuant) else node.op.weight
    if node.op.weight.ndim == 2:
        return int(np.count_nonzero(used))
    shape = graph.predecessors(node.name)[0].shape
    taps = np.count_nonzero(used, axis=(0, 1)).astype(np.int64)
    dims = node.op.weight.ndim - 2
    stride, dilation = (np.broadcast_to(np.atleast_1d(a), (dims,)) for a in (node.op.stride, node.op.dilation))
    for axis, ((before, _), size, out) in enumerate(zip(conv_padding(node.op), shape[1:], node.shape[1:], strict=True)):
        positions = np.arange(out)[:, None] * stride[axis] - before + np.arange(taps.shape[axis]) * dilation[axis]
        inside = ((positions >= 0) & (positions < size)).sum(0)
        taps = taps * inside.reshape(-1, *[1] * (dims - 1 - axis))
    return int(taps.sum())


def _bits(node: Node) -> int:
    used = node.quant.integers if isinstance(node.quant, WeightQuant) else node.op.weight
    bits = node.quant.bits if isinstance(node.quant, WeightQuant) else 8
    return int(np.count_nonzero(used)) * bits
