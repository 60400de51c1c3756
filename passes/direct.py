"""Map direct coding to the chip: analog input becomes a bias current, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.types import Placement
from hsnn_compiler.passes.base import Pass, PassContext, PassResult, listing
from hsnn_compiler.passes.connections import split_input

LINEAR = (
    "Affine",
    "Linear",
    "Conv1d",
    "Conv2d",
    "Scale",
    "Flatten",
    "AvgPool2d",
    "SumPool2d",
    "Mean",
    "Add",
    "Concat",
)


@dataclass(frozen=True)
class MapDirectCoding(Pass):
    """Move `Encode(direct)` behind the linear ops it feeds: f(repeat(x)) = repeat(f(x)).

    The first weight layer of a direct-coded network sees the same analog input at every step. It then
    runs once per sample on the host, and its result is presented to the first neurons as a bias
    current that stays for all steps: no input events, and no loss. Where analog input and
    spikes meet in one linear op, f(x + s) = f(x) + f(s) gives each its own.
    """

    name: ClassVar[str] = "map-direct-coding"
    requires: ClassVar[tuple[str, ...]] = ("timed",)
    ensures: ClassVar[tuple[str, ...]] = ("direct",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        graph = graph.copy()
        moved: list[str] = []
        while (node := _next(graph)) is not None:
            moved.append(node.name)
            _move_to_host(graph, node)
        notes = (f"once per sample on the host, then a bias current: {listing(moved)}",) if moved else ()
        return PassResult(graph, bool(moved), notes)


def _next(graph: Graph) -> Node | None:
    """A linear op of which every input is a direct encoding (split off first, where spikes come in too)."""
    for encode in graph.of_kind("Encode"):
        for edge in graph.out_edges(encode.name):
            node = graph[edge.dst]
            if node.kind not in LINEAR:
                continue
            if all(n.kind == "Encode" for n in graph.predecessors(node.name)):
                return node
            if node.kind == "Add":
                graph.bypass(node.name)
                return _next(graph)
            if node.kind != "Concat":
                return graph[split_input(graph, edge)]
    return None


def _move_to_host(graph: Graph, node: Node) -> None:
    """Take a linear op from behind its Encodes to the host; a new Encode follows it."""
    encodes = graph.predecessors(node.name)
    for edge in graph.in_edges(node.name):
        origin = graph.in_edges(edge.src)[0].src
        graph.disconnect(edge)
        graph.connect(edge._replace(src=origin))
    why = "its input is analog and the same at every step: computed once per sample"
    graph.update(node.name, placement=Placement("host", why))
    graph.insert_after(node.name, encodes[0].with_(name=graph.unique(f"{node.name}.encode"), source=node.source))
    for name in {encode.name for encode in encodes}:
        if not graph.out_edges(name):
            graph.remove(name)
