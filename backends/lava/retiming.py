"""Give every synapse on Lava the step it takes, without changing what is computed.

In a graph an edge may deliver in the same step; on Lava, and on the chip, synapses take one step. So populations
work later than in the graph: one with lag L does in step t + L what the graph does in step t. An edge that waits d
steps in the graph waits d + L(dst) - L(src), which must be 0 or more, and 1 or more into synapses (retiming; C.
Leiserson and J. Saxe, Algorithmica 6, 1991). The lags are the smallest, by Bellman and Ford's longest ways.

Nothing arrives at a population before its step L, if every population is silent before its own: it has to be held in
its start state until then, its bias with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from hsnn_compiler.diagnostics import HsnnError, refuse
from hsnn_compiler.ir.graph import Edge, Graph
from hsnn_compiler.reference.loihi_parameters import is_population


@dataclass(frozen=True)
class Retimed:
    """A raw graph with the delays that Lava's processes have to make.

    Attributes:
        graph: every synapse op takes at least one step.
        lags: by population, steps by which it is later than in the graph given.
    """

    graph: Graph
    lags: dict[str, int]

    @property
    def longest(self) -> int:
        """Steps to run beyond those of the data."""
        return max(self.lags.values(), default=0)


def reaching_populations(graph: Graph) -> set[str]:
    """Names of all populations and of everything that one of them depends on: what has to run on Lava.

    What comes after the last population is computed from its recordings.
    """
    found = {node.name for node in graph if is_population(node)}
    return found.union(*(graph.ancestors(name) for name in found))


def retime(graph: Graph) -> Retimed:
    """Lags and delays for a raw graph; E0454 where a loop has fewer delays than synapses."""
    needed = reaching_populations(graph)
    edges = [edge for edge in graph.edges if edge.dst in needed]
    # Inputs send when the data say, populations not before they do in the graph; what lies between may be anything.
    lag = {node.name: 0 for node in graph if is_population(node) or not graph.in_edges(node.name)}
    through: dict[str, Edge] = {}
    for _ in range(len(needed) + 1):
        late = [edge for edge in edges if edge.src in lag and _due(graph, edge, lag) > lag.get(edge.dst, -(2**62))]
        if not late:
            break
        for edge in late:
            due = _due(graph, edge, lag)
            if edge.dst not in lag or due > lag[edge.dst]:
                lag[edge.dst], through[edge.dst] = due, edge
    else:
        raise _too_fast(graph, through, late[0].dst)
    moved = graph.with_delays(lambda edge: edge.delay + (lag[edge.dst] - lag[edge.src] if edge.dst in needed else 0))
    return Retimed(moved, {node.name: lag[node.name] for node in graph if is_population(node)})


def _due(graph: Graph, edge: Edge, lag: dict[str, int]) -> int:
    """The smallest lag of an edge's end."""
    return lag[edge.src] + int(graph[edge.dst].is_synapse) - edge.delay


def _too_fast(graph: Graph, through: dict[str, Edge], name: str) -> HsnnError:
    """The loop whose lags never settle: behind whatever was last moved, along the edges that moved it."""
    for _ in range(len(through)):
        name = through[name].src
    loop = [through[name]]
    while loop[-1].src != name:
        loop.append(through[loop[-1].src])
    loop.reverse()
    synapses = sum(graph[edge.dst].is_synapse for edge in loop)
    delay = sum(edge.delay for edge in loop)
    return refuse(
        "E0454",
        f"a loop of {synapses} synapses with a delay of {delay}: {' -> '.join([loop[0].src, *(e.dst for e in loop)])}",
        node=name,
        source=graph[name].source,
        supported="loops with a delay of at least one step for each of their synapses",
        suggestion="--dynamics synapse_delay=1, or the reference backend",
    )
