"""Bit planes of whole numbers with a surrogate gradient.

The forward pass is exact. A value x becomes u = clip(x / high, 0, 1), the level n = rint(u (2^T - 1)) and T planes,
the most significant first: step t holds bit k = T - 1 - t of n, which weighs c = 2^k.

Backward, with y = u (2^T - 1), not rounded, each plane has a smooth stand-in B(y) for the square wave of period 2 c
that its bit is; its derivative dB/dy is one of `SLOPES`. Together with the clip and the scale

    dL/dx = (2^T - 1) / high * sum_t (dL/ds_t) r_k dB_k(y)      where 0 < x < high, else 0

At both ends there is no bit left to change, though the wave is steepest there, and behind a ReLU many values are 0.
r_k is 1, or with order-aware rescaling k / 2^(T-1-k): the lower a plane, the faster it alternates, the less its
derivative says about the value. It takes the lowest plane out and leaves the highest a factor T - 1.

Source: Luu et al., "Hybrid Layer-Wise ANN-SNN With Surrogate Spike Encoding-Decoding Structure", arXiv 2509.24411,
there for T = 8. Square waves start at y = 0, though rounding makes bits change half a level earlier.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

MOST_PLANES = 16
"""Bits of a level: float32 still holds every value that decoders compute of them."""
ALPHA = -10.0
"""Steepness of the sine inside `sigsine` and `tanhsine`."""
TERMS = 5
"""Odd terms of the Fourier series: n = 1, 3, 5, 7, 9."""


def _fourier(phase: torch.Tensor, weight: float) -> torch.Tensor:
    """B = 1/2 - (2/pi) sum_n sin(n pi y / c) / n;  dB = -(2/c) sum_n cos(n pi y / c)."""
    total = torch.zeros_like(phase)
    for n in range(1, 2 * TERMS, 2):
        total += torch.cos(n * math.pi * phase)
    return -2 / weight * total


def _inner(phase: torch.Tensor, weight: float) -> tuple[torch.Tensor, torch.Tensor]:
    """w = alpha sin(pi y / c) and dw/dy."""
    angle = math.pi * phase
    return ALPHA * torch.sin(angle), ALPHA * math.pi / weight * torch.cos(angle)


def _sigsine(phase: torch.Tensor, weight: float) -> torch.Tensor:
    """B = sigma(w), w = alpha sin(pi y / c);  dB = sigma(w) (1 - sigma(w)) alpha pi/c cos(pi y / c)."""
    w, slope = _inner(phase, weight)
    bit = torch.sigmoid(w)
    return bit * (1 - bit) * slope


def _tanhsine(phase: torch.Tensor, weight: float) -> torch.Tensor:
    """B = (1 + tanh(w)) / 2, w as in sigsine;  dB = sech^2(w) / 2 * alpha pi/c cos(pi y / c)."""
    w, slope = _inner(phase, weight)
    return (1 - torch.tanh(w) ** 2) / 2 * slope


SLOPES: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "fourier": _fourier,
    "sigsine": _sigsine,
    "tanhsine": _tanhsine,
}
"""dB/dy of a plane, of y / c (in [0, 2), the wave's period) and its weight c, by the name that
``BitPlane(surrogate=...)`` takes."""


def levels(x: torch.Tensor, high: torch.Tensor, count: int) -> torch.Tensor:
    """n = rint(clip(x / high, 0, 1) count), halves to even, int64; in float64, so that no other width decides."""
    u = x.detach().to(torch.float64) / high.to(torch.float64)
    return torch.round(u.clamp(0, 1) * count).to(torch.int64)


class Planes(torch.autograd.Function):
    """Planes of the levels of x, ``[T, *x.shape]`` in the dtype of x; see the module for both directions."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, high: torch.Tensor, timesteps: int, surrogate: str, rescale: bool
    ) -> torch.Tensor:
        """Spikes 0/1, most significant plane first."""
        ctx.save_for_backward(x, high)
        ctx.surrogate, ctx.rescale = surrogate, rescale
        level = levels(x, high, 2**timesteps - 1)
        return torch.stack([(level >> k & 1).to(x.dtype) for k in reversed(range(timesteps))])

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        """The gradient for x, and none for the scale."""
        x, high = ctx.saved_tensors
        steps, slope = len(upstream), SLOPES[ctx.surrogate]
        u = x / high.to(x.dtype)
        y = u.clamp(0, 1) * (2**steps - 1)
        total = torch.zeros_like(x)
        for t in range(steps):
            k = steps - 1 - t
            factor = k / 2 ** (steps - 1 - k) if ctx.rescale else 1.0
            if factor:
                # y / c mod 2 is exact, so that large angles lose no digits.
                total += upstream[t] * slope(torch.remainder(y / 2**k, 2), float(2**k)) * factor
        inside = (u > 0) & (u < 1)
        return total * inside * ((2**steps - 1) / high.to(x.dtype)), None, None, None, None
