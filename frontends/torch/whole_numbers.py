"""Which whole numbers a node puts out in a step, as far as capture can tell: spikes, and sums and products of them."""

from __future__ import annotations

import numpy as np

from hsnn_compiler.frontends.torch.series import Stack
from hsnn_compiler.ir.graph import Graph, Node

Range = tuple[int, int]

RESHAPING = ("Flatten", "NoOp", "Concat", "MaxPool2d")
PRODUCTS = ("torch.mul", "Tensor.mul")


def whole_numbers(graph: Graph, name: str) -> Range | None:
    """The least and the largest, both inclusive; None where it may put out anything else.

    Args:
        graph: as capture has it, with `Stack` and steps of loops in it.
        name: of the node.
    """
    node = graph[name]
    if node.is_event_source or node.is_spiking:
        return (0, 1) if node.dynamics is None or node.dynamics.max_spikes == 1 else None
    parts = [whole_numbers(graph, source.name) for source in graph.predecessors(name)]
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    if node.kind in RESHAPING or isinstance(node.op, Stack):
        return min(low for low, _ in known), max(high for _, high in known)
    if node.kind == "Add":
        return sum(low for low, _ in known), sum(high for _, high in known)
    if node.kind == "HostCall" and node.op.function in PRODUCTS and len(known) == 2:
        products = [a * b for a in known[0] for b in known[1]]
        return min(products), max(products)
    step = _affine(node)
    if step is None or len(known) > 1:
        return None
    ends = [step[0] * end + step[1] for end in known[0]]
    return min(ends), max(ends)


def _affine(node: Node) -> tuple[int, int] | None:
    """A factor and a constant, both whole and the same for all elements, that are all a node does."""
    op = node.op
    if node.kind == "Scale":
        factor, constant = _whole(op.scale), 0
        return None if factor is None else (factor, constant)
    if node.kind == "BatchNorm" and not op.eps and np.all(op.var == 1) and not np.any(op.mean):
        weight, bias = _whole(op.weight), _whole(op.bias)
        return None if weight is None or bias is None else (weight, bias)
    return None


def _whole(array: np.ndarray) -> int | None:
    first = np.asarray(array).flat[0]
    return int(first) if np.all(array == first) and float(first).is_integer() else None
