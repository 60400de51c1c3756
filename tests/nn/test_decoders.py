"""Decoders against their formulas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from hsnn_compiler.ir.ops import Decode
from hsnn_compiler.nn import LIF, BitPlaneSum, FirstSpikeTime, Membrane, PhaseSum, Sum
from hsnn_compiler.reference import codes


def spikes(steps: int, seed: int = 0) -> torch.Tensor:
    return (torch.rand(steps, 3, 4, generator=torch.Generator().manual_seed(seed)) < 0.3).double()


@pytest.mark.parametrize("steps", [1, 4, 8, 16])
def test_bit_planes(steps: int) -> None:
    s = spikes(steps)
    weights = np.array([2.0 ** (steps - 1 - t) for t in range(steps)]) / (2**steps - 1)
    expected = np.tensordot(weights, s.numpy(), 1) * 2.5
    np.testing.assert_allclose(BitPlaneSum(2.5)(s).numpy(), expected, rtol=1e-12)
    assert BitPlaneSum(2.5)(torch.ones(steps, 1)).item() == pytest.approx(2.5)


@pytest.mark.parametrize(("steps", "period"), [(8, 8), (24, 8), (6, 3), (4, 1)])
def test_phases(steps: int, period: int) -> None:
    s = spikes(steps)
    worth = np.array([2.0 ** -(1 + t % period) for t in range(steps)])
    expected = period / steps * 2**period / (2**period - 1) * np.tensordot(worth, s.numpy(), 1) * 0.5
    np.testing.assert_allclose(PhaseSum(0.5, period)(s).numpy(), expected, rtol=1e-12)
    assert PhaseSum(0.5, period)(torch.ones(steps, 1)).item() == pytest.approx(0.5)


def test_first_spike_counts_alone() -> None:
    s = spikes(6)
    s[:, 1, 2] = 0
    expected = np.zeros((3, 4))
    for index in np.ndindex(3, 4):
        fired = np.flatnonzero(s.numpy()[(slice(None), *index)])
        expected[index] = (6 - fired[0]) / 6 * 2 if len(fired) else 0
    assert expected[1, 2] == 0
    np.testing.assert_allclose(FirstSpikeTime(2.0)(s).numpy(), expected, rtol=1e-12)


def test_first_spike_has_the_gradient_of_the_weighted_sum() -> None:
    s = spikes(6).requires_grad_()
    value = FirstSpikeTime(2.0)(s)
    assert torch.equal(value, FirstSpikeTime(2.0)(s.detach()))
    value.sum().backward()
    assert s.grad is not None
    weights = torch.tensor([(6 - t) / 6 * 2 for t in range(6)], dtype=torch.float64)
    torch.testing.assert_close(s.grad, weights.reshape(6, 1, 1).expand_as(s))


@pytest.mark.parametrize(
    ("decoder", "op"),
    [
        (BitPlaneSum(2.5), Decode("bitplane", 2.5)),
        (PhaseSum(2.5, 4), Decode("phase", 2.5, 4)),
        (FirstSpikeTime(2.5), Decode("ttfs", 2.5)),  # of one spike
    ],
)
def test_values_are_those_of_the_executors(decoder: nn.Module, op: Decode) -> None:
    s = spikes(8)
    if op.kind == "ttfs":
        s = s * (s.cumsum(0) <= 1)
    torch.testing.assert_close(decoder(s), codes.decode(op, s), rtol=1e-6, atol=0)


@pytest.mark.parametrize("beta", [1.0, 0.75, 0.0])
def test_membrane_is_the_potential_of_a_neuron_that_does_not_fire(beta: float) -> None:
    currents = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(1))
    neuron = LIF(beta=beta, threshold=1e9)
    for current in currents:
        neuron(current)
    assert neuron.v is not None
    assert torch.equal(Membrane(beta)(currents), neuron.v)
    expected = sum(beta ** (6 - t) * currents[t] for t in range(7))
    torch.testing.assert_close(Membrane(beta)(currents), expected)
    if beta == 1:
        torch.testing.assert_close(Membrane()(currents), Sum()(currents))


def test_membrane_hands_gradients_back() -> None:
    currents = torch.zeros(4, 1, requires_grad=True)
    Membrane(0.5)(currents).sum().backward()
    assert currents.grad is not None
    assert currents.grad.ravel().tolist() == [0.125, 0.25, 0.5, 1.0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BitPlaneSum(0.0), "high"),
        (lambda: BitPlaneSum()(torch.ones(17, 1)), "at most 16"),
        (lambda: FirstSpikeTime(-1.0), "high"),
        (lambda: PhaseSum(period=0), "period"),
        (lambda: PhaseSum(period=4)(torch.ones(6, 1)), "no multiple of the period 4"),
        (lambda: Membrane(1.5), "beta"),
    ],
)
def test_refusals(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_repr() -> None:
    parts = nn.ModuleList([BitPlaneSum(), PhaseSum(2.0), FirstSpikeTime(0.5), Membrane(0.9)])
    assert [repr(part) for part in parts] == [
        "BitPlaneSum(high=1)",
        "PhaseSum(high=2, period=8)",
        "FirstSpikeTime(high=0.5)",
        "Membrane(beta=0.9)",
    ]
