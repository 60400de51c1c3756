"""When things happen: layers, and spikes that wait for slower ways."""

from __future__ import annotations

from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.order import groups


def layers(graph: Graph) -> dict[str, int]:
    """Layer of every node: the largest number of delayed edges on a way to it, loops not counted.

    In a graph in which every synapse op adds one step, as on Loihi, a population of layer L first
    sees in step L (counted from 0) what was presented in step 0.
    """
    layer: dict[str, int] = {}
    for group in groups(graph):
        members = {node.name for node in group}
        inside = dict.fromkeys(members, 0)
        for node in group:
            inside[node.name] = max(
                (
                    (inside[edge.src] if edge.src in members else layer[edge.src]) + (edge.delay > 0)
                    for edge in graph.in_edges(node.name)
                    if edge.src not in members or not edge.delay
                ),
                default=0,
            )
        layer.update(inside)
    return layer


def waits(graph: Graph) -> dict[str, int]:
    """Steps for which a spike waits before each synapse op on the chip, in a scheduled graph.

    A synapse op adds one step; a connection from depth d to depth L that skips layers waits L - d - 1.
    """
    depth: dict[str, int] = {}
    found = {}
    for node in graph.topological():
        feeds = max((depth[edge.src] for edge in graph.in_edges(node.name)), default=0)
        depth[node.name] = node.schedule.depth if node.schedule else feeds
        if node.is_synapse and node.on_chip:
            target = max(s.schedule.depth for s in graph.successors(node.name) if s.schedule)
            found[node.name] = target - 1 - feeds
            depth[node.name] = feeds + 1
    return found
