"""Decoders: from steps, T per sample, to values, once per sample: ``[T, B, ...]`` to ``[B, ...]``.

T is the length of what they are given. All are linear in the steps, but for `FirstSpikeTime`.
"""

from __future__ import annotations

import torch
from torch import nn

from hsnn_compiler.nn.planes import MOST_PLANES
from hsnn_compiler.nn.scale import positive


def _weighted(steps: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """sum_t weights[t] steps[t]; whole weights times spikes add up exactly in float32."""
    return torch.tensordot(weights.to(steps), steps, 1)


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


class Membrane(nn.Module):
    """The potential, after the last step, of an integrator that never fires.

        v <- beta v + x[t],  t = 0 .. T - 1, from v = 0;    y = v = sum_t beta^(T-1-t) x[t]

    Behind a layer with weights it reads currents instead of spikes; with beta = 1 it is their sum.

    Args:
        beta: share of the potential kept per step, 0 to 1; a float32 buffer.
    """

    beta: torch.Tensor

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must be from 0 to 1, not {beta}")
        self.register_buffer("beta", torch.tensor(float(beta)))

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """``[T, B, ...]`` to ``[B, ...]``."""
        beta = self.beta.to(steps.dtype)
        v = torch.zeros_like(steps[0])
        for current in steps:
            v = beta * v + current
        return v

    def extra_repr(self) -> str:
        """Show the leak in ``print(model)``."""
        return f"beta={self.beta.item():g}"


class _ScaledDecoder(nn.Module):
    """The scale, a float32 buffer, which decoders of codes have in common."""

    high: torch.Tensor

    def __init__(self, high: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("high", positive(high))

    def extra_repr(self) -> str:
        """Show the scale in ``print(model)``."""
        return f"high={self.high.item():g}"


class BitPlaneSum(_ScaledDecoder):
    """Bit planes, the most significant first, put together.

        y = sum_t 2^(T-1-t) x[t] / (2^T - 1) * high

    T is at most 16. It takes any steps, not only spikes; spikes of `BitPlane` give the value back. arXiv 2509.24411.

    Args:
        high: the value of a spike in every step; a float32 buffer.
    """

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """``[T, B, ...]`` to ``[B, ...]``."""
        count = len(steps)
        if count > MOST_PLANES:
            raise ValueError(f"bit planes are at most {MOST_PLANES}, not {count}")
        weights = 2.0 ** torch.arange(count - 1, -1, -1, device=steps.device)
        return _weighted(steps, weights) / (2**count - 1) * self.high.to(steps.dtype)


class PhaseSum(_ScaledDecoder):
    """Spikes of phase coding, each with the weight of its phase, averaged over the periods of K steps.

        y = (K/T) 2^K / (2^K - 1) sum_t 2^-(1 + t mod K) x[t] * high

    so that a spike in every step gives ``high``. Weights of phases: Kim et al., Neurocomputing 311, 2018.

    Args:
        high: the value of a spike in every step; a float32 buffer.
        period: K, 1 to 16; the number of steps must be a multiple of it.
    """

    def __init__(self, high: float = 1.0, period: int = 8) -> None:
        super().__init__(high)
        if not 1 <= period <= MOST_PLANES:
            raise ValueError(f"period must be from 1 to {MOST_PLANES}, not {period}")
        self.period = int(period)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """``[T, B, ...]`` to ``[B, ...]``."""
        periods, rest = divmod(len(steps), self.period)
        if rest:
            raise ValueError(f"{len(steps)} steps are no multiple of the period {self.period}")
        weights = 2.0 ** torch.arange(self.period - 1, -1, -1, device=steps.device).repeat(periods)
        return _weighted(steps, weights) / (periods * (2**self.period - 1)) * self.high.to(steps.dtype)

    def extra_repr(self) -> str:
        """Show scale and period in ``print(model)``."""
        return f"{super().extra_repr()}, period={self.period}"


class FirstSpikeTime(_ScaledDecoder):
    """The time of the first spike; later ones do not count.

        y = (T - t) / T * high,  t the first step with x[t] > 0;    0 without any

    Straight-through: the gradient is that of sum_t (T - t)/T x[t] * high, which is the same value where there is at
    most one spike. Behind `TTFS` the two gradients give that of clip(x, 0, high).

    Args:
        high: the value of a spike at step 0; a float32 buffer.
    """

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """Spikes ``[T, B, ...]`` to ``[B, ...]``."""
        count = len(steps)
        weights = torch.arange(count, 0, -1, device=steps.device).to(steps.dtype)
        shaped = weights.reshape(-1, *[1] * (steps.dim() - 1))
        first = (shaped * (steps.detach() > 0)).amax(0)  # the earliest is worth most
        if steps.requires_grad:
            through = _weighted(steps, weights)
            first = first + (through - through.detach())
        return first / count * self.high.to(steps.dtype)
