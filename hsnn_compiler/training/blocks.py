"""Blocks of a converted network: where it can be cut into a spiking front and an analog tail.

A *cut point* is a node that every way from an input to an output goes through. A block ends at a cut point that was
an activation and became neurons: the activation's value and the neurons' rate are the same signal in two forms. As a
rule blocks are the stages of a network: they end where the resolution or the number of channels changes behind.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.ir.graph import Graph

MOST_BLOCKS = 4
"""Blocks of a network that is a single stage: as many as a ResNet has stages."""


def cut_points(graph: Graph) -> list[str]:
    """Nodes that every way from an input to an output goes through, in the order of the signal; none is on a loop."""
    ordered = graph.topological()
    position = {node.name: number for number, node in enumerate(ordered)}
    passed = np.zeros(len(ordered) + 1, np.int64)  # what goes past a position, as differences
    for edge in graph.edges:
        start, end = position[edge.src], position[edge.dst]
        low, high = (start + 1, end) if start < end else (end, start + 1)
        passed[low] += 1
        passed[high] -= 1
    past = np.cumsum(passed)
    first = max((position[node.name] for node in ordered if not graph.in_edges(node.name)), default=0)
    last = min((position[node.name] for node in graph.of_kind("Output")), default=len(ordered) - 1)
    return [node.name for node in ordered[first : last + 1] if not past[position[node.name]]]


def find_blocks(graph: Graph, neurons: Collection[str], named: Sequence[str] = ()) -> list[str]:
    """Names of the activations at which the blocks end, in order.

    Args:
        graph: the network before conversion.
        neurons: activations that became neurons.
        named: ends chosen by the user; empty to find them: the last candidate of each stage or, if there is one stage
            alone, up to `MOST_BLOCKS` candidates, evenly over the layers.

    Raises:
        HsnnError: for names at which no block can end (E0565).
    """
    candidates = [name for name in cut_points(graph) if name in neurons]
    wrong = [name for name in named if name not in candidates]
    if wrong:
        raise HsnnError([_no_end(graph, name, neurons, candidates) for name in wrong])
    if named:
        return [name for name in candidates if name in named]
    shapes = [graph[name].shape for name in candidates]
    ends = [
        name
        for number, name in enumerate(candidates)
        if number + 1 == len(candidates) or shapes[number + 1] != shapes[number]
    ]
    return ends if len(ends) > 1 else _evenly(candidates, MOST_BLOCKS)


def _evenly(candidates: Sequence[str], most: int) -> list[str]:
    """The ends of at most so many runs of nearly the same length."""
    count = min(most, len(candidates))
    return [candidates[len(candidates) * (number + 1) // count - 1] for number in range(count)]


def _no_end(graph: Graph, name: str, neurons: Collection[str], candidates: Sequence[str]) -> Finding:
    if name not in graph:
        message = f"no node named {name!r} in the network before conversion"
    elif name not in neurons:
        message = f"{name} is no activation that became neurons, so no block ends there"
    else:
        message = f"other signals go past {name}, so the network cannot be cut there"
    return Finding(
        "E0565",
        message,
        node=name if name in graph else "",
        supported=", ".join(candidates) or "nothing: this network cannot be cut behind any of its activations",
        suggestion="name some of these, as in distill{blocks=a+b}, or leave the option out",
    )
