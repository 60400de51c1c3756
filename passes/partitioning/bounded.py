"""The cheapest assignment with a limit on changes of sides, by dynamic programming over the graph.

With a limit the problem is no minimum cut any more: were the number of changes so far a label, then a signal that goes
past a turn of the chip, whose label grows by two for nothing, would break what makes cuts exact. But networks are long
and narrow: after the first nodes in topological order have been decided, the rest depends only on those of them that
still feed something. The states are the sides of these, how often the side has changed on a way to each, and which
signals have paid for their crossing. On a chain that is one node, and the states are (side, crossings).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import networkx as nx

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.passes.partitioning.problem import INF, Assignment, Problem, exact

MOST_STATES = 1024
"""With more states after a decision than these, it is no longer exact."""
BEAM = 128
"""So many states, the cheapest so far, are followed then."""

State = tuple[tuple[int, ...], frozenset[int]]
"""Labels of the nodes that still feed something (2 * changes + side, side 1 is the chip), and crossings paid for."""


class TooWideError(Exception):
    """More than `MOST_STATES` states."""


class _Feed(NamedTuple):
    """A signal that arrives: where the label of its source is in the state, what a change costs, and who shares it."""

    at: int
    to_chip: int | None
    to_host: int | None
    shared: int | None


@dataclass(frozen=True)
class _Step:
    """The decision for one node, or for all nodes of a loop, which must be on one side."""

    members: tuple[str, ...]
    costs: tuple[int | None, int | None]
    feeds: tuple[_Feed, ...]
    keep: tuple[int, ...]
    unsettled: frozenset[int]


class _Reached(NamedTuple):
    """The best way to a state: its cost, how many nodes are on the host, the state before, and the side chosen."""

    cost: int
    on_host: int
    before: State | None
    side: int


_START: State = ((), frozenset())


def solve_bounded(problem: Problem, max_crossings: int, beam: int | None = None) -> Assignment:
    """The cheapest assignment in which the side changes at most so often along any path; ties go to the chip.

    Args:
        problem: what nodes and crossings cost.
        max_crossings: the limit.
        beam: follow only so many states, the cheapest so far; the answer is then the cheapest that was found. None
            follows all.

    E0432 if there is none (or none was found), `TooWideError` if there is too much to remember.
    """
    steps, scale = _steps(problem)
    layers = _forwards(steps, max_crossings, beam)
    if not layers[-1]:
        raise refuse(
            "E0432",
            f"no assignment {'was found that' if beam else ''} lets host and chip change at most {max_crossings} times "
            "along every path",
            suggestion="leave out a pin, or allow more crossings",
        )
    state: State | None = min(layers[-1], key=lambda state: layers[-1][state][:2])
    chip: list[str] = []
    assert state is not None
    total = layers[-1][state].cost
    for step, layer in zip(reversed(steps), reversed(layers[1:]), strict=True):
        assert state is not None
        reached = layer[state]
        if reached.side:
            chip += step.members
        state = reached.before
    cost = float(Fraction(total, scale))
    return Assignment(frozenset(chip), cost, beam is None, cost if beam is None else 0.0)


def marginals(problem: Problem, max_crossings: int) -> dict[str, tuple[float, float]]:
    """By node, what the cheapest assignment that has it on the host costs above the optimum, and that on the chip."""
    steps, scale = _steps(problem)
    layers = _forwards(steps, max_crossings)
    optimum = min((reached.cost for reached in layers[-1].values()), default=0)
    found: dict[str, tuple[float, float]] = {}
    ahead: dict[State, int] = dict.fromkeys(layers[-1], 0)  # cheapest way from a state to the end
    for step, layer in zip(reversed(steps), reversed(layers[:-1]), strict=True):
        best: list[int | None] = [None, None]
        behind: dict[State, int] = {}
        for state, reached in layer.items():
            for side, cost, after in _moves(step, state, max_crossings):
                if after not in ahead:
                    continue  # what follows cannot be
                rest = cost + ahead[after]
                behind[state] = min(behind.get(state, rest), rest)
                total, least = reached.cost + rest, best[side]
                best[side] = total if least is None else min(least, total)
        host, chip = (INF if total is None else float(Fraction(total - optimum, scale)) for total in best)
        found.update(dict.fromkeys(step.members, (host, chip)))
        ahead = behind
    return found


def _forwards(steps: list[_Step], limit: int, beam: int | None = None) -> list[dict[State, _Reached]]:
    """After each decision, all states, or the cheapest of them, and the best way to each."""
    layers: list[dict[State, _Reached]] = [{_START: _Reached(0, 0, None, 0)}]
    for step in steps:
        layer: dict[State, _Reached] = {}
        for state, reached in layers[-1].items():
            for side, cost, after in _moves(step, state, limit):
                way = _Reached(reached.cost + cost, reached.on_host + (1 - side) * len(step.members), state, side)
                if after not in layer or way[:2] < layer[after][:2]:
                    layer[after] = way
        if beam is None and len(layer) > MOST_STATES:
            raise TooWideError
        if beam is not None:
            layer = dict(sorted(layer.items(), key=lambda item: item[1][:2])[:beam])
        layers.append(layer)
    return layers


def _moves(step: _Step, state: State, limit: int) -> Iterator[tuple[int, int, State]]:
    """What can be decided in a state: the side, what it costs, and the state after it. The chip comes first."""
    labels, paid = state
    for side in (1, 0):
        cost, changes, now = step.costs[side], 0, paid
        if cost is None:
            continue
        for feed in step.feeds:
            before = labels[feed.at]
            differs = (before & 1) != side
            changes = max(changes, (before >> 1) + differs)
            if not differs or feed.shared in now:
                continue
            price = feed.to_chip if side else feed.to_host
            if price is None:
                break
            cost += price
            if feed.shared is not None:
                now |= {feed.shared}
        else:
            if changes <= limit:
                wide = (*labels, 2 * changes + side)
                yield side, cost, (tuple(wide[i] for i in step.keep), now & step.unsettled)


def _steps(problem: Problem) -> tuple[list[_Step], int]:
    """The decisions in topological order, and the factor of their integers."""
    numbers = exact(problem)
    net = nx.condensation(problem.flow())
    place = {name: i for i, name in enumerate(problem.nodes)}
    first = {group: min(place[name] for name in data["members"]) for group, data in net.nodes(data=True)}
    order = list(nx.lexicographical_topological_sort(net, key=first.__getitem__))
    position = {name: i for i, group in enumerate(order) for name in net.nodes[group]["members"]}

    arriving: list[list[tuple[int, int | None, int | None, int | None]]] = [[] for _ in order]
    last = list(range(len(order)))  # the last decision that needs the label of each
    settled: dict[int, int] = {}
    for number, (src, dsts, to_chip, to_host) in enumerate(numbers.crossings):
        source = position[src]
        ends = sorted({position[dst] for dst in dsts} - {source})
        for end in ends:
            arriving[end].append((source, to_chip, to_host, number if len(ends) > 1 else None))
        last[source] = max([last[source], *ends])
        if len(ends) > 1:
            settled[number] = ends[-1]

    steps: list[_Step] = []
    live: list[int] = []
    for i, group in enumerate(order):
        members = tuple(sorted(net.nodes[group]["members"], key=place.__getitem__))
        wide = [*live, i]
        keep = [k for k, node in enumerate(wide) if last[node] > i]
        steps.append(
            _Step(
                members,
                (_sum(numbers.nodes[name][0] for name in members), _sum(numbers.nodes[name][1] for name in members)),
                tuple(_Feed(live.index(source), *rest) for source, *rest in arriving[i]),  # type: ignore[arg-type]
                tuple(keep),
                frozenset(number for number, end in settled.items() if end > i),
            )
        )
        live = [wide[k] for k in keep]
    return steps, numbers.scale


def _sum(costs: Iterator[int | None]) -> int | None:
    known = list(costs)
    return None if None in known else sum(cost for cost in known if cost is not None)
