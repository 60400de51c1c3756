"""Losses against their formulas in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hsnn_compiler.training.losses import Distillation, divergence, right

RNG = np.random.default_rng(0)
Z, ZA, Y = RNG.normal(size=(5, 4)), RNG.normal(size=(5, 4)), np.array([0, 3, 1, 1, 2])


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("tau", "gain"), [(1.0, 1.0), (4.0, 10.0)])
def test_the_mixture(alpha: float, tau: float, gain: float) -> None:
    cross = -np.log(softmax(gain * Z)[np.arange(5), Y]).mean()
    p, q = softmax(gain * ZA / tau), softmax(gain * Z / tau)
    kl = tau**2 * (p * np.log(p / q)).sum(1).mean()
    z = torch.from_numpy(Z).requires_grad_()
    loss = Distillation(alpha, tau, gain)(z, torch.from_numpy(ZA), torch.from_numpy(Y))
    np.testing.assert_allclose(float(loss.detach()), alpha * cross + (1 - alpha) * kl)
    loss.backward()
    # d/dz CE = gain (softmax - onehot)/N; d/dz KL = gain tau (q - p)/N
    onehot = np.eye(4)[Y]
    expected = gain * (alpha * (softmax(gain * Z) - onehot) + (1 - alpha) * tau * (q - p)) / 5
    np.testing.assert_allclose(z.grad.numpy(), expected, atol=1e-12)


def test_without_labels_the_teacher_alone_counts() -> None:
    z, za = torch.from_numpy(Z), torch.from_numpy(ZA)
    assert Distillation(0.4)(z, za, None) == divergence(z, za)
    assert Distillation(0.4)(za, za, None).abs() < 1e-12
    assert Distillation(1.0)(z, None, torch.from_numpy(Y)) > 0


def test_what_is_right() -> None:
    z = torch.eye(4)
    assert right(z, None, torch.tensor([0, 1, 0, 0])) == 2
    assert right(z, torch.eye(4).flip(0), None) == 0
    assert right(z, z, None) == 4
    assert right(z, None, None) == 0
