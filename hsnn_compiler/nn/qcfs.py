"""QCFS: an activation of few levels, which integrate-and-fire neurons can take over without loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class _Floor(torch.autograd.Function):
    """floor(x), with the gradient of x."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.floor()

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> torch.Tensor:
        return upstream


class QCFS(nn.Module):
    """Quantised clip-floor-shift activation (Bu et al., "Optimal ANN-SNN Conversion", ICLR 2022, arXiv 2303.04347).

        h(x) = threshold * floor(clip(x / threshold, 0, 1) * L + 1/2) / L

    Neurons with this threshold, half of it as their first potential, and L steps fire at the rate h / threshold.
    The floor is straight-through, so that (inside means 0 <= x <= threshold)

        dh/dx         = 1 inside, else 0
        dh/dthreshold = (h - x) / threshold inside, 0 below, 1 above

    Args:
        levels: L, at least 1; with zero there is one value more.
        threshold: where it starts; a learnable parameter, float32, one number for all or, as a 1-d tensor or with
            ``channels``, one per channel.
        channels: number of channels, if each is to learn a threshold of its own from the same start.
    """

    def __init__(self, levels: int = 8, threshold: float | torch.Tensor = 1.0, channels: int | None = None) -> None:
        super().__init__()
        if levels < 1:
            raise ValueError(f"levels must be at least 1, not {levels}")
        value = torch.as_tensor(threshold).detach().to(torch.float32).clone()
        if value.dim() > 1 or (channels is not None and value.dim()):
            raise ValueError("threshold must be a number or a 1-d tensor, and a number where channels are given")
        if not (bool((value > 0).all()) and bool(value.isfinite().all())):
            raise ValueError(f"threshold must be positive, not {threshold}")
        self.levels = int(levels)
        self.threshold = nn.Parameter(value if channels is None else value.repeat(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x [B, C, ...]`` to the same shape."""
        threshold: torch.Tensor = self.threshold
        if threshold.dim():
            if x.dim() < 2 or x.shape[1] != threshold.numel():
                raise ValueError(f"threshold holds {threshold.numel()} channels, x is of shape {tuple(x.shape)}")
            threshold = threshold.reshape(-1, *[1] * (x.dim() - 2))
        share = torch.clamp(x / threshold, 0, 1)
        level: torch.Tensor = _Floor.apply(share * self.levels + 0.5)  # type: ignore[no-untyped-call]
        return level / self.levels * threshold

    def extra_repr(self) -> str:
        """Show the levels and thresholds in ``print(model)``."""
        value = self.threshold.detach()
        text = f"{value.item():g}" if value.dim() == 0 else f"[{value.numel()} channels]"
        return f"levels={self.levels}, threshold={text}"
