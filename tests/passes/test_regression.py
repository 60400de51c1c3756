"""Weights fitted anew: against numpy's least squares, over groups, strides, paddings."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch

from hsnn_compiler.ir.ops import bias_of
from hsnn_compiler.passes.calibration.regression import RIDGES, Regression
from hsnn_compiler.reference.torch_ops import bind, tensor


def conv(shape: tuple[int, ...], **options: object) -> nir.Conv2d:
    rng = np.random.default_rng(1)
    given = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1} | options
    return nir.Conv2d(None, rng.normal(size=shape), bias=rng.normal(size=shape[0]), **given)


OPS = {
    "affine": (nir.Affine(np.random.default_rng(0).normal(size=(3, 5)), np.ones(3)), (5,)),
    "linear": (nir.Linear(np.random.default_rng(0).normal(size=(3, 5))), (5,)),
    "conv": (conv((4, 2, 3, 3), padding=(1, 1)), (2, 6, 5)),
    "strided": (conv((4, 2, 3, 2), stride=(2, 1), padding=(1, 0)), (2, 7, 6)),
    "groups": (conv((4, 2, 3, 3), groups=2, dilation=(2, 1)), (4, 7, 6)),
    "depthwise": (conv((6, 1, 3, 3), groups=3, padding="same"), (3, 5, 5)),
    "one axis": (
        nir.Conv1d(None, np.random.default_rng(0).normal(size=(4, 3, 3)), 2, 1, 1, 1, np.ones(4)),
        (3, 9),
    ),
}


def forward(op: object, x: np.ndarray) -> np.ndarray:
    bound = bind(op, torch.float64, lambda name, array: tensor(array, torch.float64))
    return bound(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("name", OPS)
def test_a_layer_is_found_again_from_what_it_does(name: str) -> None:
    """Outputs of another layer of the same form: the fit finds its weights, whatever it started from."""
    op, shape = OPS[name]
    rng = np.random.default_rng(2)
    weight, bias = rng.normal(size=op.weight.shape), rng.normal(size=len(op.weight))
    other = (
        nir.Affine(weight, bias)
        if op.weight.ndim == 2
        else type(op)(None, weight, op.stride, op.padding, op.dilation, op.groups, bias)
    )
    fit = Regression(op)
    for _ in range(3):
        x = rng.normal(size=(40, *shape))
        fit.add(x, forward(other, x))
    found_weight, found_bias = fit.solve()
    np.testing.assert_allclose(found_weight, weight, atol=0.1)  # the smallest ridge pulls a little towards the start
    np.testing.assert_allclose(found_bias, bias, atol=0.1)
    assert np.abs(found_weight - weight).mean() < 0.02 * np.abs(op.weight - weight).mean()


def least_squares(x: np.ndarray, z: np.ndarray, op: nir.Affine, ridge: float) -> np.ndarray:
    """Change of weights and bias, as one least-squares problem: rows beside the samples pull it towards zero."""
    penalty = np.sqrt(ridge * np.square(x).sum(0).mean())
    left = np.vstack([np.hstack([x, np.ones((len(x), 1))]), np.hstack([penalty * np.eye(5), np.zeros((5, 1))])])
    right = np.vstack([z - x @ op.weight.T - op.bias, np.zeros((5, 3))])
    change: np.ndarray = np.linalg.lstsq(left, right, rcond=None)[0].T
    return change


@pytest.mark.parametrize("noise", [0.1, 2.0, 30.0])
def test_the_ridge_is_cross_validated(noise: float) -> None:
    op, shape = OPS["affine"]
    rng = np.random.default_rng(3)
    x = rng.normal(size=(30, *shape))
    z = x @ (op.weight + 0.3).T + noise * rng.normal(size=(30, 3))
    fit = Regression(op)
    fit.add(x[:10], z[:10])
    fit.add(x[10:], z[10:])

    def loss(change: np.ndarray, half: int) -> float:
        moved = x[half::2] @ (op.weight + change[:, :5]).T + op.bias + change[:, 5]
        return float(np.square(z[half::2] - moved).sum())

    losses = {r: sum(loss(least_squares(x[1 - h :: 2], z[1 - h :: 2], op, r), h) for h in (0, 1)) for r in RIDGES}
    best = min(losses, key=lambda ridge: losses[ridge])
    change = least_squares(x, z, op, best)
    if losses[best] > sum(loss(np.zeros((3, 6)), half) for half in (0, 1)):
        change = np.zeros((3, 6))
    weight, bias = fit.solve()
    np.testing.assert_allclose(weight, op.weight + change[:, :5], atol=1e-4)
    np.testing.assert_allclose(bias, op.bias + change[:, 5], atol=1e-4)
    assert (noise < 30) == bool(change.any())  # from pure noise nothing is learned


def test_without_intercept_the_bias_stays() -> None:
    op, shape = OPS["conv"]
    x = np.random.default_rng(4).normal(size=(20, *shape))
    fit = Regression(op, intercept=False)
    fit.add(x, forward(op, x) * 2)
    weight, bias = fit.solve()
    assert not np.allclose(weight, op.weight, atol=0.1)
    np.testing.assert_allclose(bias, bias_of(op), atol=1e-6)


def test_inputs_that_never_come_change_nothing() -> None:
    op, shape = OPS["affine"]
    x = np.random.default_rng(5).normal(size=(20, *shape))
    x[:, 2] = 0
    fit = Regression(op)
    fit.add(x, forward(op, x) * 2)
    weight, _ = fit.solve()
    np.testing.assert_allclose(weight[:, 2], op.weight[:, 2], atol=1e-6)
    np.testing.assert_allclose(weight[:, :2], 2 * op.weight[:, :2], rtol=0.1)
