"""A choice between two sides for every node, as plain data: what a side costs, and what a change of sides costs."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import networkx as nx

INF = math.inf


class Crossing(NamedTuple):
    """What it costs when a signal changes sides; paid once, however many of `dsts` are on the other side.

    Attributes:
        src: node that puts the signal out.
        dsts: nodes that take it.
        to_chip: cost if `src` is on the host and any of `dsts` on the chip; infinite where that cannot be.
        to_host: cost if `src` is on the chip and any of `dsts` on the host; infinite where that cannot be.
    """

    src: str
    dsts: tuple[str, ...]
    to_chip: float = 0.0
    to_host: float = 0.0


@dataclass(frozen=True)
class Problem:
    """Costs of nodes and of crossings; they add up.

    Attributes:
        nodes: by name, (cost on the host, cost on the chip); infinite where a node cannot be. Integers may be of any
            size.
        crossings: between nodes; several may have the same ends.

    ValueError for costs that are negative or not numbers, and for nodes that do not exist.
    """

    nodes: Mapping[str, tuple[float, float]]
    crossings: tuple[Crossing, ...] = ()

    def __post_init__(self) -> None:
        costs = [cost for both in self.nodes.values() for cost in both]
        costs += [cost for crossing in self.crossings for cost in (crossing.to_chip, crossing.to_host)]
        if any(not cost >= 0 for cost in costs):
            raise ValueError("a cost that is negative, or not a number")
        ends = {name for crossing in self.crossings for name in (crossing.src, *crossing.dsts)}
        if unknown := ends - self.nodes.keys():
            raise ValueError(f"crossings between nodes that do not exist: {sorted(unknown)}")

    def cost(self, chip: Collection[str]) -> float:
        """Cost of the assignment that puts exactly these nodes on the chip; infinite if it cannot be."""
        parts = [both[name in chip] for name, both in self.nodes.items()]
        parts += [crossing.to_host if crossing.src in chip else crossing.to_chip for crossing in self.crossed(chip)]
        return float(sum(map(Fraction, parts))) if INF not in parts else INF

    def crossed(self, chip: Collection[str]) -> list[Crossing]:
        """Crossings that an assignment pays for."""
        return [c for c in self.crossings if any((dst in chip) != (c.src in chip) for dst in c.dsts)]

    def pinned(self, host: Iterable[str] = (), chip: Iterable[str] = ()) -> Problem:
        """The same problem with some nodes held on one side."""
        nodes = dict(self.nodes)
        nodes.update({name: (nodes[name][0], INF) for name in host})
        nodes.update({name: (INF, nodes[name][1]) for name in chip})
        return Problem(nodes, self.crossings)

    def flow(self) -> nx.DiGraph:
        """Who feeds whom."""
        graph = nx.DiGraph()
        graph.add_nodes_from(self.nodes)
        graph.add_edges_from((c.src, dst) for c in self.crossings for dst in c.dsts)
        return graph


@dataclass(frozen=True)
class Assignment:
    """Who is on the chip.

    Attributes:
        chip: names of the nodes on the chip; all others are on the host.
        cost: what that costs.
        exact: whether nothing is cheaper; else it is the cheapest that was found.
        bound: no assignment costs less than this.
    """

    chip: frozenset[str]
    cost: float
    exact: bool
    bound: float


def alternations(problem: Problem, chip: Collection[str]) -> float:
    """How often the side changes along a path, at most; infinite if it does so on a loop.

    From the host to the chip and back is 2: one turn of the chip.
    """
    net = nx.condensation(problem.flow())
    most: dict[int, int] = {}
    for group in nx.topological_sort(net):
        sides = {name in chip for name in net.nodes[group]["members"]}
        if len(sides) > 1:
            return INF
        net.nodes[group]["side"] = sides.pop()
        most[group] = max(
            (most[feed] + (net.nodes[feed]["side"] != net.nodes[group]["side"]) for feed in net.predecessors(group)),
            default=0,
        )
    return max(most.values(), default=0)


class Exact(NamedTuple):
    """The costs of a problem as integers, all multiplied by the same power of two; None where they are infinite."""

    nodes: dict[str, tuple[int | None, int | None]]
    crossings: list[tuple[str, tuple[str, ...], int | None, int | None]]
    scale: int


def exact(problem: Problem) -> Exact:
    """Integers for the costs. Floating-point numbers are multiples of powers of two, so that nothing is lost.

    Sums of integers are exact: what costs the same compares equal, and no rounding decides where a node goes.
    """
    costs = [cost for both in problem.nodes.values() for cost in both]
    costs += [cost for crossing in problem.crossings for cost in (crossing.to_chip, crossing.to_host)]
    scale = max((Fraction(cost).denominator for cost in costs if cost != INF), default=1)

    def whole(cost: float) -> int | None:
        return None if cost == INF else int(Fraction(cost) * scale)

    return Exact(
        {name: (whole(host), whole(chip)) for name, (host, chip) in problem.nodes.items()},
        [(src, dsts, whole(to_chip), whole(to_host)) for src, dsts, to_chip, to_host in problem.crossings],
        scale,
    )
