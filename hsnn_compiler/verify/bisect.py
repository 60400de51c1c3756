"""The first stage, layer, neuron and time step at which a compilation departs, and what to try.

Every stage is held to its contract. An exact stage departs where it is not exact. A bounded or lossy one departs where
it loses more predictions than allowed, or where a cause of loss shows in its statistics although predictions
survive; then the layer is the one that costs the most alone. Of passes that lose one
after the other, such as conversion and the calibration that completes it, only the end is held to account.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from hsnn_compiler.passes.base import LOSSY
from hsnn_compiler.verify.alone import Alone, measure, variants
from hsnn_compiler.verify.causes import Cause, Change
from hsnn_compiler.verify.exactness import Departure, Pair, first_difference
from hsnn_compiler.verify.replay import Outcome, batch_size
from hsnn_compiler.verify.runner import Runner, layers_of
from hsnn_compiler.verify.stages import Stage, completes


@dataclass(frozen=True)
class Tried:
    """A change that was measured by compiling again.

    Attributes:
        text: what to add to the command line.
        points: percent points gained in agreement with the source, in integers; None if it does not compile.
        errors: relative error of the outputs before and after.
        why: what the compiler said, if it does not.
    """

    text: str
    points: float | None
    errors: tuple[float, float] = (0.0, 0.0)
    why: str = ""

    def __str__(self) -> str:
        if self.points is None:
            return f"{self.text}: does not compile ({self.why})"
        before, after = self.errors
        gain = f"{self.points:+.2f} points of agreement with the source"
        return f"{self.text}: measured, {gain}, output error {after:.1%} instead of {before:.1%}"


@dataclass(frozen=True)
class Bisection:
    """Where a compilation departs first.

    Attributes:
        stage, contract: the stage, and what it promises.
        layer, neuron, step, sample: where; None (empty) where there is none, as for time in a network of values.
        lost: percent points of agreement that this stage loses.
        what: the sentence.
        causes: why, as far as statistics show it; of this layer, then of others.
        tried: changes measured.
    """

    stage: str
    contract: str
    layer: str
    neuron: tuple[int, ...] | None
    step: int | None
    sample: int | None
    lost: float | None
    what: str
    causes: tuple[Cause, ...] = ()
    tried: tuple[Tried, ...] = field(default_factory=tuple)

    def __str__(self) -> str:
        lines = [self.what, *(f"because  {cause}" for cause in self.causes), *(f"try      {t}" for t in self.tried)]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        kept = {k: getattr(self, k) for k in ("stage", "contract", "layer", "neuron", "step", "sample", "lost", "what")}
        return {**kept, "causes": [c.to_dict() for c in self.causes], "tried": [asdict(t) for t in self.tried]}


@dataclass(frozen=True)
class Case:
    """All there is to look into.

    Attributes:
        stages, outcomes: as replayed; one outcome per stage.
        plain: the stages without corrections, in which single layers are measured alone.
        causes: from the statistics, largest first.
        alone: what was measured alone already; empty if nothing.
        x, y: the data; labels or None.
        source: outputs [samples, classes] of the source.
        attempt: what comes out, in integers, after a change: the outcome, or what the compiler said. None if nothing
            can be compiled.
        progress: called as (what, done, total).
    """

    stages: list[Stage]
    plain: list[Stage]
    outcomes: list[Outcome]
    causes: list[Cause]
    alone: Sequence[Alone]
    x: np.ndarray
    y: np.ndarray | None
    source: Callable[[np.ndarray], np.ndarray]
    attempt: Callable[[Change], Outcome | str] | None
    progress: Callable[[str, int, int], None]


def bisect(case: Case, allowed: float) -> Bisection | None:
    """The first departure; None if there is none.

    Args:
        case: what was measured.
        allowed: percent points of agreement that a bounded or lossy stage may lose (conversion and calibration
            together).
    """
    level = 1.0
    for i, (stage, outcome) in enumerate(zip(case.stages, case.outcomes, strict=True)):
        if outcome.departure is not None:
            return _inexact(case, stage, outcome.departure)
        if stage.contract == LOSSY and i + 1 < len(case.stages) and completes(case.stages[i + 1].name):
            continue
        quality = _quality(outcome)
        # Predictions may survive what statistics show to be wrong.
        if i and (100 * (level - quality) > allowed or any(cause.stage == stage.name for cause in case.causes)):
            return _loses(case, i, 100 * (level - quality))
        level = quality
    return None


def _quality(outcome: Outcome) -> float:
    """Agreement with the source; where there are no classes, 1 minus the error of the outputs."""
    return 1 - (outcome.output.error or 0.0) if outcome.agreement is None else outcome.agreement


def _inexact(case: Case, stage: Stage, at: Departure) -> Bisection:
    what = f"{at}. The stage is {stage.contract}: it may not change anything"
    return Bisection(stage.name, stage.contract, at.layer, at.neuron, at.step, at.sample, None, what)


def _loses(case: Case, i: int, lost: float) -> Bisection:
    stage = case.stages[i]
    layer = _costliest(case, i)
    at = _place(case, i, layer)
    own = [cause for cause in case.causes if cause.population == layer and cause.stage == stage.name]
    others = [cause for cause in case.causes if cause not in own and cause.stage == stage.name]
    picked = tuple((own or others)[:2])
    where = layer
    if at is not None and at.neuron:
        where += f", neuron {at.neuron}"
    if at is not None and at.step is not None:
        where += f", from step {at.step} of sample {at.sample}"
    what = f"{stage.name} ({stage.contract}) loses {lost:.2f} points of agreement with the source; most of its error is"
    what += f" in {where}"
    neuron, step, sample = (None, None, None) if at is None else (at.neuron, at.step, at.sample)
    return Bisection(stage.name, stage.contract, layer, neuron, step, sample, lost, what, picked, _try(case, picked))


def _costliest(case: Case, i: int) -> str:
    """The layer whose change alone costs the most; else the one whose error grows the most."""
    stage = case.stages[i]
    known = [alone for alone in case.alone if alone.stage == stage.name and alone.layer]
    if not known:
        graphs = {key: graph for key, graph in variants(case.plain, stage.name).items() if key[1]}
        known = measure(graphs, case.x, case.y, case.source, case.progress)
    if known:
        return max(known, key=lambda alone: alone.error or 0.0).layer
    now, before = case.outcomes[i].layers, case.outcomes[i - 1].layers
    growth = {name: (now[name].error or 0.0) - (before[name].error or 0.0) for name in now if name in before}
    return max(growth, key=lambda name: growth[name], default="")


def _place(case: Case, i: int, layer: str) -> Departure | None:
    """Neuron, step and sample of the first batch at which a layer departs."""
    stage, layers = case.stages[i], layers_of(case.stages[0].graph)
    if layer not in case.outcomes[i].layers:
        return None
    x = case.x[: batch_size(case.stages)]
    after = Runner(stage, layers)
    if stage.contract != LOSSY:
        before = Runner(case.stages[i - 1], layers)
        return first_difference(Pair(before, after, x, 0, before.run(x), after.run(x)), [layer])
    source = Runner(case.stages[0], [layer])
    truth = source.activity(layer, source.run(x).signals[layer])
    return _against_ideal(after, layer, after.run(x).signals[layer], truth, case.outcomes[i].layers[layer].worst)


def _against_ideal(
    runner: Runner, layer: str, spikes: np.ndarray, truth: np.ndarray, neuron: tuple[int, ...]
) -> Departure:
    """Where the neuron with the largest error gets more than a spike ahead of, or behind, a constant input's count.

    Driven by the activation a of the source in every step it would have fired floor(a t / theta + 1/2) times by
    step t. If it never is a spike off, it departs by rounding, not at a step.
    """
    at = int(np.ravel_multi_index(neuron, truth.shape[1:]))
    scale = float(np.broadcast_to(runner.scale(layer), truth.shape[1:]).flat[at])
    counts = spikes.reshape(*spikes.shape[:2], -1)[:, :, at].cumsum(1, dtype=np.float64)
    wanted = truth.reshape(len(truth), -1)[:, at]
    steps = np.arange(1, counts.shape[1] + 1)
    sample = int(np.abs(counts[:, -1] * scale / len(steps) - wanted).argmax())
    a = float(wanted[sample])
    ideal = np.clip(np.floor(a * steps / scale + 0.5), 0, steps)
    off = np.flatnonzero(np.abs(counts[sample] - ideal) > 1)
    step = int(off[0]) if len(off) else None
    return Departure(runner.stage.name, layer, neuron, step, sample, a, float(counts[sample, -1] * scale / len(steps)))


def _try(case: Case, causes: Sequence[Cause]) -> tuple[Tried, ...]:
    if case.attempt is None:
        return ()
    found: dict[str, Tried] = {}
    now = case.outcomes[-1]
    for change in (change for cause in causes for change in cause.changes):
        if change.text not in found and now.agreement is not None:
            done = case.attempt(change)
            found[change.text] = _tried(change, now, done)
    return tuple(sorted(found.values(), key=lambda t: (t.points is None, -(t.points or 0.0), t.errors[1])))


def _tried(change: Change, now: Outcome, done: Outcome | str) -> Tried:
    if isinstance(done, str):
        return Tried(change.text, None, why=done)
    points = 100 * ((done.agreement or 0.0) - (now.agreement or 0.0))
    return Tried(change.text, points, (now.output.error or 0.0, done.output.error or 0.0))
