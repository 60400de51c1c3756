"""Concatenated channels need no concatenation: what reads them has weights for each part."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import nir
import numpy as np

from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Add, BatchNorm, Concat, bias_of
from hsnn_compiler.passes.base import Pass, PassContext, PassResult, listing
from hsnn_compiler.passes.batchnorm import with_weights

_CHANNEL_BY_CHANNEL = (
    "ReLU",
    "Clip",
    "LeakyReLU",
    "MaxPool2d",
    "AvgPool2d",
    "SumPool2d",
    "BatchNorm",
    "Flatten",
    "Mean",
)
_ACTIVATIONS = ("ReLU", "Clip", "LeakyReLU", "Quantised")


@dataclass(frozen=True)
class SplitConcats(Pass):
    """Give each part of a concatenation along the channels weights of its own in the layer behind it.

    W [x; y] + b = W_x x + W_y y + b. On the way, what works channel by channel (activations, pooling, batch
    normalisation, flattening) is done to each part. So a concatenation costs nothing on the chip, where it would
    otherwise be a turn of the host. One that feeds anything else, or of which a part has not yet passed an activation
    or a neuron, stays; so does one that has an option of its own, or that feeds a layer which has (``--layer``).
    """

    name: ClassVar[str] = "split-concats"
    requires: ClassVar[tuple[str, ...]] = ("typed",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        graph = infer_types(graph)
        chosen = [node.name for node in graph.of_kind("Concat") if _is_split(graph, node.name, context.layers)]
        if not chosen:
            return PassResult(graph)
        waiting = list(chosen)
        while waiting:
            graph, behind = _push(graph, waiting.pop(0))
            waiting += behind
        note = f"concatenated channels have weights for each part: {listing(chosen)}"
        return PassResult(graph, True, (note,))


def _is_split(graph: Graph, name: str, asked: Collection[str]) -> bool:
    """Whether everything that reads a concatenation can read its parts, and these come from activations."""
    node = graph[name]
    if name in asked or node.op.axis % len(node.shape) != 0 or any(edge.delay for edge in graph.in_edges(name)):
        return False
    if not all(_comes_from_neurons(graph, source) for source in graph.predecessors(name)):
        return False
    return _reads_parts(graph, name, asked)


def _comes_from_neurons(graph: Graph, node: Node) -> bool:
    if node.kind in _ACTIVATIONS or node.is_neuron:
        return True
    if node.kind not in (*_CHANNEL_BY_CHANNEL, "Concat", "Conv1d", "Conv2d", "Linear", "Affine", "Add"):
        return False
    edges = graph.in_edges(node.name)  # around a loop, one has a delay
    return bool(edges) and all(not edge.delay and _comes_from_neurons(graph, graph[edge.src]) for edge in edges)


def _reads_parts(graph: Graph, name: str, asked: Collection[str]) -> bool:
    """Whether all ways on from here lead through channel by channel ops into synapses or other concatenations."""
    edges = graph.out_edges(name)
    return bool(edges) and all(not edge.delay and _reads_part(graph, graph[edge.dst], asked) for edge in edges)


def _reads_part(graph: Graph, node: Node, asked: Collection[str]) -> bool:
    alone = len(graph.in_edges(node.name)) == 1
    if node.kind == "Concat":
        return _is_split(graph, node.name, asked)
    if node.name in asked:  # its option would find nobody
        return False
    (feed, *_) = graph.predecessors(node.name)
    if node.is_synapse:
        is_matrix = not node.kind.startswith("Conv")
        fits = len(feed.shape) == 1 if is_matrix else int(node.op.groups) == 1
        return alone and fits
    if not alone or node.kind not in _CHANNEL_BY_CHANNEL:
        return False
    if node.kind == "Mean" and 0 in {axis % len(feed.shape) for axis in node.op.axes}:
        return False
    return (node.kind != "Flatten" or len(node.shape) == 1) and _reads_parts(graph, node.name, asked)


def _push(graph: Graph, name: str) -> tuple[Graph, list[str]]:
    """Take a concatenation one op further along each edge that leaves it; also the names of those that this makes."""
    parts = sorted(graph.in_edges(name), key=lambda edge: int(edge.port))
    sizes = [graph[edge.src].shape[0] for edge in parts]
    ends = np.cumsum(sizes)
    made = []
    for edge in graph.out_edges(name):
        consumer = graph[edge.dst]
        if consumer.kind == "Concat":
            _into(graph, consumer, edge, parts)
            continue
        graph.disconnect(edge)
        pieces = []
        for number, (part, end, size) in enumerate(zip(parts, ends, sizes, strict=True)):
            piece = graph.unique(f"{consumer.name}.from.{part.src}")
            op = _part_of(consumer, slice(int(end - size), int(end)), graph[part.src], first=number == 0)
            graph.add(replace(consumer, name=piece, op=op, type=None), Edge(part.src, piece))
            pieces.append(piece)
        if not consumer.is_synapse:
            made.append(consumer.name)
        graph.update(consumer.name, op=Add() if consumer.is_synapse else Concat(0), type=None, dynamics=None)
        for number, piece in enumerate(pieces):
            graph.connect(Edge(piece, consumer.name, str(number)))
    graph.remove(name)
    return infer_types(graph), made


def _into(graph: Graph, consumer: Node, edge: Edge, parts: list[Edge]) -> None:
    """The parts of one concatenation take its place in another one."""
    feeds = sorted(graph.in_edges(consumer.name), key=lambda feed: int(feed.port))
    sources: list[str] = []
    for feed in feeds:
        sources += [part.src for part in parts] if feed == edge else [feed.src]
        graph.disconnect(feed)
    for number, source in enumerate(sources):
        graph.connect(Edge(source, consumer.name, str(number)))


def _part_of(consumer: Node, channels: slice, source: Node, first: bool) -> Any:
    """An op on some of the channels that it had; the first part has the bias."""
    op = consumer.op
    if consumer.is_synapse:
        bias = bias_of(op)
        rows = np.zeros(len(op.weight)) if bias is None else np.asarray(bias)
        return with_weights(op, np.asarray(op.weight)[:, channels], rows if first else 0 * rows)
    if isinstance(op, BatchNorm):
        return BatchNorm(op.weight[channels], op.bias[channels], op.mean[channels], op.var[channels], op.eps)
    if consumer.kind == "Flatten":
        return nir.Flatten({"input": np.array(source.shape)}, 0, -1)
    return op
