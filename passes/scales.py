"""Fold scales into the weights behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import nir
import numpy as np

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import bias_of
from hsnn_compiler.ir.types import Placement
from hsnn_compiler.passes.base import Pass, PassContext, PassResult, count
from hsnn_compiler.passes.batchnorm import input_channels, with_weights
from hsnn_compiler.passes.connections import split_input
from hsnn_compiler.passes.one_to_one import is_per_channel, one_to_one

_PASSES_THROUGH = ("Flatten", "AvgPool2d", "SumPool2d", "Mean")


@dataclass(frozen=True)
class FoldScales(Pass):
    """Push each scale on the chip into the weights behind it: W (theta s) = (W theta) s.

    On the way it commutes with pooling and flattening. A scale that is shared is given to each
    consumer; a synapse op that receives several inputs is split, one per input, so that each can
    take its own scale. What reaches the chip's end moves to the host.
    """

    name: ClassVar[str] = "fold-scales"
    requires: ClassVar[tuple[str, ...]] = ("direct",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        graph = infer_types(graph)
        folded = 0
        while (node := next((n for n in graph.of_kind("Scale") if n.on_chip), None)) is not None:
            _push(graph, node)
            folded += 1
        notes = (f"folded scales into weights ({count(folded, 'step')})",) if folded else ()
        return PassResult(graph, bool(folded), notes)


def _push(graph: Graph, node: Node) -> None:
    """Move a scale one op further along each edge that leaves it, then remove it."""
    for edge in graph.out_edges(node.name):
        _push_edge(graph, node, edge)
    graph.bypass(node.name)


def _push_edge(graph: Graph, node: Node, edge: Edge) -> None:
    consumer = graph[edge.dst]
    shape = graph.predecessors(node.name)[0].shape
    factor = np.asarray(node.op.scale, np.float64)
    factor = factor.reshape((1,) * (len(shape) - factor.ndim) + factor.shape)  # as it broadcasts
    alone = len(graph.in_edges(consumer.name)) == 1
    if consumer.kind == "Scale" and alone:
        graph.update(consumer.name, op=nir.Scale(factor * consumer.op.scale))
    elif consumer.is_synapse:
        target = consumer if alone else graph[split_input(graph, edge)]
        if not _into_weights(graph, target, factor, shape):
            _as_synapses(graph, node, factor, Edge(node.name, target.name), shape)
    elif consumer.kind in _PASSES_THROUGH and (consumer.kind == "Flatten" or is_per_channel(factor)):
        through = consumer if alone else graph[split_input(graph, edge)]
        moved = _behind(through, factor, shape)
        behind = node.with_(name=graph.unique(node.name), op=nir.Scale(moved), type=through.type)
        graph.insert_after(through.name, behind)
    elif consumer.kind == "Decode" and alone:
        host = Placement("host", "scales what leaves the chip")
        behind = node.with_(name=graph.unique(node.name), placement=host, type=consumer.type)
        graph.insert_after(consumer.name, behind)
    else:
        _as_synapses(graph, node, factor, edge, shape)


def _behind(consumer: Node, factor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The factor as it reads behind a Flatten, a pooling or a mean."""
    if consumer.kind == "Flatten":
        return np.broadcast_to(factor, shape).reshape(consumer.shape).copy()
    channels = np.broadcast_to(factor.reshape(-1), (consumer.shape[0],))
    return channels.reshape(-1, *[1] * (len(consumer.shape) - 1)).copy()


def _into_weights(graph: Graph, node: Node, factor: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Multiply the input channels of a synapse op; False where the factor is not per input channel."""
    op = node.op
    if op.weight.ndim > 2 and not is_per_channel(factor):
        return False
    channels = np.broadcast_to(factor.reshape(-1) if is_per_channel(factor) else factor, shape[:1])
    weight = np.asarray(op.weight, np.float64) * input_channels(op, channels)
    graph.update(node.name, op=_same_bias(op, weight))
    return True


def _same_bias(op: Any, weight: np.ndarray) -> Any:
    bias = bias_of(op)
    return nir.Linear(weight) if bias is None else with_weights(op, weight, bias)


def _as_synapses(graph: Graph, node: Node, factor: np.ndarray, edge: Edge, shape: tuple[int, ...]) -> None:
    """A scale between two neurons becomes synapses of its own, one per neuron."""
    if len(shape) > 1 and not is_per_channel(factor):
        raise refuse(
            "E0435",
            "a factor of its own for every neuron, with nothing behind it to take them in",
            node=node.name,
            source=node.source,
            supported="one factor per channel, or a linear layer behind it",
        )
    synapse = Node(
        graph.unique(f"{node.name}.synapses"),
        one_to_one(factor, shape),
        type=node.type,
        placement=Placement("chip", "synapses"),
        source=node.source,
    )
    graph.insert_on(edge, synapse)
