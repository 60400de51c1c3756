"""Runs a graph that is changed from front to back, and goes on each time where nothing has changed since."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import nir
import numpy as np

from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.types import Coding
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.reference.batches import batches
from hsnn_compiler.reference.float_executor import FloatExecutor

MOST_BYTES = 512 * 2**20
"""Signals that are kept; where there would be more, runs begin further in front."""

Signals = dict[str, np.ndarray]


class Replay:
    """Signals of a graph on the calibration data.

    Correcting L layers one by one takes L runs of the part before each, which together cost as much as L / 2 runs of
    the whole graph. With what `advance` keeps, each node runs about once.

    Args:
        graph: before any change.
        context: with calibration data.
    """

    def __init__(self, graph: Graph, context: PassContext) -> None:
        assert context.calibration is not None
        self._kept: list[Signals] = [b for b, _, _ in batches(graph, context.calibration, context.batch_size)]
        self._done = set(self._kept[0])

    def run(self, graph: Graph, wanted: Collection[str]) -> Iterator[Signals]:
        """The signals `wanted` of each batch, [samples, ...] or [samples, time, ...].

        Args:
            graph: with changes at or behind what was last advanced to.
            wanted: names of nodes.
        """
        piece = _between(graph, self._kept[0], wanted)
        executor = FloatExecutor(piece, method="auto")
        starts = [node.name for node in piece.of_kind("Input")]
        record = [(name, "s") for name in wanted if name not in starts]
        for kept in self._kept:
            trace = executor.run_batch({name: kept[name] for name in starts}, record).trace if record else {}
            yield {name: kept[name] if name in starts else trace[name, "s"] for name in wanted}

    def advance(self, graph: Graph, wanted: Collection[str]) -> Iterator[Signals]:
        """As `run`; and later runs begin here: the nodes before `wanted`, and these, will not change any more."""
        done = self._done.union(wanted, *(graph.ancestors(name) for name in wanted))
        # Spikes rather than what a scale makes of them: a quarter of the bytes, and layers that run on spikes.
        done -= {name for name in done if graph[name].kind == "Scale"}
        frontier = [n for n in sorted(done) if {edge.dst for edge in graph.out_edges(n)} - done]
        kept: list[Signals] = []
        total = 0
        for signals in self.run(graph, list({*wanted, *frontier})):
            yield {name: signals[name] for name in wanted}
            if total <= MOST_BYTES:
                kept.append({name: _small(graph[name], signals[name]) for name in frontier})
                total += sum(array.nbytes for array in kept[-1].values())
        if total <= MOST_BYTES:
            self._kept, self._done = kept, done


def _between(graph: Graph, kept: Collection[str], wanted: Collection[str]) -> Graph:
    """What lies between signals that are there and those that are wanted; the former are its inputs."""
    needed: set[str] = set()
    starts: set[str] = set()
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        if name in needed or name in starts:
            continue
        if name in kept:
            starts.add(name)
        else:
            needed.add(name)
            waiting += [edge.src for edge in graph.in_edges(name)]
    piece = Graph(graph.name, graph.timesteps)
    for node in graph:
        if node.name in starts:
            piece.add(Node(node.name, nir.Input(np.array(node.shape)), node.type))
        elif node.name in needed:
            piece.add(node)
    for name in needed:
        for edge in graph.in_edges(name):
            piece.connect(edge)
    return infer_types(piece)


def _small(node: Node, signal: np.ndarray) -> np.ndarray:
    """In as few bytes as it takes."""
    is_binary = node.type is not None and node.type.coding is Coding.SPIKES
    return signal.astype(np.uint8 if is_binary else np.float32, copy=False)
