"""Choose the number of time steps: the fewest that keep the accuracy, measured on data held out from calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hsnn_compiler.diagnostics import HsnnError, refuse
from hsnn_compiler.driver import lower
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.options import Options
from hsnn_compiler.passes.base import Progress, no_progress
from hsnn_compiler.sweep import Point, mean, measure, trial

LADDER = (1, 2, 4, 8, 16, 32, 64)
PARTS = 4
"""Data is cut into so many parts: one is measured on, the others calibrate."""
ENOUGH_SAMPLES = 1000
"""Where one part has fewer, more of them take their turn in being measured on."""
FEWEST_SAMPLES = 8


@dataclass(frozen=True)
class Choice:
    """How the number of time steps was chosen.

    Attributes:
        timesteps: what was chosen.
        own: steps that a spiking model brought, None for others.
        what: what scores are, ``accuracy`` or ``agreement with the source``.
        source: score of the source, 0 to 1.
        allowed: percent points below it that were allowed.
        held_out: samples that scores were measured on, each after calibration without it.
        points: all that was tried, by number of steps.
    """

    timesteps: int
    own: int | None
    what: str
    source: float
    allowed: float
    held_out: int
    points: tuple[Point, ...]

    @property
    def why(self) -> str:
        """One sentence."""
        chosen = next(point for point in self.points if point.timesteps == self.timesteps)
        fewer = [point for point in self.points if (point.timesteps or 0) < self.timesteps]
        end = f"; {_said(fewer[-1])}" if fewer else ""
        own = f" (the model's own are {self.own})" if self.own is not None else ""
        return (
            f"T = {self.timesteps}{own}: the fewest steps found to be within {self.allowed:g} points of the source's "
            f"{self.what} of {100 * self.source:.2f}%: {100 * (chosen.score or 0):.2f}% on {self.held_out} samples, "
            f"each held out from calibration (one is {100 / self.held_out:.2f} points){end}"
        )

    def plain(self) -> dict[str, Any]:
        """As plain data, for the manifest."""
        known = {name: getattr(self, name) for name in ("timesteps", "own", "what", "source", "allowed", "held_out")}
        return {**known, "why": self.why, "points": [point.plain() for point in self.points]}

    @classmethod
    def from_plain(cls, known: Mapping[str, Any]) -> Choice:
        """What `plain` gave, also after a way through JSON."""
        points = tuple(Point.from_plain(point) for point in known["points"])
        return cls(**{name: value for name, value in known.items() if name not in ("why", "points")}, points=points)


def choose_timesteps(
    graph: Graph,
    options: Options,
    calibration: np.ndarray | None,
    labels: np.ndarray | None = None,
    progress: Progress = no_progress,
) -> Choice:
    """Try powers of two up to 64, then what lies between the last that fails and the first that passes.

    Each is calibrated on three quarters of the data and measured on the rest; of little data, each quarter is left
    out in turn (cross-validation), until it is clear that too many predictions are wrong. A spiking model is also
    tried with its own number of steps and with twice as many. Where a reset to zero wants powers of two on the chip,
    only those and the model's own are tried.

    Args:
        graph: as captured.
        options: those of the compilation; their `accuracy_drop` says how many percent points may be lost.
        calibration: inputs [samples, ...].
        labels: classes [samples]; without them what is measured is agreement with the source's predictions.
        progress: called as (what, done, total).

    Raises:
        HsnnError: E0226 where nothing can be measured, E0608 where no number of steps passes, and what the compiler
            says where it refuses all of them.
    """
    if calibration is None or len(calibration) < FEWEST_SAMPLES:
        raise refuse(
            "E0226",
            "choosing the number of time steps takes calibration data to measure accuracy on"
            + ("" if calibration is None else f"; these are {len(calibration)} samples"),
            supported=f"at least {FEWEST_SAMPLES} samples, better a few hundred, with labels y if there are any",
            suggestion="pass --calib data.npz, or a number of steps",
        )
    tests = []
    for held in folds(len(calibration), options.seed):
        rest = np.setdiff1d(np.arange(len(calibration)), held)
        test = trial(graph, calibration[held], None if labels is None else np.asarray(labels)[held])
        tests.append((test, calibration[rest]))
    samples = sum(len(test.x) for test, _ in tests)
    source = sum(test.source * len(test.x) for test, _ in tests) / samples
    what, allowed = tests[0][0].what, options.accuracy_drop or 0.0
    goal = source - allowed / 100 - 1e-9
    tried: dict[int, Point] = {}

    def passes(steps: int) -> bool:
        chosen = replace(options, timesteps=steps, accuracy_drop=None)
        found, reachable = [], 1.0
        for number, (test, rest) in enumerate(tests):
            progress(f"T = {steps}", number, len(tests))
            found.append(measure(graph, chosen, rest, test, progress))
            reachable -= (1 - (found[-1].score or 0.0)) * len(test.x) / samples
            if found[-1].refused or reachable < goal:
                break
        progress(f"T = {steps}", len(tests), len(tests))
        tried[steps] = mean(found)
        return reachable >= goal and not found[-1].refused

    ladder = candidates(graph.timesteps)
    passing = next((steps for steps in ladder if passes(steps)), None)
    if passing is None:
        if all(point.refused for point in tried.values()):
            lower(graph, replace(options, timesteps=ladder[-1], accuracy_drop=None), calibration)
        raise _out_of_reach(tried, Choice(0, graph.timesteps, what, source, allowed, samples, ()))
    failing = max((steps for steps in tried if steps < passing), default=0)
    while passing - failing > 1 and not _wants_powers_of_two(graph, options):
        middle = (failing + passing) // 2
        passing, failing = (middle, failing) if passes(middle) else (passing, middle)
    points = tuple(tried[steps] for steps in sorted(tried))
    return Choice(passing, graph.timesteps, what, source, allowed, samples, points)


def folds(samples: int, seed: int) -> list[np.ndarray]:
    """Indices that are held out in turn, each part ascending and drawn at random, as data may be sorted by class."""
    parts = [np.sort(part) for part in np.array_split(np.random.default_rng(seed).permutation(samples), PARTS)]
    return parts[: min(PARTS, math.ceil(ENOUGH_SAMPLES * PARTS / samples))]


def candidates(own: int | None) -> list[int]:
    """What is tried first, ascending; `own` are the steps of a spiking model."""
    if own is None:
        return list(LADDER)
    below = [1 << i for i in range(own.bit_length()) if 1 << i < own]
    return [*below, own, 2 * own]


def _wants_powers_of_two(graph: Graph, options: Options) -> bool:
    """Whether the chip would reset neurons to zero at intervals that are powers of two (W0446)."""
    own = any(node.is_spiking and node.dynamics is not None and node.dynamics.reset == "zero" for node in graph)
    return own if graph.timesteps is not None else options.reset != "subtract"


def _out_of_reach(tried: Mapping[int, Point], asked: Choice) -> HsnnError:
    best = max(tried.values(), key=lambda point: (point.score or 0.0, -(point.timesteps or 0)))
    return refuse(
        "E0608",
        f"no number of time steps up to {max(tried)} keeps the {asked.what} within {asked.allowed:g} points of the "
        f"source's {100 * asked.source:.2f}% on {asked.held_out} held-out samples; the best: {_said(best)}",
        supported=f"a loss of {100 * (asked.source - (best.score or 0.0)):.2f} points",
        suggestion="--accuracy-drop with more points, more calibration data, or verify --bisect on a fixed --timesteps",
    )


def _said(point: Point) -> str:
    result = f"is refused ({point.refused})" if point.refused else f"gives {100 * (point.score or 0):.2f}%"
    return f"T = {point.timesteps} {result}"
