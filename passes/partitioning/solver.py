"""The cheapest assignment: by a minimum cut, and with a limit on changes of sides by dynamic programming."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from fractions import Fraction
from typing import Any

import networkx as nx
from networkx.algorithms.flow import boykov_kolmogorov, build_residual_network, shortest_augmenting_path

from hsnn_compiler.diagnostics import HsnnError, refuse
from hsnn_compiler.passes.partitioning.bounded import BEAM, TooWideError, marginals, solve_bounded
from hsnn_compiler.passes.partitioning.problem import INF, Assignment, Crossing, Exact, Problem, alternations, exact

MANY = 200
"""With more nodes than these, `forced` looks only at those beside a crossing unless told which."""
PRICES = 12
"""How many prices per signal that crosses are tried where dynamic programming has too much to remember."""

_HOST, _CHIP = ("host",), ("chip",)  # terminals: no node's name is a tuple


def solve(problem: Problem, max_crossings: int | None = None) -> Assignment:
    """The cheapest assignment, and of those that cost the same the one with the most on the chip.

    Without a limit it is the minimum cut between the host and the chip (Stone 1977, two processors), exact. With a
    limit that this cut keeps, it is the answer too. Else dynamic programming over the graph in topological order
    (`bounded.solve_bounded`), exact; on a chain its states are (side, crossings). Where a graph is too wide for that,
    only the most promising states are followed, and minimum cuts with a price on every signal that changes sides,
    raised until the limit holds, are tried besides: the answer is then the cheapest that was found, and
    `Assignment.bound`, the cost without a limit, says what the optimum cannot be below.

    Args:
        problem: what nodes and crossings cost.
        max_crossings: how often the side may change along a path (`problem.alternations`); None for no limit.

    E0432 if no assignment is possible, or none was found.
    """
    free = _cut(problem)
    if max_crossings is None or alternations(problem, free.chip) <= max_crossings:
        return free
    try:
        return solve_bounded(problem, max_crossings)
    except TooWideError:
        found = _searched(problem, max_crossings)
        return Assignment(found.chip, found.cost, found.cost == free.cost, free.cost)


def forced(
    problem: Problem, chip: Collection[str], max_crossings: int | None = None, names: Collection[str] | None = None
) -> dict[str, float]:
    """What it costs, above the optimum, to hold each node on the other side.

    Everything else may move as it likes. Without a limit, each takes the flow that the residual network of the
    minimum cut still lets through; with one, dynamic programming forwards and backwards gives all at once.

    Args:
        problem: what `solve` solved.
        chip: its answer.
        max_crossings: the limit it was given.
        names: nodes to ask for; by default all of them, or those at a crossing if there are more than `MANY`.

    Returns:
        by name; infinite where a node cannot be on the other side. Empty where the graph is too wide.
    """
    if names is None:
        beside = {name for c in problem.crossed(chip) for name in (c.src, *c.dsts)}
        names = [name for name in problem.nodes if len(problem.nodes) <= MANY or name in beside]
    if max_crossings is None:
        return _by_flow(problem, chip, names)
    try:
        both = marginals(problem, max_crossings)
    except TooWideError:
        return {}
    return {name: both[name][name not in chip] for name in names}


def _cut(problem: Problem) -> Assignment:
    residual, scale = _residual(problem)
    host = nx.descendants(_open(residual), _HOST)
    chip = frozenset(name for name in problem.nodes if name not in host)
    cost = float(Fraction(residual.graph["flow_value"], scale))
    return Assignment(chip, cost, True, cost)


def _residual(problem: Problem) -> tuple[nx.DiGraph, int]:
    """What a maximum flow leaves open, and the factor of its integers. E0432 if the flow has no limit."""
    numbers = exact(problem)
    net = _network(numbers)
    try:
        return boykov_kolmogorov(net, _HOST, _CHIP), numbers.scale
    except nx.NetworkXUnbounded:
        raise _contradiction(net) from None


def _network(numbers: Exact) -> nx.DiGraph:
    """The cut of this network between the terminals costs what the assignment does; no capacity is no limit.

    The side of the host's terminal is the host. What is paid once for several receivers goes through a node of its
    own, which is on the other side than the source as soon as one of them is.
    """
    net = nx.DiGraph()
    net.add_nodes_from((_HOST, _CHIP, *numbers.nodes))

    def limit(a: Hashable, b: Hashable, capacity: int | None) -> None:
        if capacity == 0:
            return
        before = net.get_edge_data(a, b)
        if capacity is None or (before is not None and "capacity" not in before):
            net.remove_edges_from([(a, b)])
            net.add_edge(a, b)
        else:
            net.add_edge(a, b, capacity=capacity + (before or {"capacity": 0})["capacity"])

    for name, (host, chip) in numbers.nodes.items():
        limit(name, _CHIP, host)
        limit(_HOST, name, chip)
    for number, (src, dsts, to_chip, to_host) in enumerate(numbers.crossings):
        if len(dsts) == 1 or not to_chip:
            for dst in dsts:
                limit(src, dst, to_chip)
        else:
            limit(src, (number, "to chip"), to_chip)
            for dst in dsts:
                limit((number, "to chip"), dst, None)
        if len(dsts) == 1 or not to_host:
            for dst in dsts:
                limit(dst, src, to_host)
        else:
            limit((number, "to host"), src, to_host)
            for dst in dsts:
                limit(dst, (number, "to host"), None)
    return net


def _open(residual: nx.DiGraph) -> nx.DiGraph:
    """What is left of every capacity, as a network; without one where there was no limit."""
    left = nx.DiGraph()
    left.add_nodes_from(residual)
    endless = residual.graph["inf"]
    for a, b, edge in residual.edges(data=True):
        if edge["capacity"] >= endless:
            left.add_edge(a, b)
        elif edge["capacity"] > edge["flow"]:
            left.add_edge(a, b, capacity=edge["capacity"] - edge["flow"])
    return left


def _by_flow(problem: Problem, chip: Collection[str], names: Collection[str]) -> dict[str, float]:
    """Holding a node on a side joins it to that side's terminal: what still flows from or to it is the extra cost."""
    residual, scale = _residual(problem)
    left = _open(residual)
    again = build_residual_network(left, "capacity")
    found = {}
    for name in names:
        ends: tuple[Any, Any] = (name, _CHIP) if name in chip else (_HOST, name)
        try:
            flow = shortest_augmenting_path(left, *ends, residual=again, value_only=True).graph["flow_value"]
            found[name] = float(Fraction(flow, scale))
        except nx.NetworkXUnbounded:
            found[name] = INF
    return found


