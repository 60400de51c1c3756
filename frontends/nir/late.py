"""Which edges deliver what their source put out one step earlier: each platform has its own rule.

NIR does not say how a loop is cut into steps. Executors of nirtorch 2.6 go further and delay
connections that are on no loop at all, so the rule is part of what a platform computes.
"""

from __future__ import annotations

from collections.abc import Callable

import networkx as nx

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.graph import Edge, Graph
from hsnn_compiler.ir.order import is_later


def in_loops(graph: Graph) -> set[Edge]:
    """Only what closes a loop in which nothing else is delayed: edges that lead back on a walk in depth
    from the inputs, along edges in the order of the file.
    """
    edges = [edge for edge in graph.edges_as_added() if not is_later(graph, edge)]
    following: dict[str, list[Edge]] = {}
    for forward in edges:
        following.setdefault(forward.src, []).append(forward)
    late: set[Edge] = set()
    done: set[str] = set()
    starts = [node.name for node in graph.of_kind("Input")] + [node.name for node in graph]
    for start in starts:
        if start in done:
            continue
        active = {start}
        stack = [(start, iter(following.get(start, ())))]
        while stack:
            name, waiting = stack[-1]
            edge: Edge | None = next(waiting, None)
            if edge is None:
                stack.pop()
                active.discard(name)
                done.add(name)
            elif edge.dst in active:
                late.add(edge)
            elif edge.dst not in done:
                active.add(edge.dst)
                stack.append((edge.dst, iter(following.get(edge.dst, ()))))
    return late


def depth_first(graph: Graph) -> set[Edge]:
    """Norse and sinabs (``nirtorch.load``): each step visits nodes depth first, in the order of the file's edges;
    an edge to a node visited before its source is late, also where it closes no loop.
    """
    following: dict[str, dict[str, None]] = {}
    for edge in graph.edges_as_added():
        following.setdefault(edge.src, {})[edge.dst] = None
    position: dict[str, int] = {}
    for node in graph.of_kind("Input"):
        stack = [node.name]
        while stack:
            name = stack.pop()
            if name not in position:
                position[name] = len(position)
                stack.extend(reversed(following.get(name, {})))
    return _backwards(graph, position)


def queue(graph: Graph) -> set[Edge]:
    """SnnTorch and SpikingJelly (``nirtorch.nir_to_torch``): nodes come from a queue in the order of their names,
    the input first, and are placed once their sources are, or lie on a loop with them.
    """
    names = sorted(node.name for node in graph)
    start = names.index(graph.of_kind("Input")[0].name)
    waiting = names[start:] + names[:start]
    outputs = {node.name for node in graph.of_kind("Output")}
    component = {}
    for number, members in enumerate(nx.strongly_connected_components(graph.nx)):
        component.update(dict.fromkeys(members, number))
    position: dict[str, int] = {}
    idle = 0
    while waiting:
        name = waiting.pop(0)
        sources = {edge.src for edge in graph.in_edges(name)}
        ready = all(s in position or (len(sources) > 1 and component[s] == component[name]) for s in sources)
        if (name in outputs and any(other not in outputs for other in waiting)) or not ready:
            waiting.append(name)
            idle += 1
        else:
            position[name] = len(position)
            idle = 0
        if idle > len(waiting):
            raise refuse(
                "E0420",
                f"nirtorch never finishes importing this loop of nodes with one source each: {', '.join(waiting[:4])}",
                node=waiting[0],
                suggestion="--dynamics late=loops",
            )
    return _backwards(graph, position)


def _backwards(graph: Graph, position: dict[str, int]) -> set[Edge]:
    last = len(position)
    return {e for e in graph.edges_as_added() if position.get(e.src, last) >= position.get(e.dst, last)}


RULES: dict[str, Callable[[Graph], set[Edge]]] = {"loops": in_loops, "depth-first": depth_first, "queue": queue}
