"""Surrogate gradients against their formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from hsnn_compiler.nn import SURROGATES

FORMULAS: dict[str, Callable[[float], float]] = {
    "atan": lambda u: 1 / (1 + (math.pi * u) ** 2),
    "fast_sigmoid": lambda u: 1 / (1 + 10 * abs(u)) ** 2,
    "sigmoid": lambda u: 4 * math.exp(-4 * u) / (1 + math.exp(-4 * u)) ** 2,
    "triangle": lambda u: max(0.0, 1 - abs(u)),
}


def test_every_surrogate_has_a_formula_here() -> None:
    assert set(SURROGATES) == set(FORMULAS)


@pytest.mark.parametrize("name", FORMULAS)
def test_gradient_is_the_formula(name: str) -> None:
    v = torch.linspace(-2, 4, 61, dtype=torch.float64, requires_grad=True)
    threshold = torch.tensor(1.0, dtype=torch.float64)
    upstream = torch.linspace(-1, 3, 61, dtype=torch.float64)
    spikes = SURROGATES[name].apply(v, threshold)
    spikes.backward(upstream)
    expected = [g * FORMULAS[name](u - 1) for g, u in zip(upstream.tolist(), v.tolist(), strict=True)]
    torch.testing.assert_close(v.grad, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("name", FORMULAS)
def test_forward_is_the_strict_test(name: str) -> None:
    smallest = torch.tensor(2.0**-149)  # a denormal: v - threshold must not decide
    v = torch.stack([torch.zeros(()), smallest, -smallest, torch.ones(())])
    assert SURROGATES[name].apply(v, torch.zeros(())).tolist() == [0.0, 1.0, 0.0, 1.0]
    assert SURROGATES[name].apply(v.half(), torch.zeros(())).dtype == torch.float16


@pytest.mark.parametrize("name", FORMULAS)
def test_threshold_per_channel_keeps_the_shape_of_the_gradient(name: str) -> None:
    v = torch.randn(2, 3, 4, requires_grad=True)
    threshold = torch.rand(3, 1)
    SURROGATES[name].apply(v, threshold).sum().backward()
    assert v.grad is not None
    u = (v - threshold).detach()[1, 2, 3].item()
    assert v.grad[1, 2, 3].item() == pytest.approx(FORMULAS[name](u), rel=1e-5)


@pytest.mark.parametrize("name", FORMULAS)
def test_forward_compares_and_does_not_subtract(name: str) -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormals")
    try:  # the difference of these two is denormal, hence 0 here; they still differ
        spikes = SURROGATES[name].apply(torch.tensor([1.5 * 2.0**-126]), torch.tensor(2.0**-126))
    finally:
        torch.set_flush_denormal(False)
    assert spikes.item() == 1.0
