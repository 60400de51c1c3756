"""Weights fitted anew to the inputs a synapse op really gets: ridge regression, gathered batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hsnn_compiler.ir.ops import bias_of
from hsnn_compiler.ir.shapes import conv_padding, per_axis

LARGEST = 6144
"""Inputs of one output up to which the normal equations (their square, in float64) are set up."""
RIDGES = (0.01, 0.1, 1.0, 10.0)
SMALLEST = 1e-9
_PATCH_BYTES = 64 * 2**20


class Regression:
    """Fits the weights W and the bias b of an op, near those it has.

    Minimises sum || W r + b - z ||^2 + ridge * g * || W - W_0 ||^2 over all samples (and positions of a
    convolution), where r is what the op gets, z what it should give, and g the mean square of the inputs, summed
    over the samples: `ridge` has no unit. As corrections of W_0 these are the normal equations of z - W_0 r - b_0.
    The ridge is the one of `RIDGES` that does best on the half of the samples which the fit has not seen,
    for both halves together; where none does better than W_0 and b_0, these stay.

    Args:
        op: a synapse op.
        intercept: whether b is fitted; else the op keeps its own.
    """

    def __init__(self, op: Any, intercept: bool = True) -> None:
        self.op, self.intercept = op, intercept
        self.groups = int(getattr(op, "groups", 1))
        self.columns = int(np.prod(op.weight.shape[1:]))
        self.weight = torch.from_numpy(np.asarray(op.weight, np.float32))
        bias = bias_of(op)
        self.bias = torch.zeros(len(self.weight)) if bias is None else torch.from_numpy(np.asarray(bias, np.float32))
        rows = len(self.weight) // self.groups
        unknowns = self.columns + intercept
        # By half of the samples: [halves, groups, ...].
        self.gram = torch.zeros(2, self.groups, unknowns, unknowns, dtype=torch.float64)
        self.moments = torch.zeros(2, self.groups, unknowns, rows, dtype=torch.float64)

    def add(self, inputs: np.ndarray, outputs: np.ndarray) -> None:
        """Take in samples: inputs [samples, *what it gets], outputs [samples, *what it should give]."""
        for half in (0, 1):
            self._add(half, torch.from_numpy(inputs[half::2]).float(), torch.from_numpy(outputs[half::2]).float())

    def solve(self) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias, float64, [outputs, ...] and [outputs]."""
        losses = {ridge: sum(self._held_out(ridge, half) for half in (0, 1)) for ridge in RIDGES}
        ridge = min(losses, key=lambda ridge: losses[ridge])
        weight = self.weight.double().reshape(self.groups, -1, self.columns)
        bias = self.bias.double().reshape(self.groups, -1)
        if losses[ridge] < 0:
            change = self._change(self.gram.sum(0), self.moments.sum(0), ridge).mT
            weight = weight + change[..., : self.columns]
            bias = bias + change[..., -1] if self.intercept else bias
        return weight.reshape(self.op.weight.shape).numpy(), bias.reshape(-1).numpy()

    def _held_out(self, ridge: float, half: int) -> float:
        """Squared error on one half, fitted to the other, less the error without a change: 0 or more is no gain."""
        change = self._change(self.gram[1 - half], self.moments[1 - half], ridge)
        return float((change * (self.gram[half] @ change)).sum() - 2 * (change * self.moments[half]).sum())

    def _change(self, gram: Tensor, moments: Tensor, ridge: float) -> Tensor:
        """What to add to weights and bias, [groups, unknowns, rows]."""
        gram = gram.clone()
        of_inputs = gram.diagonal(dim1=1, dim2=2)[:, : self.columns]
        # An input that never comes has nothing to say; the smallest number keeps the system regular.
        of_inputs += ridge * of_inputs.mean(1, keepdim=True) + SMALLEST
        if self.intercept:
            gram[:, -1, -1] += SMALLEST
        return torch.cholesky_solve(moments, torch.linalg.cholesky(gram))

    def _add(self, half: int, inputs: Tensor, outputs: Tensor) -> None:
        for patches, wanted in self._patches(inputs, outputs):
            w = self.weight.reshape(self.groups, -1, self.columns)
            error = wanted - torch.einsum("gpk,grk->gpr", patches, w) - self.bias.reshape(self.groups, 1, -1)
            extended = torch.cat([patches, torch.ones(*patches.shape[:2], 1)], 2) if self.intercept else patches
            self.gram[half] += (extended.mT @ extended).double()
            self.moments[half] += (extended.mT @ error).double()

    def _patches(self, inputs: Tensor, outputs: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs of single outputs, [groups, patches, columns], and the outputs, [groups, patches, rows]."""
        if self.weight.ndim == 2:
            yield inputs[None], outputs[None]
            return
        if self.weight.ndim == 3:
            inputs, outputs = inputs[:, :, None], outputs[:, :, None]
        positions = int(np.prod(outputs.shape[2:]))
        size = max(1, _PATCH_BYTES // (4 * positions * self.columns * self.groups))
        for some, wanted in zip(inputs.split(size), outputs.split(size), strict=True):
            columns = self._unfold(some)  # [samples, groups * columns, positions]
            yield (
                columns.reshape(len(some), self.groups, self.columns, -1).permute(1, 0, 3, 2).flatten(1, 2),
                wanted.reshape(len(some), self.groups, -1, positions).permute(1, 0, 3, 2).flatten(1, 2),
            )

    def _unfold(self, inputs: Tensor) -> Tensor:
        sides = conv_padding(self.op)
        kernel: tuple[int, ...] = tuple(self.weight.shape[2:])
        stride, dilation = per_axis(self.op.stride, len(kernel)), per_axis(self.op.dilation, len(kernel))
        if len(kernel) == 1:
            sides, kernel, stride, dilation = ((0, 0), *sides), (1, *kernel), (1, *stride), (1, *dilation)
        padded = F.pad(inputs, [side for pair in reversed(sides) for side in pair])
        return F.unfold(padded, kernel, dilation=dilation, stride=stride)
