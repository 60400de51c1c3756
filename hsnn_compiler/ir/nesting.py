"""Subgraphs that were laid flat on reading, nested again for writing.

Node ``conv`` of subgraph ``block`` is ``block.conv`` in the flat graph, and the subgraph's own Input and
Output are NoOps of kind ``nir.Input`` and ``nir.Output`` (`MARKERS`). A subgraph is nested again if
it still has one of each and everything enters and leaves through them; else its nodes stay where they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import nir
import numpy as np

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.graph import Graph, Node

MARKERS = {"nir.Input": nir.Input, "nir.Output": nir.Output}


@dataclass
class Level:
    """One graph or subgraph: its nodes and subgraphs by their names in it, and its edges."""

    path: str
    nodes: dict[str, Node] = field(default_factory=dict)
    inner: dict[str, Level] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)


def is_marker(node: Node) -> bool:
    """Whether a node stands for the Input or Output of a subgraph."""
    return node.kind == "NoOp" and node.op.kind in MARKERS


def nest(graph: Graph) -> Level:
    """Nest what can be nested; markers of other subgraphs are taken out."""
    valid = _consistent(graph)
    graph = _without_markers(graph, valid)
    levels = {path: Level(path) for path in ("", *sorted(valid, key=len))}
    for path in levels:
        if path:
            parent = _home(path, valid - {path})
            levels[parent].inner[_relative(path, parent)] = levels[path]
    for node in graph:
        home = _home(node.name, valid)
        if is_marker(node):
            op = MARKERS[node.op.kind](np.array(node.shape, np.int64))
            op.metadata = graph.origin.metadata.get(node.name, {}) if graph.origin else {}
            node = node.with_(op=op)
        levels[home].nodes[_relative(node.name, home)] = node
    for edge in graph.edges_as_added():
        level, src = _end(graph[edge.src], "nir.Output", valid)
        pair = src, _end(graph[edge.dst], "nir.Input", valid)[1]
        if pair in levels[level].edges:
            raise refuse(
                "E0321", f"{edge.src} -> {edge.dst} twice, with different delays", node=edge.dst,
                supported="one edge between two nodes",
            )  # fmt: skip
        levels[level].edges.append(pair)
    return levels[""]


def _consistent(graph: Graph) -> set[str]:
    valid: set[str] = set(graph.origin.subgraphs) if graph.origin else set()
    valid = {path for path in valid if path not in graph}
    while True:
        wrong = set()
        for path in valid:
            markers = [n.op.kind for n in graph if is_marker(n) and _home(n.name, valid) == path]
            if sorted(markers) != sorted(MARKERS):
                wrong.add(path)
        for edge in graph.edges:
            a, _ = _end(graph[edge.src], "nir.Output", valid)
            b, _ = _end(graph[edge.dst], "nir.Input", valid)
            if a != b:  # it leads past the markers of every subgraph that holds only one of its ends
                wrong |= _around(a, valid) ^ _around(b, valid)
        if not wrong:
            return valid
        valid -= wrong


def _without_markers(graph: Graph, valid: set[str]) -> Graph:
    graph = graph.copy()
    for node in graph:
        if not is_marker(node) or _home(node.name, valid):
            continue
        consumers = {edge.dst for edge in graph.out_edges(node.name)}
        direct = {e.dst for source in graph.predecessors(node.name) for e in graph.out_edges(source.name)}
        if consumers & direct or not graph.in_edges(node.name):  # two ways to one node, or nothing to connect with
            graph.update(node.name, op=nir.Scale(np.ones(node.shape, np.float32)))
        else:
            graph.bypass(node.name)
    return graph


def _around(path: str, valid: set[str]) -> set[str]:
    """A subgraph and those around it."""
    return {other for other in valid if path == other or path.startswith(other + ".")}


def _home(name: str, valid: set[str]) -> str:
    """The innermost subgraph that holds a node."""
    return max((path for path in valid if name.startswith(path + ".")), key=len, default="")


def _relative(name: str, home: str) -> str:
    return name[len(home) + 1 :] if home else name


def _end(node: Node, marker: str, valid: set[str]) -> tuple[str, str]:
    """The level in which an end of an edge lies and its name there: from outside, a marker is its subgraph."""
    name, home = node.name, _home(node.name, valid)
    if home and is_marker(node) and node.op.kind == marker:
        name, home = home, _home(home, valid - {home})
    return home, _relative(name, home)
