"""Mixtures of calibration samples: what they are made of, when there are none, what they are good for."""

from __future__ import annotations

import numpy as np
import pytest
from test_correction import converted, data, residual

from hsnn_compiler.ir.types import Coding, TensorType
from hsnn_compiler.passes.calibration import mixtures
from hsnn_compiler.passes.calibration.mixtures import copies_of_each, with_mixtures
from hsnn_compiler.reference.float_executor import FloatExecutor


def test_samples_come_first_and_mixtures_lie_between_two_of_them() -> None:
    samples = np.eye(40, dtype=np.float32)
    mixed = with_mixtures(samples, 3)
    assert mixed.dtype == samples.dtype
    assert len(mixed) == 160
    np.testing.assert_array_equal(mixed[:40], samples)
    for mixture in mixed[40:]:  # shares of unit vectors show who was mixed with whom
        np.testing.assert_allclose(mixture.sum(), 1, rtol=1e-6)
        assert 1 <= np.count_nonzero(mixture) <= 2
        assert mixture.max() >= 0.5
    first = mixed[40:].argmax(1)
    assert set(np.bincount(first, minlength=40)) <= {2, 3, 4}  # a share of exactly one half may fall either way
    assert (np.count_nonzero(mixed[40:], 1) == 2).mean() > 0.9


def test_the_same_seed_gives_the_same_mixtures() -> None:
    samples = data(20)
    np.testing.assert_array_equal(with_mixtures(samples, 2), with_mixtures(samples, 2))
    assert not np.array_equal(with_mixtures(samples, 2), with_mixtures(samples, 2, seed=1))
    assert with_mixtures(samples, 0) is samples


def test_memory_does_not_grow_with_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(with_mixtures(np.zeros((5000, 2), np.float32), 1)) == 5000 + mixtures.MOST
    monkeypatch.setattr(mixtures, "MOST_BYTES", 100)
    assert len(with_mixtures(np.zeros((50, 2), np.float32), 1)) == 50 + 100 // 8


def test_how_many_mixtures() -> None:
    graph = residual()
    assert [copies_of_each(graph, data(number)) for number in (64, 100, 256, 300)] == [4, 3, 1, 1]
    assert copies_of_each(graph, data(1)) == 0
    assert copies_of_each(graph, np.zeros((300, 2, 8, 8), np.int64)) == 0
    graph.update("x", type=TensorType((2, 8, 8), Coding.GRADED))
    assert copies_of_each(graph, np.zeros((300, 16, 2, 8, 8), np.float32)) == 0


@pytest.mark.parametrize("options", ["method=ltb,correct=weights", "method=mse,correct=weights"])
def test_they_help_on_data_unlike_those_of_calibration(options: str) -> None:
    """Errors of outputs on images that are two at once, and not those of calibration."""
    x = data(seed=9)
    for part in (0.7 * x + 0.3 * x[::-1], 0.5 * x + 0.5 * x[::-1]):
        wanted = FloatExecutor(residual()).run(part).output
        errors = [
            np.square(FloatExecutor(converted(f"{{{options},mixtures={on}}}", 4)[0]).run(part).output - wanted).mean()
            for on in ("false", "true")
        ]
        assert errors[1] < errors[0]
