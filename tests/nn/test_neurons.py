"""The neurons' equations, replayed in numpy, and what gets saved of them."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsnn_compiler.nn import IF, LIF

Array = np.ndarray | np.float32


def replay(
    currents: np.ndarray, beta: Array, threshold: Array, reset: str, v_init: float
) -> tuple[np.ndarray, np.ndarray]:
    """Spikes and potentials [T, ...] of the documented equations, in float32."""
    v = np.full_like(currents[0], v_init)
    spikes, potentials = [], []
    for current in currents:
        v = beta * v + current
        s = (v > threshold).astype(np.float32)
        v = v - s * threshold if reset == "subtract" else v * (np.float32(1) - s)
        spikes.append(s)
        potentials.append(v)
    return np.stack(spikes), np.stack(potentials)


def run(neuron: LIF | IF, currents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    neuron.reset_state()
    spikes, potentials = [], []
    for current in torch.from_numpy(currents):
        spikes.append(neuron(current).numpy())
        assert neuron.v is not None
        potentials.append(neuron.v.numpy())
    return np.stack(spikes), np.stack(potentials)


def currents_of(seed: int, shape: tuple[int, ...] = (12, 3, 4)) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.4, 0.8, shape).astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    beta=st.floats(0, 1, width=32),
    threshold=st.floats(0.125, 4, width=32),
    v_init=st.sampled_from([0.0, 0.5, -1.0]),
    reset=st.sampled_from(["subtract", "zero"]),
)
def test_lif_is_its_equations_bit_for_bit(seed: int, beta: float, threshold: float, v_init: float, reset: str) -> None:
    currents = currents_of(seed)
    neuron = LIF(beta=beta, threshold=threshold, reset=reset, v_init=v_init)  # type: ignore[arg-type]
    expected = replay(currents, np.float32(beta), np.float32(threshold), reset, v_init)
    for ours, theirs in zip(run(neuron, currents), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_if_has_no_leak(reset: str) -> None:
    currents = currents_of(1)
    neuron = IF(threshold=0.75, reset=reset, v_init=0.25)  # type: ignore[arg-type]
    expected = replay(currents, np.float32(1), np.float32(0.75), reset, 0.25)
    for ours, theirs in zip(run(neuron, currents), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not hasattr(neuron, "beta")


@pytest.mark.parametrize("tail", [(), (5,), (5, 2)])
def test_coefficients_per_channel(tail: tuple[int, ...]) -> None:
    beta = np.array([0.0, 0.5, 0.9], np.float32)
    threshold = np.array([0.5, 1.0, 2.0], np.float32)
    currents = currents_of(2, (10, 4, 3, *tail))
    neuron = LIF(beta=torch.from_numpy(beta), threshold=torch.from_numpy(threshold))
    shape = (3, *[1] * len(tail))
    expected = replay(currents, beta.reshape(shape), threshold.reshape(shape), "subtract", 0.0)
    for ours, theirs in zip(run(neuron, currents), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_threshold_test_is_strict() -> None:
    neuron = IF(threshold=1.0)
    assert neuron(torch.tensor([[1.0, np.nextafter(np.float32(1), np.float32(2))]])).tolist() == [[0.0, 1.0]]


def test_soft_reset_keeps_the_rest_and_hard_reset_does_not() -> None:
    soft, hard = IF(reset="subtract"), IF(reset="zero")
    current = torch.tensor([[1.75]])
    soft(current), hard(current)
    assert soft.v is not None
    assert hard.v is not None
    assert soft.v.item() == 0.75
    assert hard.v.item() == 0.0


def test_state_is_carried_until_reset() -> None:
    neuron: Any = LIF(beta=0.5, threshold=10.0)
    assert not isinstance(neuron.v, torch.Tensor)
    neuron(torch.ones(1, 1))
    neuron(torch.ones(1, 1))
    assert neuron.v.item() == 1.5
    neuron.reset_state()
    neuron(torch.ones(1, 1))
    assert neuron.v.item() == 1.0


def test_reset_path_is_detached() -> None:
    # s_2 depends on the current of step 1 through beta * v_1. With the reset detached
    # dv_1/dcurrent_1 is 1; through the reset it would be 1 - threshold * g(0.5).
    neuron = IF(threshold=1.0, surrogate="triangle")
    first = torch.tensor([[1.5]], requires_grad=True)
    neuron(first)
    neuron(torch.tensor([[0.25]])).sum().backward()
    u = 1.5 - 1.0 + 0.25 - 1.0
    assert first.grad is not None
    assert first.grad.item() == pytest.approx(1 - abs(u))


def test_another_shape_without_reset_is_refused() -> None:
    neuron = LIF()
    neuron(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="reset_state"):
        neuron(torch.zeros(8, 4))


@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 4, 3)])
def test_wrong_number_of_channels_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="threshold holds 3 channels"):
        IF(threshold=torch.ones(3))(torch.zeros(shape))


@pytest.mark.parametrize("arguments", [{"reset": "none"}, {"surrogate": "step"}, {"beta": torch.ones(2, 2)}], ids=str)
def test_bad_arguments_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        LIF(**arguments)


def test_saved_module_carries_no_state(tmp_path: Path) -> None:
    neuron = LIF(beta=0.8, threshold=torch.tensor([1.0, 2.0]), reset="zero", v_init=0.25)
    fresh, used = io.BytesIO(), io.BytesIO()
    torch.save(neuron, fresh)
    neuron(torch.ones(100, 2))
    torch.save(neuron, used)
    assert used.getvalue() == fresh.getvalue()
    assert neuron.v is not None  # saving does not disturb the run

    used.seek(0)
    with torch.serialization.safe_globals([LIF]):
        loaded = torch.load(used, weights_only=True)
    assert loaded.v is None
    assert (loaded.reset, loaded.surrogate, loaded.v_init) == ("zero", "atan", 0.25)
    torch.testing.assert_close(loaded.beta, neuron.beta, rtol=0, atol=0)
    torch.testing.assert_close(loaded.threshold, neuron.threshold, rtol=0, atol=0)


def test_copy_and_state_dict_carry_no_state() -> None:
    neuron = LIF()
    neuron(torch.ones(2, 2, requires_grad=True))
    assert copy.deepcopy(neuron).v is None
    assert sorted(neuron.state_dict()) == ["beta", "threshold"]
    assert list(neuron.parameters()) == []


def test_repr_names_the_coefficients() -> None:
    assert repr(LIF()) == "LIF(beta=0.9, threshold=1, reset='subtract')"
    assert repr(IF(torch.ones(3), reset="zero")) == "IF(threshold=[3 channels], reset='zero')"
