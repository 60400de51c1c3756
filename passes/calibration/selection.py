"""Which of several ways to calibrate is best, measured on samples that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.passes.activations import analog_twin
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.calibration.mixtures import with_mixtures
from hsnn_compiler.reference.float_executor import FloatExecutor

FOLDS = 2
LARGEST_FOLD = 256
"""Samples of a fold at most: a choice between a few ways needs no more."""
FLAWLESS = 0.001
"""Error of the outputs below which nothing better is searched for."""
TIE = 1.05
"""Errors whose ratio is below this are alike; then the way that is tried first, the simpler one, is taken."""


@dataclass(frozen=True)
class Way:
    """A way to calibrate: a method for thresholds, and a correction."""

    method: str
    correct: str

    def __str__(self) -> str:
        return self.method if self.correct == "none" else f"{self.method} + {self.correct}"


@dataclass(frozen=True)
class Score:
    """How a way did on held-out samples; more is better.

    Attributes:
        agreement: share of samples with the predictions of the network before conversion; 1 where it has no classes.
        error: squared error of the outputs over their variance, on samples and mixtures of them.
    """

    agreement: float
    error: float

    @property
    def is_flawless(self) -> bool:
        """Whether there is nothing left to gain."""
        return self.agreement == 1 and self.error < FLAWLESS


def choose(
    graph: Graph,
    context: PassContext,
    ways: Sequence[Way],
    prepare: Callable[[PassContext], Callable[[Way], Graph]],
    mixtures: int = 0,
) -> tuple[Way, dict[Way, Score]]:
    """Try ways until one is without a flaw, cross-validated.

    The calibration data is cut into `FOLDS` parts. What is calibrated on all but one of them is compared with the
    network before conversion on that one; a way's score is the mean. Agreement counts samples, and a few hundred
    of them tell ways apart only coarsely: of all ways whose agreement is within two standard errors of the best,
    the first is taken whose error of the outputs is at most `TIE` times the smallest. Mixtures count for the error,
    those of each part of the data being made of its own samples.

    Args:
        graph: converted, thresholds not chosen yet.
        context: with calibration data.
        ways: in the order to try, the simplest first.
        prepare: from a context, what calibrates the graph on its data in a given way.
        mixtures: of each sample, see `with_mixtures`.

    Returns:
        The best way, and the scores of those that were tried.
    """
    data = context.calibration
    assert data is not None
    order = np.random.default_rng(0).permutation(len(data))[: FOLDS * LARGEST_FOLD]
    parts = [np.sort(part) for part in np.array_split(order, FOLDS)]
    rests = [np.concatenate([part for part in parts if part is not left_out]) for left_out in parts]
    calibrate = [prepare(replace(context, calibration=with_mixtures(data[rest], mixtures))) for rest in rests]
    twin = FloatExecutor(analog_twin(graph), method="auto")
    held_out = [with_mixtures(data[part], mixtures) for part in parts]
    right = [twin.run(samples, batch_size=context.batch_size).outputs for samples in held_out]
    scores: dict[Way, Score] = {}
    for number, way in enumerate(ways, start=1):
        found = []
        for part, samples, fit, wanted in zip(parts, held_out, calibrate, right, strict=True):
            got = FloatExecutor(fit(way), method="auto").run(samples, batch_size=context.batch_size).outputs
            found.append(_score(got, wanted, len(part)))
        scores[way] = Score(float(np.mean([s.agreement for s in found])), float(np.mean([s.error for s in found])))
        context.progress("calibration: ways", number, len(ways))
        if scores[way].is_flawless:
            break
    return best(scores, len(order)), scores


def best(scores: dict[Way, Score], samples: int) -> Way:
    """The first way with about the smallest error, of those whose agreement on so many samples is about the best."""
    top = max(score.agreement for score in scores.values())
    # Of a share with one sample more that disagrees, so that a perfect one has an error as well.
    share = min(top, 1 - 1 / samples)
    margin = 2 * float(np.sqrt(share * (1 - share) / samples))
    good = {way: score.error for way, score in scores.items() if score.agreement >= top - margin}
    return next(way for way, error in good.items() if error <= TIE * min(good.values()))


def _score(got: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], samples: int) -> Score:
    """Compare outputs [samples and mixtures, ...] by name of the output; mixtures are behind the samples."""
    agreements, errors = [1.0], [0.0]
    for name, right in wanted.items():
        error = float(((got[name] - right) ** 2).mean())
        errors.append(error / max(float(right.var()), np.finfo(float).tiny))
        if right.ndim == 2 and right.shape[1] > 1:
            agreements.append(float((got[name].argmax(1) == right.argmax(1))[:samples].mean()))
    return Score(min(agreements), max(errors))