def _searched(problem: Problem, max_crossings: int) -> Assignment:
    """The cheapest that either search finds. E0432 if none does."""
    priced = _priced(problem, max_crossings)
    try:
        followed = solve_bounded(problem, max_crossings, BEAM)
    except HsnnError:
        if priced is None:
            raise
        return priced
    return followed if priced is None or followed.cost <= priced.cost else priced


def _priced(problem: Problem, max_crossings: int) -> Assignment | None:
    """Cheapest of the cuts that keep the limit once every signal pays a price to change sides; None if none does."""
    receivers: dict[str, list[str]] = {}
    for crossing in problem.crossings:
        receivers.setdefault(crossing.src, []).extend(crossing.dsts)
    costs = [Fraction(c) for both in problem.nodes.values() for c in both if c != INF]
    costs += [Fraction(c) for crossing in problem.crossings for c in crossing[2:] if c != INF]
    low, high = Fraction(0), sum(costs, Fraction(1))
    best: Assignment | None = None
    price = high  # so high that nothing else counts
    for _ in range(PRICES):
        more = [Crossing(src, tuple(dict.fromkeys(to)), price, price) for src, to in receivers.items()]  # type: ignore[arg-type]
        chip = _cut(Problem(problem.nodes, (*problem.crossings, *more))).chip
        if alternations(problem, chip) <= max_crossings:
            high, cost = price, problem.cost(chip)
            if best is None or cost < best.cost:
                best = Assignment(chip, cost, False, 0.0)
        elif best is None:
            break
        else:
            low = price
        price = (low + high) / 2 if low else high / 8
    return best


def _contradiction(net: nx.DiGraph) -> HsnnError:
    """A way without a limit from the host to the chip: every node of it has to be where the one before is."""
    endless = net.edge_subgraph((a, b) for a, b, limit in net.edges(data="capacity") if limit is None)
    way = [name for name in nx.shortest_path(endless, _HOST, _CHIP) if isinstance(name, str)]
    if len(way) == 1:
        message = "it can be neither on the host nor on the chip"
    else:
        message = f"it cannot be on the chip and {way[-1]} not on the host, but {' -> '.join(way)} cannot be parted"
    return refuse("E0432", message, node=way[0], suggestion="leave out a pin")
