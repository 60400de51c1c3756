"""When things happen: layers, and spikes that wait for slower ways."""

from __future__ import annotations

import networkx as nx

from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.order import groups, is_loop
from hsnn_compiler.ir.quant import Schedule
from hsnn_compiler.ir.stages import depths, is_host, stages


def layers(graph: Graph) -> dict[str, int]:
    """Layer of every node: the largest number of delayed edges on a way to it.

    In a graph in which every synapse op adds one step, as on Loihi, a population of layer L first
    sees in step L (counted from 0) what was presented in step 0. Ways through a loop have no largest
    number: within one it is the smallest, from where the loop is entered.
    """
    layer: dict[str, int] = {}
    for group in groups(graph):
        members = {node.name for node in group}
        entered = {
            node.name: max(layer[edge.src] + (edge.delay > 0) for edge in outside)
            for node in group
            if (outside := [edge for edge in graph.in_edges(node.name) if edge.src not in members])
        }
        layer.update(_within_loop(graph, group, entered) if is_loop(graph, group) else entered)
        for name in members:
            layer.setdefault(name, 0)
    return layer


def _within_loop(graph: Graph, group: list[Node], entered: dict[str, int]) -> dict[str, int]:
    """Layers of the nodes of a loop, from those at which it is entered."""
    ways = nx.DiGraph()
    outside = object()
    ways.add_node(outside)
    ways.add_weighted_edges_from((outside, name, number) for name, number in entered.items())
    members = {node.name for node in group}
    for edge in (edge for node in group for edge in graph.out_edges(node.name) if edge.dst in members):
        steps = int(edge.delay > 0)
        known = ways.get_edge_data(edge.src, edge.dst)
        ways.add_edge(edge.src, edge.dst, weight=min(steps, known["weight"]) if known else steps)
    found = nx.single_source_dijkstra_path_length(ways, outside)
    return {name: number for name, number in found.items() if name is not outside}


def waits(graph: Graph) -> dict[str, int]:
    """Steps for which a spike waits before each synapse op on the chip, in a scheduled graph.

    A synapse op adds one step; a connection from depth d to depth L that skips layers waits L - d - 1. What a Collect
    of depth L presents has to arrive one window earlier.
    """
    depth: dict[str, int] = {}
    found = {}
    number = stages(graph)
    steps = graph.timesteps or 1
    ready = depths(graph, number, steps)
    for node in graph.topological():
        feeds = max((depth[edge.src] for edge in graph.in_edges(node.name)), default=0)
        depth[node.name] = (
            ready[number[node.name]] if is_host(node) else node.schedule.depth if node.schedule else feeds
        )
        if node.is_synapse and node.on_chip:
            target = max(_begins(s.kind, s.schedule, steps) for s in graph.successors(node.name) if s.schedule)
            found[node.name] = target - 1 - feeds
            depth[node.name] = feeds + 1
    return found


def _begins(kind: str, schedule: Schedule, timesteps: int) -> int:
    """Steps before the window in which what arrives for the first sample is taken."""
    return schedule.depth - timesteps if kind == "Collect" else schedule.depth
