"""Batch normalisation in rate-based backpropagation: on the statistics of the spike pass.

In the spike pass step t is normalised by its own statistics over batch and space, mu_t and var_t. The rate pass
normalises rates by

    mu = mean_t mu_t,    V = 1 / mean_t (1 / (var_t + eps))

whose values are those of the spike pass, and whose gradients are those of the mean and of the variance of the rates
(Yu et al., NeurIPS 2024, the step-by-step form of its authors' code; without its second eps).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hsnn_compiler.ir.graph import Node
from hsnn_compiler.reference.float_executor import FloatExecutor

MOMENTUM = 0.1
"""Weight of a new batch in the running statistics, PyTorch's."""


@dataclass(frozen=True)
class Statistics:
    """Sums over the steps of the statistics of one batch normalisation's input, each [channels].

    Attributes:
        steps: how many steps.
        count: numbers per channel in one step.
        mean: of the means.
        square: of the mean squares.
        precision: of 1 / (variance + eps).
    """

    steps: int
    count: int
    mean: Tensor
    square: Tensor
    precision: Tensor

    def after(self, before: Statistics | None) -> Statistics:
        """These added to those of the steps before."""
        if before is None:
            return self
        return Statistics(
            self.steps + before.steps,
            self.count,
            self.mean + before.mean,
            self.square + before.square,
            self.precision + before.precision,
        )

    @property
    def centre(self) -> Tensor:
        """Mean over steps, batch and space."""
        return self.mean / self.steps

    @property
    def spread(self) -> Tensor:
        """V, see above."""
        return self.steps / self.precision

    @property
    def variance(self) -> Tensor:
        """Variance over steps, batch and space, without bias, for the running statistics."""
        whole = self.steps * self.count
        return (self.square / self.steps - self.centre**2).clamp(min=0) * (whole / max(whole - 1, 1))


def normalised(executor: FloatExecutor, node: Node, value: Tensor) -> tuple[Tensor, Statistics]:
    """One step [batch, channels, ...] of a BatchNorm by its own statistics, with gradients, and these."""
    weight, bias = executor.parameters[node.name, "weight"], executor.parameters[node.name, "bias"]
    out = F.batch_norm(value, None, None, weight, bias, True, 0.0, node.op.eps)
    with torch.no_grad():
        axes = [0, *range(2, value.ndim)]
        variance, mean = torch.var_mean(value, axes, correction=0)
        count = value.numel() // value.shape[1]
        return out, Statistics(1, count, mean, variance + mean**2, 1 / (variance + node.op.eps))


def normalised_rates(executor: FloatExecutor, node: Node, rates: Tensor, found: Statistics) -> Tensor:
    """The rate pass of a BatchNorm, see above, [batch, channels, ...]."""
    weight, bias = executor.parameters[node.name, "weight"], executor.parameters[node.name, "bias"]
    axes, shape = [0, *range(2, rates.ndim)], [-1] + [1] * (rates.ndim - 2)
    mean = rates.mean(axes).view(shape)
    mean = found.centre.view(shape) + (mean - mean.detach())
    variance = ((rates - mean) ** 2).mean(axes).view(shape)
    spread = found.spread.view(shape) + (variance - variance.detach())
    return weight.view(shape) * (rates - mean) / spread.sqrt() + bias.view(shape)
