"""Partitions to choose from: the ends, the splits between layers, the best by each objective; and who is dominated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.passes.partitioning.costs import MICRO, OBJECTIVES, Estimate, Prices
from hsnn_compiler.passes.partitioning.explain import constants_notes
from hsnn_compiler.passes.partitioning.objectives import solve_for, spread
from hsnn_compiler.passes.partitioning.problem import INF, Assignment, Problem
from hsnn_compiler.passes.partitioning.solver import solve
from hsnn_compiler.passes.partitioning.work import Workload
from hsnn_compiler.report.table import Cell, Table

SPLITS = 8
"""Most splits listed of each kind, evenly over the layers."""

Accuracy = Callable[[frozenset[str]], float]
"""Accuracy, 0 to 1, of the network with these nodes on the chip."""


@dataclass(frozen=True)
class Alternative:
    """One partition.

    Attributes:
        names: what it is; several where several lead to it.
        chip: nodes on the chip.
        estimate: what it comes to.
        accuracy: 0 to 1; None where nobody measured it, not a number where it could not be measured.
    """

    names: tuple[str, ...]
    chip: frozenset[str]
    estimate: Estimate
    accuracy: float | None = None


def alternatives(
    work: Workload, max_crossings: int | None = None, accuracy: Accuracy | None = None, splits: int = SPLITS
) -> list[Alternative]:
    """Partitions worth a look, each once; those that pins forbid are left out.

    All on the host, as much as possible on the chip, the first k layers of weights on the chip or on the host and as
    much of the rest as possible on the chip, and the best by each objective.

    Args:
        work: the workload.
        max_crossings: limit for all of them, see `solver.solve`.
        accuracy: measures one of them; called once for each, and may take its time.
        splits: most splits of each kind.

    E0432 if pins leave no partition at all.
    """
    prices = Prices(work)
    most = prices.problem("chip")
    order = list(work.works)
    layers = [i for i, name in enumerate(order) if work.graph[name].is_synapse]
    wanted: list[tuple[str, Callable[[], Assignment]]] = [
        ("all on the host", lambda: solve(_least(most), max_crossings))
    ]
    for k in spread(range(1, len(layers)), splits):
        first = f"first {k} of {len(layers)} layers"
        behind, before = order[layers[k] :], order[: layers[k - 1] + 1]
        wanted += [
            (f"{first} on the chip", lambda names=behind: solve(most.pinned(host=names), max_crossings)),  # type: ignore[misc]
            (f"{first} on the host", lambda names=before: solve(most.pinned(host=names), max_crossings)),  # type: ignore[misc]
        ]
    wanted += [
        (f"objective {objective}", lambda objective=objective: solve_for(work, objective, max_crossings)[1])  # type: ignore[misc]
        for objective in OBJECTIVES
    ]
    found: dict[frozenset[str], list[str]] = {}
    refused: HsnnError | None = None
    for name, assign in wanted:
        try:
            found.setdefault(assign().chip, []).append(name)
        except HsnnError as error:
            refused = error
    if not found and refused is not None:
        raise refused
    rows = [Alternative(tuple(names), chip, prices.measure(chip)) for chip, names in found.items()]
    return [replace(row, accuracy=accuracy(row.chip)) for row in rows] if accuracy else rows


def pareto(rows: Sequence[Sequence[float]]) -> list[bool]:
    """Which rows are not dominated, by a row that is nowhere larger and somewhere smaller; smaller is better."""
    return [
        not any(all(b <= a for a, b in zip(row, other, strict=True)) and tuple(other) != tuple(row) for other in rows)
        for row in rows
    ]


def comparison(rows: Sequence[Alternative], work: Workload, chosen: frozenset[str] | None = None) -> Table:
    """A table of alternatives. Marked as best are those that no other beats in everything: see `criteria`."""
    front = pareto([criteria(row) for row in rows])
    cells: list[tuple[Cell, ...]] = [
        (
            ", ".join(row.names) + (" (chosen)" if row.chip == chosen else ""),
            len(row.chip),
            row.estimate.energy / MICRO,
            row.estimate.latency / MICRO,
            row.estimate.events,
            row.estimate.sent,
            row.estimate.cores,
            row.estimate.turns,
            None if row.accuracy is None else 100 * row.accuracy,
            "yes" if best else "",
        )
        for row, best in zip(rows, front, strict=True)
    ]
    columns = (
        "partition", "nodes on the chip", "~ energy (uJ)", "~ latency (us)", "events that cross", "bytes that cross",
        "~ cores", "turns of the chip", "accuracy %", "not dominated",
    )  # fmt: skip
    measured = ", accuracy" if any(row.accuracy is not None for row in rows) else ""
    notes = (f"Not dominated in energy, latency, bytes that cross, cores{measured}.", *constants_notes(Prices(work)))
    return Table("Alternatives", columns, cells, notes)


def criteria(row: Alternative) -> tuple[float, ...]:
    """What alternatives are compared in, smaller is better; one whose accuracy nobody measured counts as the worst."""
    known, accuracy = row.estimate, row.accuracy
    measured = 0.0 if accuracy is None or math.isnan(accuracy) else accuracy
    return known.energy, known.latency, known.sent, known.cores, -measured


def _least(most: Problem) -> Problem:
    """As little as possible on the chip."""
    nodes = {name: (INF if host == INF else 0.0, chip + 1) for name, (host, chip) in most.nodes.items()}
    return Problem(nodes, most.crossings)
