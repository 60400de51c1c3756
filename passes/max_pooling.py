"""Max pooling of spikes as neurons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import nir
import numpy as np

from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.shapes import pair
from hsnn_compiler.ir.types import Coding
from hsnn_compiler.passes.base import Pass, PassContext, PassResult, count
from hsnn_compiler.passes.max_of_values import as_comparisons, can_be_lowered
from hsnn_compiler.passes.spike_logic import fires_above


@dataclass(frozen=True)
class LowerMaxPooling(Pass):
    """Replace max pooling by neurons and synapses.

    Of spikes: neurons that fire if any of their window does, max_i s_i = [sum_i s_i > 1/2] for s_i in {0, 1}: a
    depthwise convolution with weights 1, and neurons of threshold 1/2 that keep nothing from step to step. It costs
    one step of latency, and a neuron per window. Of values behind activations, in a graph without time:
    max(a, b) = a + ReLU(b - a), in a tree over each window, whose ReLUs become neurons like any other. Other max
    pooling stays, and the partition says why it is in the way; ``--layer NAME:place=host`` keeps one on the host.
    """

    name: ClassVar[str] = "lower-max-pooling"
    requires: ClassVar[tuple[str, ...]] = ("typed",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        graph = graph.copy()
        pools = [node for node in graph.of_kind("MaxPool2d") if _takes_spikes(graph, node)]
        for node in pools:
            _as_neurons(graph, node)
        notes = [f"{count(len(pools), 'max pooling')} of spikes made neurons"] if pools else []
        for node in graph.of_kind("MaxPool2d"):
            pinned = context.layer(node.name, "place", "") == "host"
            if graph.timesteps is None and not pinned and can_be_lowered(graph, node):
                notes.append(f"{node.name}: {count(as_comparisons(graph, node), 'comparison')} per window")
                graph = infer_types(graph)
        return PassResult(infer_types(graph) if pools else graph, bool(notes), tuple(notes))


def _takes_spikes(graph: Graph, node: Node) -> bool:
    sources = graph.predecessors(node.name)
    return len(sources) == 1 and sources[0].type is not None and sources[0].type.coding is Coding.SPIKES


def _as_neurons(graph: Graph, node: Node) -> None:
    op, shape = node.op, graph.predecessors(node.name)[0].shape
    ones = np.ones((shape[0], 1, *pair(op.kernel_size)))
    conv = nir.Conv2d(shape[1:], ones, pair(op.stride), pair(op.padding), (1, 1), shape[0], np.zeros(shape[0]))
    window = Node(graph.unique(f"{node.name}.window"), conv, source=node.source)
    (feed,) = graph.in_edges(node.name)
    graph.insert_on(feed, window)
    neuron, dynamics = fires_above(0.5, len(shape))
    graph.update(node.name, op=neuron, dynamics=dynamics, was=op)
