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
PROMISING = 2.0
"""A way whose error on one part of the data is more than so many times the smallest is not tried on the next."""
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


def choose(
    graph: Graph,
    context: PassContext,
    ways: Sequence[Way],
    prepare: Callable[[PassContext], Callable[[Way], Graph]],
    mixtures: int = 0,
) -> tuple[Way, dict[Way, Score]]:
    """Try ways, cross-validated.

    The calibration data is cut into `FOLDS` parts. What is calibrated on all but one of them is compared with the
    network before conversion on that one; a way's score is the mean. Agreement counts samples, and a few hundred
    of them tell ways apart only coarsely: of all ways whose agreement is within two standard errors of the best,
    the first is taken whose error of the outputs is at most `TIE` times the smallest. Mixtures count for the error,
    those of each part of the data being made of its own samples. What is far behind on the first part is not tried
    on the next.

    Args:
        graph: converted, thresholds not chosen yet.
        context: with calibration data.
        ways: in the order to try, the simplest first.
        prepare: from a context, what calibrates the graph on its data in a given way.
        mixtures: of each sample, see `with_mixtures`.

    Returns:
        The best way, and the scores of all.
    """
    data = context.calibration
    assert data is not None
    order = np.random.default_rng(0).permutation(len(data))[: FOLDS * LARGEST_FOLD]
    parts = [np.sort(part) for part in np.array_split(order, FOLDS)]
    rests = [np.concatenate([part for part in parts if part is not left_out]) for left_out in parts]
    twin = FloatExecutor(analog_twin(graph), method="auto")
    found: dict[Way, list[Score]] = {way: [] for way in ways}
    left = list(ways)
    for number, (part, rest) in enumerate(zip(parts, rests, strict=True)):
        fit = prepare(replace(context, calibration=with_mixtures(data[rest], mixtures)))
        samples = with_mixtures(data[part], mixtures)
        wanted = twin.run(samples, batch_size=context.batch_size).outputs
        for done, way in enumerate(left):
            context.progress("calibration: ways", number * len(ways) + done, FOLDS * len(ways))
            got = FloatExecutor(fit(way), method="auto").run(samples, batch_size=context.batch_size).outputs
            found[way].append(_score(got, wanted, len(part)))
        left = _near_the_best({way: found[way][-1] for way in left}, len(part), PROMISING)
    context.progress("calibration: ways", FOLDS * len(ways), FOLDS * len(ways))
    scores = {
        way: Score(float(np.mean([s.agreement for s in each])), float(np.mean([s.error for s in each])))
        for way, each in found.items()
    }
    return best({way: score for way, score in scores.items() if len(found[way]) == FOLDS}, len(order)), scores


def best(scores: dict[Way, Score], samples: int) -> Way:
    """The first way with about the smallest error, of those whose agreement on so many samples is about the best."""
    return _near_the_best(scores, samples, TIE)[0]


def _near_the_best(scores: dict[Way, Score], samples: int, ratio: float) -> list[Way]:
    """Ways whose agreement is about the best, and whose error is at most so many times the smallest of them."""
    top = max(score.agreement for score in scores.values())
    # Of a share with one sample more that disagrees, so that a perfect one has an error as well.
    share = min(top, 1 - 1 / samples)
    margin = 2 * float(np.sqrt(share * (1 - share) / samples))
    good = {way: score.error for way, score in scores.items() if score.agreement >= top - margin}
    return [way for way, error in good.items() if error <= ratio * min(good.values())]


def _score(got: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], samples: int) -> Score:
    """Compare outputs [samples and mixtures, ...] by name of the output; mixtures are behind the samples."""
    agreements, errors = [1.0], [0.0]
    for name, right in wanted.items():
        error = float(((got[name] - right) ** 2).mean())
        errors.append(error / max(float(right.var()), np.finfo(float).tiny))
        if right.ndim == 2 and right.shape[1] > 1:
            agreements.append(float((got[name].argmax(1) == right.argmax(1))[:samples].mean()))
    return Score(min(agreements), max(errors))
