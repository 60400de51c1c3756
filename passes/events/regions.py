"""The linear ops between what encodes or fires and the populations behind them, and collecting in front of those."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import nir
import numpy as np
import torch

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Collect, bias_of
from hsnn_compiler.ir.types import Placement
from hsnn_compiler.passes.batchnorm import with_weights
from hsnn_compiler.passes.connections import split_input
from hsnn_compiler.passes.direct import is_direct
from hsnn_compiler.reference.torch_ops import bind

ANALOG, SPIKES = "analog", "spikes"
WHY_COLLECT = "adds up what arrives in one window, and presents it in the next"


def origins(graph: Graph) -> dict[str, frozenset[str]]:
    """By node, what it carries: `ANALOG` behind a direct Encode and linear ops, `SPIKES` behind what fires, or both.

    Populations and Decodes end a way: what is said of them is what arrives.
    """
    found: dict[str, frozenset[str]] = {}
    for node in graph.topological():
        found[node.name] = frozenset[str]().union(*(carried(found, n) for n in graph.predecessors(node.name)))
    return found


def carried(found: dict[str, frozenset[str]], node: Node) -> frozenset[str]:
    """What a node puts out, given what arrives at each, see `origins`."""
    if node.kind == "Encode":
        return frozenset([ANALOG if is_direct(node) else SPIKES])
    if node.kind == "Decode" or (node.type is not None and not node.type.coding.per_step):
        return frozenset()
    if node.is_population:
        return frozenset([SPIKES])
    return found[node.name]


def separate(graph: Graph) -> None:
    """Split linear ops at which analog input and spikes meet, in place: f(x + s) = f(x) + f(s). E0470 at a Concat."""
    while True:
        found = origins(graph)
        mixed = next((n for n in graph.topological() if _is_linear(n) and len(found[n.name]) > 1), None)
        if mixed is None:
            return
        if mixed.kind == "Concat":
            raise refuse(
                "E0470",
                "analog input and spikes are put side by side",
                node=mixed.name,
                source=mixed.source,
                supported="sums of both",
                suggestion="--encode current, or --coding rate",
            )
        if mixed.kind == "Add":
            _without_add(graph, mixed)
            continue
        for edge in graph.in_edges(mixed.name):
            if ANALOG in carried(found, graph[edge.src]):
                split_input(graph, edge)


def arriving(graph: Graph, name: str, what: str) -> list[Edge]:
    """Edges into a node that carry `ANALOG` or `SPIKES`."""
    found = origins(graph)
    return [edge for edge in graph.in_edges(name) if what in carried(found, graph[edge.src])]


def region(graph: Graph, edges: Iterable[Edge]) -> set[str]:
    """Names of the linear ops between these edges and what encodes or fires before them."""
    found: set[str] = set()
    waiting = [edge.src for edge in edges]
    while waiting:
        name = waiting.pop()
        if name not in found and _is_linear(graph[name]):
            found.add(name)
            waiting += [edge.src for edge in graph.in_edges(name)]
    return found


def constant_part(graph: Graph, edges: Sequence[Edge]) -> np.ndarray:
    """What arrives over edges while nothing fires, [*shape] or per channel [C, 1, ...], float64; from all biases."""
    memory: dict[str, torch.Tensor] = {}
    inside = region(graph, edges)

    def value(name: str) -> torch.Tensor:
        if name not in memory:
            node = graph[name]
            if name not in inside:
                memory[name] = torch.zeros((1, *node.shape), dtype=torch.float64)
            else:
                parts = [value(edge.src) for edge in graph.in_edges(name)]
                memory[name] = (
                    torch.cat(parts, node.op.axis % len(node.shape) + 1)
                    if node.kind == "Concat"
                    else bind(node.op, torch.float64)(sum(parts[1:], start=parts[0]))
                )
        return memory[name]

    total: np.ndarray = sum((value(edge.src)[0] for edge in edges[1:]), start=value(edges[0].src)[0]).numpy()
    first = total[(slice(None), *[slice(0, 1)] * (total.ndim - 1))]
    return first.copy() if bool((total == first).all()) else total


def without_biases(graph: Graph, names: Iterable[str]) -> None:
    """Take the biases out of synapse ops, in place."""
    for name in names:
        op = graph[name].op
        if bias_of(op) is not None and graph[name].is_synapse:
            graph.update(name, op=_without_bias(op))


def insert_collects(graph: Graph, wanted: dict[str, list[Edge]], code: str) -> Graph:
    """Let what arrives over some edges be collected; their biases move into the `Collect`.

    Args:
        graph: typed, with `separate` done.
        wanted: by receiving node, the edges into it.
        code: of the Collects.

    Returns:
        A typed copy.
    """
    biases = {name: constant_part(graph, edges) for name, edges in wanted.items()}
    graph = graph.copy()
    without_biases(graph, region(graph, (edge for edges in wanted.values() for edge in edges)))
    for name, edges in wanted.items():
        collector = Node(
            graph.unique(f"{name}.collect"),
            Collect(code, biases[name]),
            placement=Placement("chip", WHY_COLLECT),
            source=graph[name].source,
        )
        graph.add(collector)
        for edge in edges:
            graph.disconnect(edge)
            graph.connect(Edge(edge.src, collector.name))
        graph.connect(Edge(collector.name, name))
    return infer_types(graph)


def _without_bias(op: Any) -> Any:
    if isinstance(op, nir.Affine):
        return nir.Linear(op.weight)
    return with_weights(op, op.weight, np.zeros_like(op.bias))


def _without_add(graph: Graph, node: Node) -> None:
    """One addition for what is analog and one for spikes; the two add up where they meet."""
    found = origins(graph)
    edges, outs = graph.in_edges(node.name), graph.out_edges(node.name)
    graph.remove(node.name)
    for what in (ANALOG, SPIKES):
        name = graph.unique(f"{node.name}.{what}")
        alone = [edge._replace(dst=name) for edge in edges if what in carried(found, graph[edge.src])]
        graph.add(node.with_(name=name), *alone)
        for out in outs:
            graph.connect(out._replace(src=name))


def _is_linear(node: Node) -> bool:
    """Whether a node is a linear op per step: neither encodes, fires, integrates, nor ends what the chip does."""
    per_step = node.type is None or node.type.coding.per_step
    ends = node.is_population or node.kind in ("Input", "Output", "Encode", "Decode", "Collect")
    return per_step and not ends
