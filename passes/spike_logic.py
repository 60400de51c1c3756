"""Products of spikes as neurons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import nir
import numpy as np

from hsnn_compiler.ir.dynamics import Dynamics
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.types import Coding
from hsnn_compiler.passes.base import Pass, PassContext, PassResult, listing
from hsnn_compiler.passes.batchnorm import affine_form

PRODUCTS = ("torch.mul", "Tensor.mul")
ARGUMENTS = ("x0, x1", "x1, x0")


class Literal(NamedTuple):
    """Spikes s of a node, or 1 - s."""

    source: str
    negated: bool


@dataclass(frozen=True)
class LowerSpikeLogic(Pass):
    """Replace products of spikes by neurons that keep nothing from step to step.

    For a, s in {0, 1}: a s = [a + s > 3/2], and (1 - a) s = [s - a > 1/2]: the element-wise functions AND and IAND of
    Fang et al. 2021 (arXiv 2102.04159), however they are written. It costs one step of latency. Other products stay.
    """

    name: ClassVar[str] = "lower-spike-logic"
    requires: ClassVar[tuple[str, ...]] = ("typed",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        graph = graph.copy()
        done = []
        for node in graph.of_kind("HostCall"):
            factors = _factors(graph, node)
            if factors is not None and context.layer(node.name, "place", "") != "host":
                _as_neurons(graph, node, factors)
                done.append(node.name)
        notes = (f"products of spikes made neurons: {listing(done)}",) if done else ()
        return PassResult(infer_types(graph) if done else graph, bool(done), notes)


def fires_above(threshold: float, rank: int) -> tuple[nir.LIF, Dynamics]:
    """Neurons that fire in a step where their input is above a threshold, and keep nothing."""
    one = np.ones((1,) * rank)
    op = nir.LIF(tau=one, r=one, v_leak=0 * one, v_threshold=threshold * one, v_reset=0 * one)
    return op, Dynamics(integrator="none", decay=0.0, gain=1.0, leak=0.0, reset="zero")


def _factors(graph: Graph, node: Node) -> tuple[Literal, Literal] | None:
    """What is multiplied, if that is spikes of two nodes and at most one of them negated."""
    edges = graph.in_edges(node.name)
    if node.op.function not in PRODUCTS or node.op.arguments not in ARGUMENTS or len(edges) != 2:
        return None
    one, other = (_literal(graph, edge) for edge in edges)
    if one is None or other is None or one.source == other.source or (one.negated and other.negated):
        return None
    return one, other


def _literal(graph: Graph, edge: Edge) -> Literal | None:
    """Spikes that reach an edge as they are, or taken from one."""
    zero, one = np.zeros(1), np.ones(1)
    found: list[Node] = []
    node, delay = graph[edge.src], edge.delay
    while node.kind in ("Scale", "BatchNorm"):
        feeds = graph.in_edges(node.name)
        if len(feeds) != 1:
            return None
        found.append(node)
        node, delay = graph[feeds[0].src], delay or feeds[0].delay
    if delay or node.type is None or node.type.coding is not Coding.SPIKES:
        return None
    for step in reversed(found):
        gain, shift = (np.asarray(step.op.scale), 0.0) if step.kind == "Scale" else affine_form(step.op)
        gain, shift = (np.unique(array) for array in (gain, shift))
        if gain.size != 1 or shift.size != 1:
            return None
        zero, one = gain * zero + shift, gain * one + shift
    ends = (float(zero[0]), float(one[0]))
    return Literal(node.name, ends == (1, 0)) if ends in ((0, 1), (1, 0)) else None


def _as_neurons(graph: Graph, node: Node, factors: tuple[Literal, Literal]) -> None:
    rank = len(node.shape)
    threshold = 0.5 + sum(not factor.negated for factor in factors) - 1
    op, dynamics = fires_above(threshold, rank)
    edges = graph.in_edges(node.name)
    for edge in edges:
        graph.disconnect(edge)
        _remove_unused(graph, edge.src)
    graph.update(node.name, op=op, dynamics=dynamics, was=node.op)
    for factor in factors:
        source = factor.source
        if factor.negated:
            minus = Node(graph.unique(f"{node.name}.minus"), nir.Scale(-np.ones((1,) * rank)), source=node.source)
            source = graph.add(minus, source).name
        graph.connect(Edge(source, node.name))


def _remove_unused(graph: Graph, name: str) -> None:
    """Take out scales and shifts that nothing needs any more."""
    while graph[name].kind in ("Scale", "BatchNorm") and not graph.out_edges(name):
        (feed,) = graph.in_edges(name)
        graph.remove(name)
        name = feed.src
