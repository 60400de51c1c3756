"""Follow the axons of every connection: from the core a neuron is on to the cores its spikes go to.

The cores of a chip or board are numbered in one row: populations in the order of the graph, the neurons of a
population dealt evenly to its cores. Neurons of an image go row by row (all channels of a row together), so that
a convolution leads to neurons nearby; others go by their index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.shapes import conv_padding
from hsnn_compiler.passes.usage import Usage, chip_weights, incoming


@dataclass(frozen=True, eq=False)
class Axons:
    """One connection between populations. Neurons that reach nothing are left out.

    Attributes:
        source: population the spikes come from.
        target: population they go to.
        at: core of each source neuron [axons].
        first: first core of the target that it reaches [axons].
        last: last core of the target that it reaches [axons].
    """

    source: str
    target: str
    at: np.ndarray
    first: np.ndarray
    last: np.ndarray

    def crossing(self, chip: np.ndarray) -> int:
        """Axons that leave their chip: each neuron once for every other chip it reaches.

        Args:
            chip: number of the chip of each core [cores], ascending.
        """
        own, first, last = chip[self.at], chip[self.first], chip[self.last]
        return int((last - first + 1 - ((first <= own) & (own <= last))).sum())


def dealt(total: int, cores: int) -> np.ndarray:
    """How `total` things (neurons, synapses) are dealt evenly to cores: running sums [cores + 1]."""
    bounds: np.ndarray = np.arange(cores + 1, dtype=np.int64) * total // cores
    return bounds


def trace_axons(graph: Graph, used: Sequence[Usage]) -> list[Axons]:
    """All connections between populations on the chip, in the order of the graph; what the host sends is left out."""
    begin = dict(zip((item.name for item in used), np.cumsum([0] + [item.cores for item in used]), strict=False))
    cores = {item.name: item.cores for item in used}

    def core_of(node: Node, position: np.ndarray) -> np.ndarray:
        bounds = dealt(_size(node), cores[node.name])
        found: np.ndarray = begin[node.name] + np.searchsorted(bounds, position, "right") - 1
        return found

    found = []
    for item in used:
        target = graph[item.name]
        for synapse in incoming(graph, target):
            for source, way in _sources(graph, synapse):
                if source.name in cores:
                    first, last = _reached(source, synapse, target, way)
                    some = first <= last
                    at = core_of(source, np.arange(_size(source))[some])
                    found.append(
                        Axons(source.name, item.name, at, core_of(target, first[some]), core_of(target, last[some]))
                    )
    return found


def spanning(axons: Sequence[Axons], cores: int) -> np.ndarray:
    """Axons that lead past the border in front of each core [cores + 1]: what a cut there costs."""
    steps = np.zeros(cores + 1, np.int64)
    for item in axons:
        low, high = np.minimum(item.at, item.first), np.maximum(item.at, item.last)
        steps += np.bincount(low + 1, minlength=cores + 1) - np.bincount(high + 1, minlength=cores + 1)
    passing: np.ndarray = np.cumsum(steps)
    return passing


def _size(node: Node) -> int:
    assert node.type is not None
    return node.type.size


def _sources(graph: Graph, node: Node, way: tuple[str, ...] = ()) -> list[tuple[Node, tuple[str, ...]]]:
    """Populations that feed a node, and the kinds of what lies between (Flatten)."""
    found = []
    for before in graph.predecessors(node.name):
        if before.is_population:
            found.append((before, way))
        elif before.on_chip and not before.is_synapse:
            found += _sources(graph, before, (*way, before.kind))
    return found


def _reached(source: Node, synapse: Node, target: Node, way: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """First and last position in the target that each source neuron reaches, both in the order of dealing."""
    size, reached = _size(source), _size(target)
    if synapse.op.weight.ndim == 2 and synapse.op.weight.shape == (reached, size):
        first, last = _columns(chip_weights(synapse) != 0)
        order = _row_by_row(source.shape)
        return first[order], last[order]
    if synapse.op.weight.ndim > 2 and not way:
        low, high = _rows(synapse, source.shape[1], target.shape[1])
        row, repeat = reached // target.shape[1], size // source.shape[1]
        return np.repeat(low * row, repeat), np.repeat((high + 1) * row - 1, repeat)
    return np.zeros(size, np.int64), np.full(size, reached - 1)


def _columns(some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last row of a matrix in which each column is set; first > last for columns that are empty."""
    first = np.where(some.any(0), some.argmax(0), len(some))
    last = len(some) - 1 - some[::-1].argmax(0)
    return first, np.where(first < len(some), last, -1)


def _rows(synapse: Node, rows: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last row of outputs that a convolution reaches from each row of inputs."""
    stride, dilation = (int(np.atleast_1d(number)[0]) for number in (synapse.op.stride, synapse.op.dilation))
    padded = np.arange(rows) + conv_padding(synapse.op)[0][0]
    reach = dilation * (synapse.op.weight.shape[2] - 1)
    first = np.maximum(-((reach - padded) // stride), 0)
    return first, np.minimum(padded // stride, outputs - 1)


def _row_by_row(shape: tuple[int, ...]) -> np.ndarray:
    """Indices of the neurons of [channels, rows, ...] in the order in which they are dealt to cores."""
    index = np.arange(int(np.prod(shape))).reshape(shape)
    return np.moveaxis(index, 1, 0).ravel() if len(shape) > 1 else index
