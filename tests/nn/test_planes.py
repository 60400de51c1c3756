"""Surrogate gradients of bit planes: against numpy, and their waves against the bits and derivatives they stand for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from hsnn_compiler.nn import BitPlane

Wave = Callable[[np.ndarray, float], np.ndarray]


def fourier(y: np.ndarray, c: float) -> np.ndarray:
    return 1 / 2 - 2 / np.pi * sum(np.sin(n * np.pi * y / c) / n for n in (1, 3, 5, 7, 9))


def fourier_slope(y: np.ndarray, c: float) -> np.ndarray:
    return -2 / c * sum(np.cos(n * np.pi * y / c) for n in (1, 3, 5, 7, 9))


def sigsine(y: np.ndarray, c: float) -> np.ndarray:
    return 1 / (1 + np.exp(10 * np.sin(np.pi * y / c)))


def sigsine_slope(y: np.ndarray, c: float) -> np.ndarray:
    u, slope = -10 * np.sin(np.pi * y / c), -10 * np.pi / c * np.cos(np.pi * y / c)
    return np.exp(-u) / (1 + np.exp(-u)) ** 2 * slope


def tanhsine(y: np.ndarray, c: float) -> np.ndarray:
    return (1 + np.tanh(-10 * np.sin(np.pi * y / c))) / 2


def tanhsine_slope(y: np.ndarray, c: float) -> np.ndarray:
    u, slope = -10 * np.sin(np.pi * y / c), -10 * np.pi / c * np.cos(np.pi * y / c)
    return slope / np.cosh(u) ** 2 / 2


WAVES: dict[str, tuple[Wave, Wave]] = {
    "fourier": (fourier, fourier_slope),
    "sigsine": (sigsine, sigsine_slope),
    "tanhsine": (tanhsine, tanhsine_slope),
}


@pytest.mark.parametrize("name", WAVES)
def test_formulas_here_are_derivatives_of_waves_that_are_the_bits(name: str) -> None:
    wave, slope = WAVES[name]
    y = np.linspace(0.1, 31.9, 997)
    for k in range(5):
        c = 2.0**k
        np.testing.assert_allclose((wave(y + 1e-6, c) - wave(y - 1e-6, c)) / 2e-6, slope(y, c), rtol=1e-5, atol=1e-6)
        far = np.abs(np.sin(np.pi * y / c)) > 0.6
        np.testing.assert_array_equal(wave(y, c)[far] > 0.5, (y[far] // c) % 2 == 1)


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("steps", [2, 5, 8, 16])
@pytest.mark.parametrize("name", WAVES)
def test_gradient_is_the_formula(name: str, steps: int, rescale: bool) -> None:
    high = 0.75  # exact in float32
    rng = np.random.default_rng(steps)
    x = rng.uniform(-0.2, 1.0, (3, 40))
    x[0, :4] = [0.0, high, -0.1, 1.0]  # at and beyond the ends: no gradient
    upstream = rng.normal(size=(steps, 3, 40))
    tensor = torch.from_numpy(x).requires_grad_()
    BitPlane(steps, high, name, rescale)(tensor).backward(torch.from_numpy(upstream))

    y = np.clip(x / high, 0, 1) * (2**steps - 1)
    expected = np.zeros_like(x)
    for t in range(steps):
        k = steps - 1 - t
        factor = k / 2 ** (steps - 1 - k) if rescale else 1
        expected += upstream[t] * factor * WAVES[name][1](y, 2.0**k)
    expected *= (2**steps - 1) / high * ((x > 0) & (x < high))
    assert tensor.grad is not None
    np.testing.assert_allclose(tensor.grad.numpy(), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    assert not tensor.grad[0, :4].any()
    assert tensor.grad.abs().sum() > 0


def test_rescaling_is_that_of_the_paper_for_eight_planes() -> None:
    x = torch.tensor([[0.3]], dtype=torch.float64)
    factors = []
    for t in range(8):
        upstream = torch.zeros(8, 1, 1, dtype=torch.float64)
        upstream[t] = 1
        grads = []
        for rescale in (True, False):
            leaf = x.clone().requires_grad_()
            BitPlane(8, rescale=rescale)(leaf).backward(upstream)
            assert leaf.grad is not None
            grads.append(leaf.grad.item())
        factors.append(grads[0] / grads[1])
    assert factors == pytest.approx([7, 6 / 2, 5 / 4, 4 / 8, 3 / 16, 2 / 32, 1 / 64, 0])


@pytest.mark.parametrize("name", WAVES)
def test_float32_loses_no_digits_in_large_angles(name: str) -> None:
    x = torch.rand(1, 200, generator=torch.Generator().manual_seed(0))
    grads = []
    for dtype in (torch.float32, torch.float64):
        leaf = x.to(dtype, copy=True).requires_grad_()
        BitPlane(8, surrogate=name, rescale=False)(leaf).sum().backward()
        assert leaf.grad is not None
        grads.append(leaf.grad.double())
    torch.testing.assert_close(grads[0], grads[1], rtol=2e-3, atol=2e-3 * grads[1].abs().max().item())


def test_scale_gets_no_gradient() -> None:
    encoder = BitPlane()
    assert list(encoder.parameters()) == []
    encoder(torch.rand(2, 3, requires_grad=True)).sum().backward()
    assert encoder.high.grad is None
