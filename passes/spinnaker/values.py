"""What the host gives the chip, in the form in which one turn after the other can take it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import nir
import numpy as np

from hsnn_compiler.ir.dynamics import discretize
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.ops import NoOp
from hsnn_compiler.ir.stages import is_host, stages
from hsnn_compiler.ir.types import Placement
from hsnn_compiler.passes.base import Pass, PassContext, PassResult, listing
from hsnn_compiler.passes.direct import add_up_values, is_direct


@dataclass(frozen=True)
class TurnValues(Pass):
    """Let the host give each population one value, as it is, and pass on spikes that a later turn needs.

    Values that several ops of the host present to one population are added up there; a gain of neurons that get a
    value is the host's, g x. Spikes of one turn of the chip that synapses of a later one need are kept by the host and
    sent again: each turn is a run of its own.
    """

    name: ClassVar[str] = "turn-values"
    requires: ClassVar[tuple[str, ...]] = ("direct", "neurons-and-synapses", "single-source")

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        graph = graph.copy()
        added, scaled = [], []
        for node in [n for n in graph if n.is_neuron and n.on_chip]:
            edges = [edge for edge in graph.in_edges(node.name) if is_direct(graph[edge.src])]
            if len(edges) > 1:
                add_up_values(graph, node, edges)
                added.append(node.name)
            if edges and _gain_on_host(graph, node):
                scaled.append(node.name)
        sent = _send_again(graph)
        notes = [f"values added up on the host for {listing(added)}"] if added else []
        notes += [f"gains put into what the host presents to {listing(scaled)}"] if scaled else []
        notes += [f"kept by the host and sent again in a later turn: {listing(sent)}"] if sent else []
        return PassResult(graph, bool(notes), tuple(notes))


def _gain_on_host(graph: Graph, node: Node) -> bool:
    """Multiply the value that a population gets by its gain, in place; False if spikes reach it, or the gain is 1."""
    assert node.dynamics is not None
    gain = np.asarray(discretize(node.op, node.dynamics).gain)
    edges = graph.in_edges(node.name)
    if np.all(gain == 1) or len(edges) > 1:
        return False
    encode = graph[edges[0].src]
    if len(graph.out_edges(encode.name)) > 1:  # others take the value as it is
        own = encode.with_(name=graph.unique(f"{encode.name}.{node.name}"))
        graph.add(own, graph.in_edges(encode.name)[0].src)
        graph.disconnect(edges[0])
        graph.connect(edges[0]._replace(src=own.name))
        encode = own
    factor = gain.reshape((1,) * len(node.shape)) if gain.size == 1 else gain
    place = Placement("host", "the gain of the neurons behind it")
    scale = Node(graph.unique(f"{node.name}.gain"), nir.Scale(factor), placement=place, source=node.source)
    graph.insert_on(graph.in_edges(encode.name)[0], scale)
    graph.update(node.name, dynamics=replace(node.dynamics, gain=1.0))
    return True


def _send_again(graph: Graph) -> list[str]:
    """Put a node of the host where spikes of one turn reach synapses of a later one; names of what sends them."""
    number = stages(graph)
    relays: dict[str, str] = {}
    for synapse in [node for node in graph if node.is_synapse and node.on_chip]:
        edge = graph.in_edges(synapse.name)[0]
        sender = graph[edge.src]
        if is_host(sender) or number[sender.name] == max(number[n.name] for n in graph.successors(synapse.name)):
            continue
        if sender.name not in relays:
            relays[sender.name] = graph.unique(f"{sender.name}.again")
            place = Placement("host", "keeps the spikes of a turn for a later one")
            graph.add(Node(relays[sender.name], NoOp(), placement=place, source=sender.source), sender.name)
        graph.disconnect(edge)
        graph.connect(edge._replace(src=relays[sender.name]))
    return list(relays)
