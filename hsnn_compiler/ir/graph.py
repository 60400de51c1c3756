"""Named nodes and edges; several edges into one port add up, as in NIR.

A `Graph` is backed by networkx and keeps insertion order for people. Passes do not
change the graph they are given: they work on `graph.copy()`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import networkx as nx

from hsnn_compiler.diagnostics import Source, refuse
from hsnn_compiler.ir.dynamics import NEURON_OPS, SPIKING_OPS, Dynamics
from hsnn_compiler.ir.ops import EVENT_KINDS, SYNAPSE_OPS, kind_of
from hsnn_compiler.ir.order import groups
from hsnn_compiler.ir.origin import Origin
from hsnn_compiler.ir.quant import Quant, Schedule
from hsnn_compiler.ir.types import Placement, TensorType

NOWHERE = Source()
NAME = re.compile(r"[^\x00-\x1f\x7f]+")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")


class Edge(NamedTuple):
    """A connection. `port` is ``"input"`` except for ops with ordered inputs (Add, Concat).

    `delay` is a number of time steps: `dst` sees in step t what `src` put out in step t - delay, and
    zero before that.
    """

    src: str
    dst: str
    port: str = "input"
    delay: int = 0


@dataclass(frozen=True, eq=False)
class Node:
    """An op and everything the compiler knows about it.

    Attributes:
        name: unique in the graph; the module path where there is one.
        op: a NIR primitive or one of `hsnn_compiler.ir.ops`.
        type: what the node puts out; None before shape inference.
        dynamics: neurons only, the meaning of one step.
        placement: host or chip, and why; None before partitioning.
        quant: the chip's integers, once quantised.
        schedule: populations on the chip, once scheduled.
        was: the op that a conversion replaced by this one; None if there was none.
        source: where it came from in the user's model, kept through every pass.
    """

    name: str
    op: Any
    type: TensorType | None = None
    dynamics: Dynamics | None = None
    placement: Placement | None = None
    quant: Quant | None = None
    schedule: Schedule | None = None
    was: Any = None
    source: Source = NOWHERE

    @property
    def kind(self) -> str:
        """Name of the op's class."""
        return kind_of(self.op)

    @property
    def is_neuron(self) -> bool:
        """Whether the node has a membrane potential."""
        return self.kind in NEURON_OPS

    @property
    def is_spiking(self) -> bool:
        """Whether the node is a population that fires (an `Encode` of events is none)."""
        return self.kind in SPIKING_OPS or self.kind == "FirstSpike"

    @property
    def is_population(self) -> bool:
        """Whether the node is a population of neurons, with dynamics or without."""
        return self.is_neuron or self.kind in ("FirstSpike", "SigmaDelta", "DeltaEncoder")

    @property
    def states(self) -> str:
        """States that can be recorded: u and v of populations; those that fire once have no current that lasts."""
        return "" if not self.is_population else "v" if self.kind == "FirstSpike" else "uv"

    @property
    def is_event_source(self) -> bool:
        """Whether the node is an `Encode` that puts out spikes."""
        return self.kind == "Encode" and self.op.kind in EVENT_KINDS

    @property
    def is_synapse(self) -> bool:
        """Whether the node holds weights."""
        return self.kind in SYNAPSE_OPS

    @property
    def on_chip(self) -> bool:
        """Whether partitioning put the node on the chip."""
        return self.placement is not None and self.placement.where == "chip"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output; an error before shape inference."""
        if self.type is None:
            raise refuse("E0101", "shape asked for before shape inference", node=self.name)
        return self.type.shape

    def with_(self, **changes: Any) -> Node:
        """A copy with some fields changed."""
        return replace(self, **changes)


class Graph:
    """A network.

    Attributes:
        name: name of the model.
        timesteps: steps per sample, None while there is no time in the graph.
        origin: what its file said besides; None if it came from none.
    """

    def __init__(self, name: str = "model", timesteps: int | None = None, origin: Origin | None = None) -> None:
        self.name, self.timesteps, self.origin = name, timesteps, origin
        self._net = nx.MultiDiGraph()
        self._connected = 0  # edges added so far: networkx groups edges by source, this keeps their order

    # -- reading ------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Node:
        node: Node = self._net.nodes[name]["node"]
        return node

    def __contains__(self, name: str) -> bool:
        return name in self._net

    def __len__(self) -> int:
        return len(self._net)

    def __iter__(self) -> Iterator[Node]:
        """Nodes in the order they were added; the graph may change meanwhile."""
        return iter([data["node"] for _, data in self._net.nodes(data=True)])

    def __repr__(self) -> str:
        return f"<Graph {self.name}: {len(self)} nodes, {self._net.number_of_edges()} edges>"

    @property
    def edges(self) -> list[Edge]:
        """All edges, in the order of their sources."""
        return [data["edge"] for _, _, data in self._net.edges(data=True)]

    @property
    def nx(self) -> nx.MultiDiGraph:
        """The networkx graph, for analysis only."""
        return self._net

    def in_edges(self, name: str) -> list[Edge]:
        """Edges into a node, by port, then in the order in which they were added."""
        edges = [(data["edge"], data["number"]) for _, _, data in self._net.in_edges(name, data=True)]
        edges.sort(key=lambda item: (len(item[0].port), item[0].port, item[1]))
        return [edge for edge, _ in edges]

    def out_edges(self, name: str) -> list[Edge]:
        """Edges out of a node."""
        return [data["edge"] for _, _, data in self._net.out_edges(name, data=True)]

    def predecessors(self, name: str) -> list[Node]:
        """Nodes that feed `name`, one entry per edge, by port."""
        return [self[edge.src] for edge in self.in_edges(name)]

    def successors(self, name: str) -> list[Node]:
        """Nodes that `name` feeds, one entry per edge."""
        return [self[edge.dst] for edge in self.out_edges(name)]

    def topological(self) -> list[Node]:
        """Nodes such that every node comes after those that feed it.

        Edges with a delay may lead backwards where they close a loop; ties are broken by insertion
        order. A loop without any delay is refused (E0420).
        """
        return [node for group in groups(self) for node in group]

    def of_kind(self, *kinds: str) -> list[Node]:
        """Nodes of these kinds, in insertion order."""
        return [node for node in self if node.kind in kinds]

    def descendants(self, name: str) -> set[str]:
        """Names of all nodes reachable from `name`."""
        return set(nx.descendants(self._net, name))

    def ancestors(self, name: str) -> set[str]:
        """Names of all nodes from which `name` can be reached."""
        return set(nx.ancestors(self._net, name))

    # -- writing ------------------------------------------------------------------------

    def copy(self) -> Graph:
        """A graph that can be changed without changing this one (nodes are shared, they are frozen)."""
        other = Graph(self.name, self.timesteps, self.origin)
        other._net, other._connected = self._net.copy(), self._connected
        return other

    def add(self, node: Node, *feeds: str | Edge) -> Node:
        """Add a node, with edges from `feeds` (names of its inputs, or whole edges)."""
        if node.name in self._net:
            raise refuse("E0101", f"two nodes named {node.name!r}")
        if not NAME.fullmatch(node.name):
            raise refuse("E0101", f"not a node name: {node.name!r}")
        self._net.add_node(node.name, node=node)
        for feed in feeds:
            self.connect(feed if isinstance(feed, Edge) else Edge(feed, node.name))
        return node

    def connect(self, edge: Edge) -> None:
        """Add an edge between nodes that exist."""
        for end in (edge.src, edge.dst):
            if end not in self._net:
                raise refuse("E0101", f"edge {edge.src} -> {edge.dst} names no node {end!r}")
        if any(other == edge for other in self.in_edges(edge.dst)):
            raise refuse("E0101", f"edge {edge.src} -> {edge.dst} ({edge.port}) exists already")
        self._append(edge)

    def _append(self, edge: Edge) -> None:
        self._net.add_edge(edge.src, edge.dst, edge=edge, number=self._connected)
        self._connected += 1

    def edges_as_added(self) -> list[Edge]:
        """All edges, in the order in which they were added."""
        numbered = [(data["number"], data["edge"]) for _, _, data in self._net.edges(data=True)]
        return [edge for _, edge in sorted(numbered, key=lambda item: item[0])]

    def with_delays(self, delay: Callable[[Edge], int]) -> Graph:
        """A copy in which every edge has the delay that the function gives it."""
        other = Graph(self.name, self.timesteps, self.origin)
        for node in self:
            other.add(node)
        for edge in self.edges_as_added():
            other._append(edge._replace(delay=delay(edge)))
        return other

    def disconnect(self, edge: Edge) -> None:
        """Remove one edge."""
        for key, data in (self._net.get_edge_data(edge.src, edge.dst) or {}).items():
            if data["edge"] == edge:
                self._net.remove_edge(edge.src, edge.dst, key)
                return
        raise refuse("E0101", f"no edge {edge}")

    def replace(self, node: Node) -> None:
        """Put a node in the place of the one with the same name."""
        self._net.nodes[node.name]["node"] = node

    def update(self, name: str, **changes: Any) -> Node:
        """Change fields of a node; returns the new node."""
        node = self[name].with_(**changes)
        self.replace(node)
        return node

    def remove(self, name: str) -> None:
        """Remove a node and its edges."""
        self._net.remove_node(name)

    def bypass(self, name: str) -> None:
        """Remove a node, connecting what fed it to what it fed (ports and delays of the consumers kept)."""
        sources, consumers = self.in_edges(name), self.out_edges(name)
        self.remove(name)
        for source in sources:
            for consumer in consumers:
                self.connect(Edge(source.src, consumer.dst, consumer.port, source.delay + consumer.delay))

    def insert_after(self, name: str, node: Node) -> None:
        """Put `node` between `name` and everything it feeds."""
        consumers = self.out_edges(name)
        self.add(node)
        for edge in consumers:
            self.disconnect(edge)
            self.connect(edge._replace(src=node.name))
        self.connect(Edge(name, node.name))

    def insert_on(self, edge: Edge, node: Node) -> None:
        """Put `node` (added if new) on an edge."""
        if node.name not in self:
            self.add(node)
        self.disconnect(edge)
        self.connect(Edge(edge.src, node.name))
        self.connect(edge._replace(src=node.name))

    def unique(self, stem: str) -> str:
        """A node name that is still free, made from `stem`."""
        stem = re.sub(r"[^A-Za-z0-9_.\-]", "_", stem) or "node"
        if not _PLAIN.fullmatch(stem):
            stem = f"_{stem}"
        if stem not in self._net:
            return stem
        count = 2
        while f"{stem}_{count}" in self._net:
            count += 1
        return f"{stem}_{count}"

    def sorted(self) -> Graph:
        """The same graph with its nodes in topological order."""
        other = Graph(self.name, self.timesteps, self.origin)
        for node in self.topological():
            other._net.add_node(node.name, node=node)
        for edge in self.edges_as_added():
            other._append(edge)
        return other
