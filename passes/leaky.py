"""Leaky ReLU becomes two ReLUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import nir
import numpy as np

from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Add, ReLU
from hsnn_compiler.passes.base import Pass, PassContext, PassResult, listing


@dataclass(frozen=True)
class SplitLeakyReLU(Pass):
    """Write leaky ReLU as ReLU(x) - slope ReLU(-x): two populations of neurons, one for each sign.

    Exact in values, and each sign has thresholds of its own. It costs twice the neurons;
    ``--layer NAME:place=host`` keeps one on the host.
    """

    name: ClassVar[str] = "split-leaky-relu"
    requires: ClassVar[tuple[str, ...]] = ("typed",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        if graph.timesteps is not None:
            return PassResult(graph)
        nodes = [n for n in graph.of_kind("LeakyReLU") if context.layer(n.name, "place", "") != "host"]
        if not nodes:
            return PassResult(graph)
        graph = graph.copy()
        for node in nodes:
            _split(graph, node)
        note = f"leaky ReLU as two populations, above and below zero: {listing(node.name for node in nodes)}"
        return PassResult(infer_types(graph), True, (note,))


def _split(graph: Graph, node: Node) -> None:
    feeds = graph.in_edges(node.name)
    parts = {}
    for sign, what in ((1.0, "above"), (-1.0, "below")):
        name = graph.unique(f"{node.name}.{what}")
        graph.add(Node(name, ReLU(), source=node.source))
        source = name
        if sign < 0:
            source = graph.unique(f"{name}.negated")
            graph.add(_scale(source, sign, node))
            graph.connect(Edge(source, name))
        for edge in feeds:
            graph.connect(edge._replace(dst=source))
        parts[what] = name
    for edge in feeds:
        graph.disconnect(edge)
    below = graph.unique(f"{parts['below']}.scaled")
    graph.add(_scale(below, -node.op.slope, node), parts["below"])
    graph.update(node.name, op=Add(), type=None)
    graph.connect(Edge(parts["above"], node.name, "0"))
    graph.connect(Edge(below, node.name, "1"))


def _scale(name: str, factor: float, node: Node) -> Node:
    return Node(name, nir.Scale(np.full((1,) * len(node.shape), factor)), source=node.source)
