"""The best partition by each objective; for as much as a number of cores holds, the best that a search finds."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.passes.partitioning.costs import Prices
from hsnn_compiler.passes.partitioning.counting import boundaries, cores
from hsnn_compiler.passes.partitioning.problem import Assignment, Problem
from hsnn_compiler.passes.partitioning.solver import solve
from hsnn_compiler.passes.partitioning.work import Workload

PRICES = 16
WINDOWS = 16
"""How many prices of a core are tried, and between how many layers windows may begin and end."""


def solve_for(work: Workload, objective: str, max_crossings: int | None = None) -> tuple[Problem, Assignment]:
    """The problem by an objective, and the cheapest assignment.

    chip      as much of the work as possible on the chip, counted in the host's operations; then the least traffic
    energy    the least energy
    latency   the least time, as if everything came one after the other
    cores     as much of the work on the chip as the target's cores hold. Exact where everything fits. Else a core
              gets a price, in operations, that is raised until the cores suffice, and every window of layers that
              fits is tried as well; the answer is the best that was found.

    Args:
        work: the workload.
        objective: one of `costs.OBJECTIVES`.
        max_crossings: see `solver.solve`.

    E0212 for an objective that is none, E0432 if nothing is possible.
    """
    problem = Prices(work).problem(objective)
    if objective != "cores":
        return problem, solve(problem, max_crossings)
    free = solve(problem, max_crossings)
    if _fits(work, free):
        return problem, free
    found = [*_by_price(work, max_crossings), *_windows(work, problem, max_crossings)]
    chip = min((answer.chip for answer in found), key=problem.cost, default=free.chip)
    return problem, Assignment(chip, problem.cost(chip), False, free.cost)


def _by_price(work: Workload, max_crossings: int | None) -> Iterator[Assignment]:
    """What is best for some price of a core, and fits."""
    low, high = 0.0, 1.0 + sum(item.operations for item in work.works.values()) * work.target["core.neurons"]
    price = high
    for _ in range(PRICES):
        answer = solve(Prices(work, price).problem("cores"), max_crossings)
        if _fits(work, answer):
            high = price
            yield answer
        elif price == high:
            return  # pins ask for more than there is
        else:
            low = price
        price = math.sqrt(low * high) if low else high / 2**8


def _windows(work: Workload, problem: Problem, max_crossings: int | None) -> Iterator[Assignment]:
    """As much as possible of some layers in a row, everything else on the host, where that fits."""
    order = list(work.works)
    layers = [i for i, name in enumerate(order) if work.graph[name].is_synapse]
    ends = spread(range(len(layers) + 1), WINDOWS)
    begin = 1
    for first in range(len(ends) - 1):
        for last in range(max(begin, first + 1), len(ends)):  # a window that holds more needs more cores
            before = order[: layers[ends[first] - 1] + 1] if ends[first] else []
            behind = order[layers[ends[last]] :] if ends[last] < len(layers) else []
            begin = last
            try:
                answer = solve(problem.pinned(host=[*before, *behind]), max_crossings)
            except HsnnError:
                continue  # pins to the chip are in the way
            if not _fits(work, answer):
                break
            yield answer


def spread(numbers: range, most: int) -> list[int]:
    """At most so many of them, evenly, with both ends."""
    if len(numbers) <= most:
        return list(numbers)
    return sorted({numbers[round(i * (len(numbers) - 1) / (most - 1))] for i in range(most)})


def _fits(work: Workload, answer: Assignment) -> bool:
    available = work.target.chips * work.target["chip.neuron_cores"]
    return cores(work, answer.chip, boundaries(work, answer.chip)) <= available
