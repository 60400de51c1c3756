"""Map direct coding to the chip: analog input becomes a bias current, exactly."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

import nir
import numpy as np

from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.ops import Add
from hsnn_compiler.ir.stages import stages
from hsnn_compiler.ir.types import Placement
from hsnn_compiler.passes.base import Pass, PassContext, PassResult, listing
from hsnn_compiler.passes.connections import split_input
from hsnn_compiler.passes.decodes import add_to
from hsnn_compiler.reference.codes import worth_of_one

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

STATELESS = (
    *LINEAR,
    "NoOp",
    "BatchNorm",
    "ReLU",
    "Clip",
    "Quantised",
    "LeakyReLU",
    "Sigmoid",
    "Tanh",
    "GELU",
    "Softmax",
    "LayerNorm",
    "MaxPool2d",
    "HostCall",
)
"""Ops that make the same of the same input in every step."""


@dataclass(frozen=True)
class MapDirectCoding(Pass):
    """Move `Encode(direct)` behind the linear ops it feeds: f(repeat(x)) = repeat(f(x)).

    The first weight layer of a direct-coded network sees the same analog input at every step. It then
    runs once per sample on the host, and its result is presented to the first neurons as a bias
    current that stays for all steps: no input events, and no loss. So does any other op without a state that sees
    nothing else. Where analog input and spikes meet in one linear op, f(x + s) = f(x) + f(s) gives each its own; where
    neurons get values that different turns of the host compute, the later one adds them up. What is decoded again
    without neurons between is the value, times what a 1 in every step decodes to.
    """

    name: ClassVar[str] = "map-direct-coding"
    requires: ClassVar[tuple[str, ...]] = ("timed",)
    ensures: ClassVar[tuple[str, ...]] = ("direct",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        graph = graph.copy()
        moved = move_encodes_behind(graph, STATELESS) + _without_steps(graph)
        _one_place_each(graph)
        added = _one_stage_each(graph)
        notes = [f"once per sample on the host, then a bias current: {listing(moved)}"] if moved else []
        if added:
            notes.append(f"values of several turns of the host, added up for {listing(added)}")
        return PassResult(graph, bool(notes), tuple(notes))


def move_encodes_behind(graph: Graph, kinds: Collection[str]) -> list[str]:
    """Move every `Encode(direct)` behind the linear ops of these kinds that it feeds, in place; names of these ops."""
    moved = []
    while (node := _next(graph, kinds)) is not None:
        moved.append(node.name)
        _move_to_host(graph, node)
    return moved


def is_direct(node: Node) -> bool:
    """Whether a node presents a value as a current, the same at every step."""
    return node.kind == "Encode" and not node.is_event_source


def _next(graph: Graph, kinds: Collection[str]) -> Node | None:
    """A linear op of which every input is a direct encoding (split off first, where spikes come in too)."""
    for encode in graph.of_kind("Encode"):
        if not is_direct(encode):
            continue
        for edge in graph.out_edges(encode.name):
            node = graph[edge.dst]
            if node.kind not in kinds:
                continue
            if all(is_direct(n) for n in graph.predecessors(node.name)):
                return node
            if node.kind not in LINEAR:
                continue
            if node.kind == "Add":
                graph.bypass(node.name)
                return _next(graph, kinds)
            if node.kind != "Concat":
                return graph[split_input(graph, edge)]
    return None


def _without_steps(graph: Graph) -> list[str]:
    """Let the host scale values that a direct Encode gives a Decode: decode(repeat(x)) = w x; names of the scales."""
    made = []
    for decode in graph.of_kind("Decode"):
        edges = [edge for edge in graph.in_edges(decode.name) if is_direct(graph[edge.src]) and not edge.delay]
        if not edges:
            continue
        worth = worth_of_one(decode.op, graph.timesteps or 1)
        for edge in edges:
            name = graph.unique(f"{decode.name}.direct")
            op = nir.Scale(np.full((1,) * len(graph[edge.src].shape), worth))
            place = Placement("host", "the same in every step: encoded and decoded at once")
            graph.add(Node(name, op, placement=place, source=decode.source), graph.in_edges(edge.src)[0].src)
            graph.disconnect(edge)
            if not graph.out_edges(edge.src):
                graph.remove(edge.src)
            made.append(name)
        add_to(graph, decode, made[-len(edges) :])
    return made


def _one_place_each(graph: Graph) -> None:
    """Give what is on the host and on the chip and shares an Encode one each: on the host it is no bias current."""
    for encode in graph.of_kind("Encode"):
        edges = graph.out_edges(encode.name)
        apart = [edge for edge in edges if graph[edge.dst].on_chip != encode.on_chip]
        if not apart or not is_direct(encode):
            continue
        where = "host" if encode.on_chip else "chip"
        placement = Placement(where, "the value is presented at every step")
        if len(apart) == len(edges):
            graph.update(encode.name, placement=placement)
            continue
        twin = encode.with_(name=graph.unique(f"{encode.name}.{where}"), placement=placement)
        graph.add(twin, graph.in_edges(encode.name)[0].src)
        for edge in apart:
            graph.disconnect(edge)
            graph.connect(edge._replace(src=twin.name))


def _one_stage_each(graph: Graph) -> list[str]:
    """Add up the values of different stages of the host that neurons on the chip get; names of these neurons."""
    number = stages(graph)
    found = []
    for node in [n for n in graph if n.is_population and n.on_chip]:
        edges = [edge for edge in graph.in_edges(node.name) if is_direct(graph[edge.src])]
        if len({number[edge.src] for edge in edges}) < 2:
            continue
        add_up_values(graph, node, edges)
        found.append(node.name)
    return found


def add_up_values(graph: Graph, node: Node, edges: Sequence[Edge]) -> None:
    """Let the host add up values that direct Encodes present to a population, behind one Encode, in place."""
    total = graph.unique(f"{node.name}.values")
    graph.add(Node(total, Add(), placement=Placement("host", "adds up analog inputs"), source=node.source))
    encode = graph[edges[0].src].with_(name=graph.unique(f"{total}.encode"), source=node.source)
    graph.add(encode, total)
    for port, edge in enumerate(edges):
        graph.connect(Edge(graph.in_edges(edge.src)[0].src, total, str(port)))
        graph.disconnect(edge)
        if not graph.out_edges(edge.src):
            graph.remove(edge.src)
    graph.connect(Edge(encode.name, node.name))


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
