"""In what order to evaluate a graph that may have loops.

Every loop must hold an edge with a delay: what a node puts out can then reach itself only in
a later step. Nodes that lie on loops through each other form one group, evaluated together
step by step; everything else is evaluated once, over the whole time axis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import networkx as nx

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.dynamics import delay_steps

if TYPE_CHECKING:
    from hsnn_compiler.ir.graph import Edge, Graph, Node


def groups(graph: Graph) -> list[list[Node]]:
    """Groups of nodes such that every group comes after those that feed it.

    A group is one node, or all nodes of a loop, in an order in which one step can be evaluated
    (a node after those that feed it without delay). Ties are broken by insertion order. A loop
    without delay is refused (E0420).
    """
    number = {node.name: i for i, node in enumerate(graph)}
    condensed = nx.condensation(nx.DiGraph(graph.nx))
    first = {group: min(number[name] for name in data["members"]) for group, data in condensed.nodes(data=True)}
    found = []
    for group in nx.lexicographical_topological_sort(condensed, key=first.__getitem__):
        members = condensed.nodes[group]["members"]
        found.append([graph[name] for name in _within(graph, members, number)])
    return found


def is_loop(graph: Graph, group: list[Node]) -> bool:
    """Whether a group of `groups` has to be evaluated step by step."""
    return len(group) > 1 or graph.nx.has_edge(group[0].name, group[0].name)


def is_later(graph: Graph, edge: Edge) -> bool:
    """Whether what goes over an edge acts in a later step at the earliest: it, or the Delay it leads to, says so."""
    node = graph[edge.dst]
    if edge.delay or node.kind != "Delay" or node.dynamics is None:
        return edge.delay > 0
    return bool(delay_steps(node.op, node.dynamics).min(initial=1) >= 1)


def _within(graph: Graph, members: set[str], number: dict[str, int]) -> list[str]:
    """Order of the nodes of one group within a step: edges with a delay do not count."""
    if len(members) == 1 and not graph.nx.has_edge(*[next(iter(members))] * 2):
        return list(members)
    step = nx.DiGraph()
    step.add_nodes_from(sorted(members, key=number.__getitem__))
    for name in members:
        step.add_edges_from(
            (e.src, e.dst) for e in graph.out_edges(name) if e.dst in members and not is_later(graph, e)
        )
    try:
        return list(nx.lexicographical_topological_sort(step, key=number.__getitem__))
    except nx.NetworkXUnfeasible:
        cycle = [edge[0] for edge in nx.find_cycle(step)]
        raise refuse(
            "E0420",
            f"a loop through {' -> '.join(cycle)} in which nothing is delayed",
            node=cycle[0],
            source=graph[cycle[0]].source,
            supported="loops with a delay of at least one step",
            suggestion="give one of its edges a delay: what a node does may only depend on its own past",
        ) from None
