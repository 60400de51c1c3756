"""Max pooling between activations, in ops that become neurons and synapses."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import nir
import numpy as np

from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.ops import ACTIVATIONS, Add, Quantised, ReLU
from hsnn_compiler.ir.shapes import pair


@dataclass(frozen=True)
class Largest:
    """Largest of some elements of a window: one of them, and what each comparison added.

    Attributes:
        element: position in the window, (row, column).
        gains: names of the ReLUs whose sum lies between the element and the largest.
    """

    element: tuple[int, int]
    gains: tuple[str, ...] = ()


def can_be_lowered(graph: Graph, node: Node) -> bool:
    """Whether a max pooling of values lies behind activations, and what it pads with never is the largest."""
    behind = any(graph[name].kind in ACTIVATIONS for name in graph.ancestors(node.name))
    return behind and (not any(pair(node.op.padding)) or _is_positive(graph, node.name))


def as_comparisons(graph: Graph, node: Node) -> int:
    """Replace a max pooling by comparisons: max(a, b) = a + ReLU(b - a), in a tree over each window.

    Exact in values. Of a window of n elements n - 1 ReLUs are left, which conversion makes neurons; differences
    and sums are depthwise convolutions and additions, so that they become synapses. Of elements that a quantised
    activation rounded, differences lie on its levels too, and it takes the place of the ReLUs.

    Returns:
        How many ReLUs it took.
    """
    (feed,) = graph.in_edges(node.name)
    window = _Window(graph, node, feed.src)
    kernel = pair(node.op.kernel_size)
    parts = [Largest(element) for element in itertools.product(range(kernel[0]), range(kernel[1]))]
    while len(parts) > 1:
        pairs = list(zip(parts[::2], parts[1::2], strict=False))
        parts = [window.larger(one, other) for one, other in pairs] + parts[2 * len(pairs) :]
    graph.disconnect(feed)
    window.into(node.name, parts[0])
    return window.comparisons


class _Window:
    """The windows of one max pooling, and the nodes that compare their elements."""

    def __init__(self, graph: Graph, node: Node, source: str) -> None:
        self.graph, self.node, self.source = graph, node, source
        self.channels = graph[source].shape[0]
        self.comparisons = 0
        self.positive = _rounded(graph, node.name) or ReLU()

    def larger(self, one: Largest, other: Largest) -> Largest:
        """The larger of two: one + ReLU(other - one)."""
        self.comparisons += 1
        name = self.graph.unique(f"{self.node.name}.larger{self.comparisons}")
        difference = self._conv(f"{name}.difference", {one.element: -1.0, other.element: 1.0})
        minus = [self._negated(gain) for gain in one.gains]
        self.graph.add(Node(f"{name}.sum", Add(), source=self.node.source))
        self._connect([difference, *other.gains, *minus], f"{name}.sum")
        self.graph.add(Node(name, self.positive, source=self.node.source), f"{name}.sum")
        return Largest(one.element, (*one.gains, name))

    def into(self, name: str, largest: Largest) -> None:
        """Turn the pooling's node into the sum that is its result."""
        element = self._conv(f"{name}.first", {largest.element: 1.0})
        self.graph.update(name, op=Add(), type=None)
        self._connect([element, *largest.gains], name)

    def _conv(self, stem: str, weights: dict[tuple[int, int], float]) -> str:
        """Elements of the windows, weighed and added up: a depthwise convolution."""
        op = self.node.op
        kernel = np.zeros((self.channels, 1, *pair(op.kernel_size)))
        for (row, column), weight in weights.items():
            kernel[:, 0, row, column] = weight
        shape = self.graph[self.source].shape[1:]
        bias = np.zeros(self.channels)
        conv = nir.Conv2d(shape, kernel, pair(op.stride), pair(op.padding), (1, 1), self.channels, bias)
        name = self.graph.unique(stem)
        self.graph.add(Node(name, conv, source=self.node.source), self.source)
        return name

    def _negated(self, gain: str) -> str:
        name = self.graph.unique(f"{gain}.negated")
        self.graph.add(Node(name, nir.Scale(-np.ones((1, 1, 1))), source=self.node.source), gain)
        return name

    def _connect(self, sources: list[str], target: str) -> None:
        for port, source in enumerate(sources):
            self.graph.connect(Edge(source, target, str(port)))


def _rounded(graph: Graph, name: str) -> Quantised | None:
    """The quantised activation whose levels reach a node, None where it is not the only one or other values do."""
    (source, *others) = graph.predecessors(name)
    if others:
        return None
    if isinstance(source.op, Quantised):
        return source.op
    return _rounded(graph, source.name) if source.kind == "NoOp" else None


def _is_positive(graph: Graph, name: str) -> bool:
    """Whether nothing below zero can reach a node."""
    for source in graph.predecessors(name):
        if source.kind in ("ReLU", "Quantised") or (source.kind == "Clip" and source.op.low >= 0):
            continue
        if source.kind not in ("MaxPool2d", "AvgPool2d", "SumPool2d", "NoOp") or not _is_positive(graph, source.name):
            return False
    return True
