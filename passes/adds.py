"""Replace explicit additions by edges that add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import nir
import numpy as np

from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.passes.activations import channel_shape
from hsnn_compiler.passes.base import Pass, PassContext, PassResult, count, listing
from hsnn_compiler.passes.decodes import behind_branches, read_populations


@dataclass(frozen=True)
class MergeAdds(Pass):
    """Connect what an addition on the chip sums directly to what it feeds; synapses add up there.

    Edges into one port add up. What reaches the same node twice is scaled by two instead. A sum of spikes that
    leaves the chip through weightless ops is one of decoded values, on the host.
    """

    name: ClassVar[str] = "merge-adds"
    requires: ClassVar[tuple[str, ...]] = ("direct",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        graph = graph.copy()
        adds = [node for node in graph.of_kind("Add") if node.on_chip]
        for node in adds:
            _merge(graph, node)
        notes = [f"merged {count(len(adds), 'addition')} into the neurons they feed"] if adds else []
        leaving = behind_branches(graph)
        for name in leaving:
            notes.append(f"{name}: on the host, {listing(read_populations(graph, name))}")
        return PassResult(graph, bool(adds or leaving), tuple(notes))


def _merge(graph: Graph, node: Node) -> None:
    sources, consumers = graph.in_edges(node.name), graph.out_edges(node.name)
    graph.remove(node.name)
    for consumer in consumers:
        for source in sources:
            edge = Edge(source.src, consumer.dst, consumer.port, source.delay + consumer.delay)
            if edge in graph.in_edges(edge.dst):
                twin = Node(
                    graph.unique(f"{node.name}.again"),
                    nir.Scale(np.ones(channel_shape(node.shape))),
                    placement=node.placement,
                    source=node.source,
                )
                graph.add(twin, source.src)
                edge = edge._replace(src=twin.name)
            graph.connect(edge)
