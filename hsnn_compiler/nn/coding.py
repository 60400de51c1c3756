"""Crossings between values (once per sample) and steps (T per sample).

Encoders take ``x [B, ...]`` to ``[T, B, ...]``; decoders take ``[T, B, ...]`` back to
``[B, ...]``. Time is always the first dimension.
"""

from __future__ import annotations

import torch
from torch import nn


class Direct(nn.Module):
    """Direct coding: the same values at every step.

        y[t] = x,    t = 0 .. timesteps - 1

    The first layer of the body thus sees real numbers and is the one that turns them
    into spikes (Rueckauer et al., Frontiers in Neuroscience 11:682, 2017, section 2.3).
    """

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        if timesteps < 1:
            raise ValueError(f"timesteps must be at least 1, not {timesteps}")
        self.timesteps = int(timesteps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x [B, ...]`` to a view ``[T, B, ...]``; nothing is copied."""
        return x.unsqueeze(0).expand(self.timesteps, *x.shape)

    def extra_repr(self) -> str:
        """Show the number of steps in ``print(model)``."""
        return f"timesteps={self.timesteps}"


class Rate(nn.Module):
    """Mean over the steps, ``y = (1/T) sum_t x[t]``; for spikes, the firing rate."""

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """``[T, B, ...]`` to ``[B, ...]``."""
        return steps.mean(0)


class Sum(nn.Module):
    """Sum over the steps, ``y = sum_t x[t]``; for spikes, the spike count."""

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """``[T, B, ...]`` to ``[B, ...]``."""
        return steps.sum(0)


class Last(nn.Module):
    """The last step alone, ``y = x[T - 1]``."""

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """``[T, B, ...]`` to ``[B, ...]``."""
        return steps[-1]
