"""What a sweep found, as a table for people and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hsnn_compiler.costs import Costs, energy_notes
from hsnn_compiler.report.table import Cell, Table
from hsnn_compiler.targets import Target

if TYPE_CHECKING:
    from hsnn_compiler.choice import Choice
    from hsnn_compiler.sweep import Point, Trial

MICRO = 1e6
OPTIONS = ("encode", "coding", "max_spikes", "reset")
COUNTED = "Spikes, synaptic operations (a spike at a synapse) and neuron updates: per inference, of the integers."
MEASURED = ("before_quantisation", "score")
COSTS = ("spikes", "input_events", "synaptic_operations", "membrane_updates", "host_multiplications")


def sweep_table(points: Sequence[Point], trial: Trial, target: Target) -> Table:
    """One row per combination; of the options, only those that differ have a column."""
    labels = "" if trial.labelled else ": samples are expected to have the source's own class"
    title = f"{trial.what.capitalize()} of {len(trial.x):,} samples; the source: {100 * trial.source:.2f}%{labels}"
    return _table(title, points, (COUNTED, *energy_notes(target)))


def choice_table(choice: Choice, target: Target) -> Table:
    """How the number of time steps was chosen."""
    sources = f"Where these figures come from: hsnn-compile targets {target.name}."
    return _table("Choice of T", choice.points, (choice.why + ".", COUNTED, energy_notes(target)[0], sources))


def differing(points: Sequence[Point]) -> list[str]:
    """Options that are not the same in all points."""
    return [name for name in OPTIONS if len({getattr(point, name) for point in points}) > 1]


def to_csv(points: Sequence[Point], trial: Trial) -> str:
    """All columns, numbers in full; the source's score stands in every row."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    what = "accuracy" if trial.labelled else "agreement"
    writer.writerow(
        ["timesteps", *OPTIONS, "samples", f"{what}_source", f"{what}_float", f"{what}_integers", "latency_steps"]
        + [f"{name}_per_inference" for name in COSTS]
        + ["energy_estimate_joules_per_inference", "warnings", "refused", "why"]
    )
    for point in points:
        counted: list[Any] = ["" if point.costs is None else getattr(point.costs, name) for name in COSTS]
        cells = [point.timesteps, *(getattr(point, name) for name in OPTIONS), point.samples, trial.source]
        cells += [*(getattr(point, name) for name in MEASURED), point.latency, *counted, point.energy]
        writer.writerow([*cells, " ".join(point.warnings), point.refused, point.why])
    return out.getvalue()


def _table(title: str, points: Sequence[Point], notes: tuple[str, ...]) -> Table:
    options = differing(points)
    entering = any(point.costs and point.costs.input_events for point in points)
    refused = any(point.refused for point in points)
    some = len({point.samples for point in points if point.samples}) > 1
    columns = ["T", *(name.replace("_", " ") for name in options)] + (["samples"] if some else [])
    columns += ["float %", "integers %", "latency", "spikes"]
    columns += ["input spikes"] if entering else []
    columns += ["synaptic operations", "neuron updates", "~ energy (uJ)"] + (["refused"] if refused else [])
    rows = []
    for point in points:
        row: list[Cell] = [point.timesteps, *(getattr(point, name) for name in options)]
        row += [point.samples] if some else []
        row += [_percent(point.before_quantisation), _percent(point.score), point.latency]
        row += _counted(point.costs, entering)
        row += [None if point.energy is None else f"{point.energy * MICRO:.3g}"]
        row += [point.refused] if refused else []
        rows.append(tuple(row))
    said = dict.fromkeys(f"{point.refused} {point.why}" for point in points if point.refused)
    return Table(title, tuple(columns), rows, (*notes, *said))


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def _counted(costs: Costs | None, entering: bool) -> list[Cell]:
    """Cells of the columns that count; empty where nothing was counted."""
    if costs is None:
        return [None] * (4 if entering else 3)
    events: list[Cell] = [round(costs.input_events)] if entering else []
    return [round(costs.spikes), *events, round(costs.synaptic_operations), costs.membrane_updates]
