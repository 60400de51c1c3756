"""Weights in 16 bits: taken where all sums are exact in them, and then the same bits; otherwise left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernel_cases import spikes
from picks import Picks

from hsnn_compiler.kernels import ConvSynapse, DenseSynapse, FloatNeuron, Layer, LoihiNeuron, plan


def layer(synapses: list[Any], dtype: type) -> Layer:
    """Neurons that put out their potential: a decaying sum of all currents, or for Loihi u << 6."""
    if dtype is np.int32:
        return Layer(synapses, LoihiNeuron(4095, 409, 2**17 - 1, spiking=False), None, dtype)
    return Layer(synapses, FloatNeuron(0.75, threshold=None), None, dtype)


def is_narrow(made: Layer) -> bool:
    assert made.plan is not None
    return made.plan.tables.narrow.size > 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_the_same_bits_as_wide_ones(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(30):
        p = Picks.seeded(seed)
        rng, out, unit = p.rng(), p.choice([3, 16, 40, 100, 300]), 1 if dtype is np.int32 else 2.0 ** p.integer(-30, 20)
        if p.flag():
            shape, stride, count = (9, 11, 5), p.choice([(1, 1), (2, 1)]), p.choice([1, 2])
            weights = rng.integers(-254, 255, (count, out, 5, 3, 3)) * unit
            synapses: list[Any] = [ConvSynapse(weight, shape, stride, ((1, 1), (0, 1))) for weight in weights]
        else:
            shape = (70,)
            exponents = [p.choice([-2, 0, 3]) if dtype is np.int32 else 0 for _ in range(2)]
            synapses = [DenseSynapse(rng.integers(-254, 255, (out, 70)) * unit, each) for each in exponents]
        inputs = [spikes(rng, (2, 5, *shape), p.choice([0.02, 0.3, 1.0])) for _ in synapses]
        narrow = layer(synapses, dtype)
        with monkeypatch.context() as patch:
            patch.setattr(plan, "_narrow", lambda *_: (None, 1.0))
            wide = layer(synapses, dtype)
        assert is_narrow(narrow)
        assert not is_narrow(wide)
        runs = [each.run(inputs, record={"u", "v"}, method="events") for each in (narrow, wide)]
        dense = narrow.run(inputs, record={"u", "v"}, method="dense")
        np.testing.assert_array_equal(runs[0].u, runs[1].u, err_msg=f"seed {seed}")
        np.testing.assert_array_equal(runs[0].v, runs[1].v)
        np.testing.assert_array_equal(runs[0].v, dense.v)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_at_the_edge_of_16_bits(dtype: type, fits: bool, sign: int) -> None:
    """All inputs at once reach 2^15 - 1, or one step below -2^15; one more does not fit."""
    weight = np.full((20, 130), 1.0)
    weight[3] = 252
    weight[3, 0] += 2**15 - (sign > 0) + (not fits) - weight[3].sum()
    made = layer([DenseSynapse((sign * weight).astype(dtype))], dtype)
    assert is_narrow(made) == fits
    x = np.ones((1, 1, 130), np.uint8)
    found = made.run([x], record={"u"}, method="events").u[0, 0]
    expected = sign * weight.sum(1) * (64 if dtype is np.int32 else 1)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("odd", [1 / 3, 2.0**-15, np.inf, np.nan])
def test_weights_that_are_no_small_integers(odd: float) -> None:
    weight = np.ones((4, 6), np.float32)
    weight[1, 2] = odd
    made = layer([DenseSynapse(weight)], np.float32)
    assert not is_narrow(made)
    x = np.eye(6, dtype=np.uint8)[:, None]
    np.testing.assert_array_equal(made.run([x], method="events").v[:, 0], weight.T)


def test_weights_of_nothing() -> None:
    made = layer([DenseSynapse(np.zeros((4, 6)))], np.float64)
    assert is_narrow(made)
    assert not made.run([np.ones((2, 3, 6), np.uint8)], method="events").v.any()
