"""Read the result of the last layer on the chip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import nir
import numpy as np

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.crossings import WEIGHTED_KINDS
from hsnn_compiler.ir.dynamics import Dynamics
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Collect, Decode
from hsnn_compiler.ir.types import Placement
from hsnn_compiler.passes.base import Pass, PassContext, PassResult
from hsnn_compiler.passes.decodes import is_read, read_apart, read_populations
from hsnn_compiler.passes.events.regions import WHY_COLLECT
from hsnn_compiler.passes.pooling import WEIGHTLESS
from hsnn_compiler.reference.codes import worth_of_one


@dataclass(frozen=True)
class InsertReadout(Pass):
    """Sum the currents that leave the chip in integrators, and read their potential at the end.

    mean_t (W s_t + b) = v_T / T  where  v_t = v_(t-1) + W s_t + b,  v_0 = 0; where only the last step counts, the
    neuron keeps nothing: v_t = W s_t + b. Where steps count differently, a `Collect` of that code adds them up first,
    and the neuron sees the sum in the next window. Spikes that leave the chip are read on the host instead;
    sums and weightless linear ops behind them move to the host with what they stand for.
    """

    name: ClassVar[str] = "insert-readout"
    requires: ClassVar[tuple[str, ...]] = ("direct",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        graph = graph.copy()
        notes = []
        for decode in graph.of_kind("Decode"):
            moved = read_populations(graph, decode.name) or move_decode_up(graph, decode.name)
            if moved:
                notes.append(f"behind the chip, on the host: {', '.join(moved)}")
            if all(is_read(source) for source in graph.predecessors(decode.name)):
                continue
            if read_apart(graph, decode.name):
                notes.append(f"{decode.name}: spikes are read on the host, apart from currents")
            notes += _collect_weighted(graph, decode)
            notes.append(_integrate(infer_types(graph), graph, graph[decode.name]))
        return PassResult(graph, bool(notes), tuple(notes))


def move_decode_up(graph: Graph, name: str) -> list[str]:
    """Move a Decode in front of weightless linear ops: they run once per sample on the host."""
    moved: list[str] = []
    while True:
        sources = graph.predecessors(name)
        node = sources[0]
        if len(sources) != 1 or node.kind not in WEIGHTLESS or len(graph.out_edges(node.name)) != 1:
            return moved
        if len(graph.in_edges(node.name)) != 1:
            return moved
        consumers = graph.out_edges(name)
        origin = graph.in_edges(node.name)[0]
        for edge in (*consumers, origin, graph.in_edges(name)[0]):
            graph.disconnect(edge)
        graph.connect(origin._replace(dst=name))
        graph.connect(origin._replace(src=name, dst=node.name, delay=0))
        for edge in consumers:
            graph.connect(edge._replace(src=node.name))
        graph.update(node.name, placement=Placement("host", "linear, behind the last neurons"))
        moved.append(node.name)


def _collect_weighted(graph: Graph, decode: Node) -> list[str]:
    """Make a Decode in which steps count differently one of the mean, of what a `Collect` presents; what it says."""
    if decode.op.kind not in WEIGHTED_KINDS:
        return []
    edges = graph.in_edges(decode.name)
    steps = [edge for edge in edges if graph[edge.src].kind != "Collect"]
    if not steps:  # a constant, whatever the steps count
        graph.update(decode.name, op=Decode("mean", worth_of_one(decode.op, graph.timesteps or 1)))
        return []
    if len(steps) < len(edges):
        raise refuse(
            "E0456",
            f"Decode of {decode.op.kind} behind a window that is collected already",
            node=decode.name,
            source=decode.source,
            supported="Decode of spikes, of weighted spikes, or of what another window presents",
            suggestion="put neurons before the decoder, decode the mean, or --encode current",
        )
    name = graph.unique(f"{decode.name}.collect")
    op = Collect(decode.op.kind, np.zeros(1), decode.op.period)
    graph.add(Node(name, op, placement=Placement("chip", WHY_COLLECT), source=decode.source))
    for edge in steps:
        graph.disconnect(edge)
        graph.connect(edge._replace(dst=name))
    graph.connect(Edge(name, decode.name))
    graph.update(decode.name, op=Decode("mean", decode.op.gain))
    return [f"{name} weighs the steps by what {decode.op.kind} makes of them, one window of steps later"]


def _integrate(typed: Graph, graph: Graph, decode: Node) -> str:
    source = typed.predecessors(decode.name)[0]
    if source.kind == "Collect":
        source = typed.predecessors(source.name)[0]
    name = graph.unique(f"{source.name}.readout")
    neuron = Node(
        name,
        nir.I(r=np.ones((1,) * len(source.shape))),
        dynamics=Dynamics(integrator="none", reset="none", decay=0.0 if decode.op.kind == "last" else 1.0),
        placement=Placement("chip", "integrates the result; read at the end of each sample"),
        source=source.source,
    )
    graph.add(neuron)
    for edge in graph.in_edges(decode.name):
        graph.disconnect(edge)
        graph.connect(edge._replace(dst=name))
    graph.connect(Edge(name, decode.name))
    gain = decode.op.gain / (graph.timesteps or 1) if decode.op.kind == "mean" else decode.op.gain
    graph.update(decode.name, op=Decode("last", gain))
    return f"{name} integrates the output of {source.name}"
