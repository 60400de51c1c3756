"""Chains of linear ops between neurons become one synapse op that computes the same."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest
import torch

from hsnn_compiler.ir import Node
from hsnn_compiler.ir.shapes import shape_rule
from hsnn_compiler.passes.raw.folding import fold, without_bias
from hsnn_compiler.reference.torch_ops import bind

POOL = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
MEAN = nir.AvgPool2d(np.array([2, 2]), np.array([1, 1]), np.array([0, 0]))
CONV = nir.Conv2d((4, 6), np.random.default_rng(1).normal(size=(3, 2, 2, 3)), 1, 0, 1, 1, np.ones(3))
AFTER = nir.Conv2d((2, 3), np.random.default_rng(2).normal(size=(3, 2, 2, 2)), 1, 0, 1, 1, np.zeros(3))
FLAT = nir.Flatten({"input": np.array([2, 4, 6])}, 0, -1)
SCALE = nir.Scale(np.array([2.0, -3.0]).reshape(2, 1, 1))


def dense(n: int) -> nir.Affine:
    return nir.Affine(np.random.default_rng(n).normal(size=(4, n)), np.ones(4))


CHAINS: dict[str, tuple[Any, ...]] = {
    "nothing": (),
    "scale": (SCALE,),
    "pool": (MEAN,),
    "two scales": (SCALE, SCALE),
    "pool, convolution": (POOL, AFTER),
    "convolution, pool": (CONV, POOL),
    "scale, convolution": (SCALE, CONV),
    "convolution, scale": (CONV, nir.Scale(np.array([1.0, 2.0, 3.0]).reshape(3, 1, 1))),
    "two pools": (MEAN, POOL),
    "pool, scale": (POOL, SCALE),
    "scale, pool": (SCALE, POOL),
    "convolution to a row": (CONV, FLAT, dense(36)),
    "pool to a row": (POOL, FLAT, dense(12)),
    "a scale for each pixel to a row": (nir.Scale(np.random.default_rng(3).normal(size=(2, 4, 6))), FLAT, dense(48)),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_becomes_one_synapse(name: str) -> None:
    shape: tuple[int, ...] = (2, 4, 6)
    x = torch.randn(3, *shape, dtype=torch.float64)
    wanted, out = x, shape
    for op in CHAINS[name]:
        wanted, out = bind(without_bias(op), torch.float64)(wanted), shape_rule(op, [out])
    made = fold([Node(f"op{i}", op) for i, op in enumerate(CHAINS[name])], shape, out)
    found = bind(made, torch.float64)(x.flatten(1) if made.weight.ndim == 2 else x)
    np.testing.assert_allclose(found, wanted, atol=1e-12)
