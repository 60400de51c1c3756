"""Compile a network in several ways, run each, and say what each gives and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from typing import Any

import numpy as np

from hsnn_compiler.costs import Costs
from hsnn_compiler.diagnostics import HsnnError, refuse
from hsnn_compiler.driver import Hooks, lower
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.options import Options
from hsnn_compiler.passes.base import Progress, no_progress
from hsnn_compiler.program import Program
from hsnn_compiler.targets import load_target

VARIED = ("timesteps", "encode", "coding", "max_spikes", "reset")
"""Options whose value is a column of every result."""


@dataclass(frozen=True)
class Trial:
    """Samples, and what is expected of them.

    Attributes:
        x: inputs [samples, ...].
        expected: class indices [samples]: labels, or the source's own predictions.
        source: share of samples for which the source predicts what is expected.
        labelled: whether `expected` are labels.
    """

    x: np.ndarray
    expected: np.ndarray
    source: float
    labelled: bool

    @property
    def what(self) -> str:
        """What a score is."""
        return "accuracy" if self.labelled else "agreement with the source"


@dataclass(frozen=True)
class Point:
    """One combination of options: what it gives, or why it was refused.

    Attributes:
        timesteps: steps per sample; None where it was refused before they were known.
        encode, coding, max_spikes, reset: see `hsnn_compiler.options.Options`.
        samples: how many samples it was measured on.
        before_quantisation: score of the network in real numbers.
        score: of the chip's integers: the share of samples with the expected class.
        latency: steps until the result of a sample is there.
        costs: of the integers, per inference.
        energy: estimate in joules per inference.
        warnings: codes of what the compiler warned of.
        refused: code of the first error, empty if there was none.
        why: its message.
    """

    timesteps: int | None
    encode: str
    coding: str
    max_spikes: int
    reset: str
    samples: int = 0
    before_quantisation: float | None = None
    score: float | None = None
    latency: int | None = None
    costs: Costs | None = None
    energy: float | None = None
    warnings: tuple[str, ...] = ()
    refused: str = ""
    why: str = ""

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def from_plain(cls, known: Mapping[str, Any]) -> Point:
        """What `plain` gave, also after a way through JSON."""
        costs = known["costs"]
        made = {f.name: known[f.name] for f in fields(cls)}
        made["warnings"] = tuple(known["warnings"])
        made["costs"] = None if costs is None else Costs(**{**costs, "calls": tuple(costs["calls"])})
        return cls(**made)


def trial(graph: Graph, x: np.ndarray, y: np.ndarray | None) -> Trial:
    """Run the source on samples.

    Args:
        graph: as captured.
        x: inputs [samples, ...].
        y: labels [samples]; without them the source's own predictions are expected.

    Raises:
        HsnnError: E0226 where outputs are no classes, E0315 where there is not one label per sample.
    """
    from hsnn_compiler.reference.float_executor import FloatExecutor

    classes = graph.of_kind("Output")[0].type
    if classes is not None and classes.size < 2:
        raise refuse(
            "E0226",
            "the model has one output value, so it predicts no class whose accuracy could be measured",
            supported="models with one output value per class",
        )
    result = FloatExecutor(graph).run(x)
    predicted = result.predictions()
    if y is None:
        return Trial(x, predicted, 1.0, labelled=False)
    return Trial(x, np.asarray(y), result.accuracy(y), labelled=True)


def combinations(base: Options, **values: Sequence[Any]) -> list[Options]:
    """Every combination of the values of these options, the last of them varying fastest (E0217 for all bad ones)."""
    made = [replace(base, **dict(zip(values, chosen, strict=True))) for chosen in product(*values.values())]
    wrong = {str(finding): finding for options in made for finding in options.problems()}
    if wrong:
        raise HsnnError(wrong.values())
    return made


def sweep(
    graph: Graph,
    options: Sequence[Options],
    calibration: np.ndarray | None,
    trial: Trial,
    progress: Progress = no_progress,
) -> list[Point]:
    """Compile a captured graph with each of the options, run it in real numbers and in integers, and count."""
    found = []
    for number, each in enumerate(options):
        progress("combinations", number, len(options))
        found.append(measure(graph, each, calibration, trial, progress))
    progress("combinations", len(options), len(options))
    return found


def measure(
    graph: Graph, options: Options, calibration: np.ndarray | None, trial: Trial, progress: Progress = no_progress
) -> Point:
    """One point of a sweep. Refusals become points that say so."""
    asked = {name: getattr(options, name) for name in VARIED}
    try:
        program = lower(graph, options, calibration, Hooks(progress=progress))
        return _measured(program, asked, trial, progress)
    except HsnnError as error:
        first = next((finding for finding in error.findings if finding.is_error), error.findings[0])
        where = f"{first.node}: " if first.node else ""
        return Point(**asked, refused=first.code, why=where + first.message)


def mean(points: Sequence[Point]) -> Point:
    """One point for several that differ only in their data, weighted by samples; the first refused, if one was."""
    refused = next((point for point in points if point.refused), None)
    if refused is not None or len(points) == 1:
        return refused or points[0]

    weights = [point.samples for point in points]

    def average(values: Sequence[float]) -> float:
        return float(np.average(values, weights=weights))

    counted = [point.costs for point in points if point.costs is not None]
    costs = None
    if len(counted) == len(points):
        costs = replace(
            counted[0],
            spikes=average([each.spikes for each in counted]),
            input_events=average([each.input_events for each in counted]),
            synaptic_operations=average([each.synaptic_operations for each in counted]),
        )
    return replace(
        points[0],
        samples=sum(weights),
        before_quantisation=average([point.before_quantisation or 0.0 for point in points]),
        score=average([point.score or 0.0 for point in points]),
        costs=costs,
        energy=None if costs is None else average([point.energy or 0.0 for point in points]),
        warnings=tuple(sorted({code for point in points for code in point.warnings})),
    )


def _measured(program: Program, asked: Mapping[str, Any], trial: Trial, progress: Progress) -> Point:
    def bar(what: str) -> Any:
        return lambda done, total: progress(what, done, total)

    before = program.simulate(trial.x, "float", progress=bar("real numbers"))
    result, costs = program.count(trial.x, progress=bar("integers"))
    return Point(
        **{**asked, "timesteps": program.timesteps},
        samples=len(trial.x),
        before_quantisation=before.accuracy(trial.expected),
        score=result.accuracy(trial.expected),
        latency=program.latency,
        costs=costs,
        energy=None if costs is None else costs.energy(load_target(program.target)),
        warnings=tuple(sorted({finding.code for finding in program.findings if finding.code.startswith("W")})),
    )
