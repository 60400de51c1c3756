"""Random hybrid PyTorch models: values and spikes take turns, with skips over turns, sums and concatenations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from picks import Picks
from torch import nn

from hsnn_compiler.nn import (
    IF,
    LIF,
    TTFS,
    BitPlane,
    BitPlaneSum,
    Delta,
    Direct,
    Phase,
    PhaseSum,
    Rate,
    RateCode,
    Sum,
    TimeLoop,
    calibrate,
)

STEPS = 4
CODES: list[Callable[[], nn.Module]] = [
    lambda: Direct(STEPS),
    lambda: BitPlane(STEPS),
    lambda: RateCode(STEPS),
    lambda: TTFS(STEPS),
    lambda: Delta(STEPS),
    lambda: Phase(STEPS, period=2),
]
DECODERS: list[Callable[[], nn.Module]] = [Rate, Sum, BitPlaneSum, lambda: PhaseSum(period=2)]
NEURONS: list[Callable[[], nn.Module]] = [
    IF,
    lambda: LIF(0.75),
    lambda: LIF(0.9, reset="zero"),
    lambda: IF(threshold=0.5, reset="zero"),
]


class Hybrid(nn.Module):
    """Blocks of the same width one after the other, each of which may also see an earlier one.

    Attributes:
        skips: by block, the earlier result that is added to its input, or -1.
        joins: by block, the earlier result of which the first half replaces that of its input, or -1.
    """

    def __init__(self, blocks: list[nn.Module], skips: list[int], joins: list[int], head: nn.Module) -> None:
        super().__init__()
        self.blocks, self.skips, self.joins, self.head = nn.ModuleList(blocks), skips, joins, head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, ...]`` to ``[B, 5]``."""
        done = [x]
        for block, skip, join in zip(self.blocks, self.skips, self.joins, strict=True):
            now = done[-1]
            if skip >= 0:
                now = now + done[skip]
            if join >= 0:
                half = now.shape[1] // 2
                now = torch.cat([done[join][:, :half], now[:, half:]], 1)
            done.append(block(now))
        result: torch.Tensor = self.head(done[-1])
        return result


def random_hybrid(pick: Picks) -> tuple[Hybrid, np.ndarray]:
    """A model in eval mode with calibrated encoders, and inputs for it [samples, ...]."""
    torch.manual_seed(pick.integer(0, 10**6))
    is_image = pick.flag(2)
    width = 4 if is_image else 2 * pick.integer(2, 5)
    shape = (width, 5, 4) if is_image else (width,)

    def weights() -> nn.Module:
        return nn.Conv2d(width, width, 3, padding=1) if is_image else nn.Linear(width, width)

    def values() -> nn.Module:
        norm = nn.BatchNorm2d(width) if is_image else nn.LayerNorm(width)
        return nn.Sequential(
            weights(), pick.choice([norm, nn.Identity()]), pick.choice([nn.ReLU(), nn.GELU(), nn.Sigmoid()])
        )

    def spikes() -> nn.Module:
        body = [part for _ in range(pick.integer(1, 2)) for part in (weights(), pick.choice(NEURONS)())]
        ends_in_neurons = pick.flag()
        decoder = pick.choice(DECODERS)() if ends_in_neurons else Rate()
        return TimeLoop(pick.choice(CODES)(), nn.Sequential(*body if ends_in_neurons else [*body, weights()]), decoder)

    blocks = [spikes() if turn or pick.flag(2) else values() for turn in [True, False, True][: pick.integer(2, 3)]]
    blocks = [values() if pick.flag() else nn.Identity(), *blocks]
    skips = [pick.integer(-1, i - 1) if i else -1 for i in range(len(blocks))]
    joins = [pick.integer(-1, i - 1) if i and pick.flag(2) else -1 for i in range(len(blocks))]
    head = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 5), pick.choice([nn.Identity(), nn.Softmax(-1)]))
    model = Hybrid(blocks, skips, joins, head).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2.0)
    x = np.random.default_rng(pick.integer(0, 10**6)).random((16, *shape), dtype=np.float32)
    calibrate(model, torch.from_numpy(x))
    return model, x
