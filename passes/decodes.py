"""What leaves the chip is read where it is fired: sums and weightless ops behind it are the host's, once per sample."""

from __future__ import annotations

from collections.abc import Sequence

from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.ops import Add
from hsnn_compiler.ir.stages import is_host, is_potential
from hsnn_compiler.ir.types import Placement
from hsnn_compiler.passes.pooling import WEIGHTLESS


def is_read(node: Node) -> bool:
    """Whether the host can read what a node puts out, step by step: it is a population, or on the host."""
    return node.is_population or is_host(node)


def read_populations(graph: Graph, name: str) -> list[str]:
    """Let a Decode read populations only, in place, if nothing but sums and weightless linear ops lie between.

    decode(f(a) + b) = f(decode(a)) + decode(b): every kind of `Decode` is linear in the steps, and f has no bias. A
    sum becomes one Decode for all spikes that are added as they are, one for all potentials, and one for what is
    behind each op; ops that others need too are copied.

    Args:
        graph: is changed.
        name: of the Decode.

    Returns:
        Names of the ops that are on the host now, sums included; empty, with the graph as it was, if there was nothing
        to move or something else lies between.
    """
    between = _between(graph, name)
    if between is None or not (between or _is_mixed(graph.predecessors(name))):
        return []
    return _Reading(graph, graph[name], between).run()


def behind_branches(graph: Graph) -> list[str]:
    """Names of Decodes behind weightless ops at which ways join or part, see `read_populations`."""
    found = []
    for node in graph.of_kind("Decode"):
        between = _between(graph, node.name) or set()
        joins = any(len(graph.in_edges(name)) > 1 for name in (node.name, *between))
        if between and (joins or any(len(graph.out_edges(name)) > 1 for name in between)):
            found.append(node.name)
    return found


def read_apart(graph: Graph, name: str) -> bool:
    """Give what a Decode can read one of its own, in place, if currents reach it besides; whether they do."""
    decode, edges = graph[name], graph.in_edges(name)
    readable = [edge for edge in edges if is_read(graph[edge.src]) and not edge.delay]
    if len(readable) in (0, len(edges)):
        return False
    other = graph.add(decode.with_(name=graph.unique(f"{readable[0].src}.decode")))
    for edge in readable:
        graph.disconnect(edge)
        graph.connect(edge._replace(dst=other.name))
    add_to(graph, decode, [other.name])
    return True


def add_to(graph: Graph, decode: Node, values: Sequence[str]) -> None:
    """Add values to what a Decode gives, in place; one that reads nothing any more goes."""
    consumers = graph.out_edges(decode.name)
    for edge in consumers:
        graph.disconnect(edge)
    if graph.in_edges(decode.name):
        values = (decode.name, *values)
    else:
        graph.remove(decode.name)
    total = _add(graph, decode, values) if len(values) > 1 else values[0]
    for edge in consumers:
        graph.connect(edge._replace(src=total))


def _add(graph: Graph, decode: Node, parts: Sequence[str]) -> str:
    """Add up decoded values; the name of the sum."""
    name = graph.unique(f"{decode.name}.sum")
    place = Placement("host", "adds up what leaves the chip")
    added = Node(name, Add(), placement=place, source=decode.source)
    return graph.add(added, *(Edge(part, name, str(i)) for i, part in enumerate(parts))).name


def _is_mixed(sources: Sequence[Node]) -> bool:
    """Whether spikes and potentials are read together."""
    return len({is_potential(source) for source in sources}) > 1


def _between(graph: Graph, name: str) -> set[str] | None:
    """Names of the ops between a Decode and what it can read; None if some are not weightless, or wait."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for edge in graph.in_edges(waiting.pop()):
            node = graph[edge.src]
            if edge.delay or not (is_read(node) or node.kind in (*WEIGHTLESS, "Add")):
                return None
            if not is_read(node) and node.name not in found:
                found.add(node.name)
                waiting.append(node.name)
    return found


class _Reading:
    """The rewriting of one Decode."""

    def __init__(self, graph: Graph, decode: Node, between: set[str]) -> None:
        self.graph, self.decode, self.between = graph, decode, between
        self.own = {decode.name}  # nothing else needs it
        for node in reversed(graph.topological()):
            if node.name in between and all(edge.dst in self.own for edge in graph.out_edges(node.name)):
                self.own.add(node.name)
        self.is_used = False
        self.made: dict[str, str] = {}  # by op, its result on the host
        self.moved: list[str] = []

    def run(self) -> list[str]:
        """Rewrite; names of the ops that are on the host now."""
        consumers = self.graph.out_edges(self.decode.name)
        edges = self.graph.in_edges(self.decode.name)
        for edge in (*consumers, *edges):
            self.graph.disconnect(edge)
        result = self._sum(edges)
        for edge in consumers:
            self.graph.connect(edge._replace(src=result))
        return self.moved

    def _sum(self, edges: Sequence[Edge]) -> str:
        """What these edges bring, decoded and added up: the name of a node on the host."""
        parts = []
        for potentials in (False, True):
            sources = [edge.src for edge in edges if edge.src not in self.between]
            direct = [name for name in sources if is_potential(self.graph[name]) == potentials]
            while direct:
                once = list(dict.fromkeys(direct))
                parts.append(self._read(once))
                for name in once:
                    direct.remove(name)
        parts += [self._on_host(edge.src) for edge in edges if edge.src in self.between]
        if len(parts) > 1:
            self.moved.append(_add(self.graph, self.decode, parts))
        return self.moved[-1] if len(parts) > 1 else parts[0]

    def _read(self, populations: Sequence[str]) -> str:
        name = self.decode.name
        if self.is_used:
            name = self.graph.unique(f"{populations[0]}.decode")
            self.graph.add(self.decode.with_(name=name))
        self.is_used = True
        for population in populations:
            self.graph.connect(Edge(population, name))
        return name

    def _on_host(self, name: str) -> str:
        if name in self.made:
            return self.made[name]
        node, edges = self.graph[name], self.graph.in_edges(name)
        is_own = name in self.own
        if is_own:
            for edge in edges:
                self.graph.disconnect(edge)
        source = self._sum(edges)
        if node.kind == "Add":
            if is_own:
                self.graph.remove(name)
            self.made[name] = source
            return source
        place = Placement("host", "linear, behind the last neurons")
        self.made[name] = name if is_own else self.graph.unique(f"{name}.host")
        if is_own:
            self.graph.update(name, placement=place)
        else:
            self.graph.add(node.with_(name=self.made[name], placement=place))
        self.graph.connect(Edge(source, self.made[name]))
        self.moved.append(self.made[name])
        return self.made[name]
