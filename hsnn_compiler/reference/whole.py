"""Whole graphs as one chain of layers on the kernels, where nothing else is in them: the fastest way there is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.shapes import Shape
from hsnn_compiler.reference.batches import Inputs, has_time
from hsnn_compiler.reference.fused import BYTES, FusedLayer, FusedPlan
from hsnn_compiler.reference.result import Record, Result, join

if TYPE_CHECKING:
    from hsnn_compiler.kernels import Chain, Layer


MOST_REPEATS = 64
"""Different runs that are remembered."""


@dataclass(eq=False)
class Whole:
    """A graph that is a chain.

    Attributes:
        chain: of the layers.
        nodes: their populations, in the same order.
        keep: what the chain records, by what the run is to return: an output (its name), or a signal.
        dtype: of spikes that are returned.
        saturates: whether its numbers can, as Loihi's do.
        starts: by population, the first step at which it may be reset, see `hsnn_compiler.ir.timing.layers`.
    """

    chain: Chain
    nodes: list[Node]
    keep: dict[str | Record, tuple[int, str]]
    dtype: np.dtype
    saturates: bool
    starts: Mapping[str, int]

    def __post_init__(self) -> None:
        # Looked up once: a short run has no time for it.
        self.names = [node.name for node in self.nodes]
        self.spiking = [node.is_spiking for node in self.nodes]
        self.shapes = [node.shape for node in self.nodes]
        self.kept = frozenset(self.keep.values())
        self.first_input = next(name for _, name in self.chain.outside)

    def run(self, inputs: Mapping[str, np.ndarray], reset_interval: int | None) -> Result | None:
        """Run a batch.

        Args:
            inputs: spikes as uint8 or bool, [batch, time, ...].
            reset_interval: as the executors take it.

        Returns:
            None, if the chain declines.
        """
        resets = {}
        if reset_interval:
            steps = next(iter(inputs.values())).shape[1]
            for i, node in enumerate(self.nodes):
                resets[i] = np.zeros(steps, np.bool_)
                resets[i][self.starts[node.name] :: reset_interval] = True
        spikes = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        done = self.chain.run(spikes, self.kept, resets)
        if done is None:
            return None
        result = Result()
        for i, (name, spiking, count) in enumerate(zip(self.names, self.spiking, done.counts, strict=True)):
            result.how[name] = done.method(i)
            if spiking:
                result.spikes[name] = count
        if self.saturates:
            result.saturated = dict(zip(self.names, done.saturated, strict=True))
        for wanted, key in self.keep.items():
            found = _channels_first(done.kept[key], self.shapes[key[0]], self.dtype if key[1] == "s" else None)
            if isinstance(wanted, str):
                result.outputs[wanted] = found
            else:
                result.trace[wanted] = found
        return result


class Repeats:
    """Runs like one before, of one array of bytes in one batch: what has been checked then is not checked again."""

    def __init__(self) -> None:
        self._chains: dict[object, Whole] = {}

    def run(
        self,
        inputs: Inputs,
        record: Collection[Record],
        size: int,
        reset_interval: int | None,
        progress: Callable[[int, int], None] | None,
    ) -> Result | None:
        """Run it if there was one like it, arguments as the executors take them; None if not, or if it declines."""
        if not isinstance(inputs, np.ndarray):
            return None
        chain = self._chains.get((inputs.shape, inputs.dtype, frozenset(record), size, reset_interval))
        result = chain.run({chain.first_input: inputs}, reset_interval) if chain else None
        if result is None:
            return None
        if progress:
            progress(len(inputs), len(inputs))
        return join([result])

    def learn(
        self, inputs: Inputs, record: Collection[Record], size: int, reset_interval: int | None, chain: Whole | None
    ) -> None:
        """Remember a run on kernels, if it was such; `chain` is the graph with this record, if it is one."""
        if not isinstance(inputs, np.ndarray) or inputs.dtype not in BYTES or len(inputs) > size or not chain:
            return
        if len(self._chains) >= MOST_REPEATS:
            self._chains.clear()
        self._chains[inputs.shape, inputs.dtype, frozenset(record), size, reset_interval] = chain


def whole(
    graph: Graph,
    plan: FusedPlan,
    record: Collection[Record],
    layer: Callable[[FusedLayer], Layer],
    dtype: type,
    starts: Mapping[str, int],
    *,
    is_loihi: bool,
) -> Whole | None:
    """The graph as a chain; None if it is none.

    Args:
        graph: with types.
        plan: its layers, for the same record.
        record: signals wanted.
        layer: makes one of the kernels.
        dtype, starts: see `Whole`.
        is_loihi: whether the layers compute in Loihi's integers.
    """
    from hsnn_compiler.kernels import Chain, Feed

    nodes = [node for node in plan.ordered if node.name in plan.layers]
    if not all(_fits(graph, plan, node) for node in graph) or any(name not in plan.layers for name, _ in record):
        return None
    made = [layer(plan.layers[node.name]) for node in nodes]
    if not nodes or not all(each.chains for each in made):
        return None
    number = {node.name: i for i, node in enumerate(nodes)}
    feeds = [
        [
            Feed(number.get(feed.source.name, feed.source.name), feed.source.shape, feed.delay)
            for feed in plan.layers[node.name].feeds
        ]
        for node in nodes
    ]

    def kept(name: str, variable: str) -> tuple[int, str]:
        return number[name], "v" if variable == "s" and not graph[name].is_spiking else variable

    keep: dict[str | Record, tuple[int, str]] = {key: kept(*key) for key in record}
    keep |= {out.name: kept(graph.in_edges(out.name)[0].src, "s") for out in graph.of_kind("Output")}
    # To Loihi, whatever is not 0 is a spike.
    return Whole(Chain(made, feeds, counts_bytes=is_loihi), nodes, keep, np.dtype(dtype), is_loihi, starts)


def _fits(graph: Graph, plan: FusedPlan, node: Node) -> bool:
    """Whether a node is a layer fed by spikes through synapses alone, part of one, or an end of the graph."""
    if node.name in plan.layers:
        layer = plan.layers[node.name]
        sources = [feed.source for feed in layer.feeds]
        return (
            bool(sources)
            and not layer.others
            and all(s.kind == "Input" or (s.name in plan.layers and s.is_spiking) for s in sources)
        )
    if node.kind == "Input":
        return has_time(node)
    if node.kind == "Output":
        edges = graph.in_edges(node.name)
        return len(edges) == 1 and not edges[0].delay and edges[0].src in plan.layers
    return node.name in plan.inside


def _channels_first(array: np.ndarray, shape: Shape, dtype: np.dtype | None) -> np.ndarray:
    """[batch, time, *kernel_shape(shape)] as [batch, time, *shape]."""
    if len(shape) > 1:
        array = np.moveaxis(array.reshape(*array.shape[:2], *shape[1:], shape[0]), -1, 2)
    return np.ascontiguousarray(array, dtype)
