"""Encoders: from values, once per sample, to steps, T per sample.

They take ``x [B, ...]`` to ``[T, B, ...]``, in the dtype of x; time is the first dimension. All but `Direct` give
spikes, 0 or 1: u = clip(x / high, 0, 1) is rounded to a level n, halves to even, and the level says in which steps
there is a spike. ``high`` is frozen (see `scale`), so what becomes of a sample depends on no other. Training and eval
mode compute the same.

`RateCode`, `TTFS`, `Delta` and `Phase` have a straight-through gradient. With w_t what a spike at step t is worth to
the decoder, so that it gives high * sum_t w_t s_t,

    ds_t/dx = 1 / (high * sum_t w_t)      where 0 <= x <= high, else 0

and the decoded value has the gradient of clip(x, 0, high), as if nothing had been rounded. `BitPlane` has surrogate
gradients of its own, see `planes`.
"""

from __future__ import annotations

import torch
from torch import nn

from hsnn_compiler.nn.planes import MOST_PLANES, SLOPES, Planes, levels
from hsnn_compiler.nn.scale import Scaled


def _steps(timesteps: int) -> int:
    if timesteps < 1:
        raise ValueError(f"timesteps must be at least 1, not {timesteps}")
    return int(timesteps)


class Direct(nn.Module):
    """Direct coding: the same values at every step.

        y[t] = x,    t = 0 .. timesteps - 1

    The first layer of the body thus sees real numbers and is the one that turns them
    into spikes (Rueckauer et al., Frontiers in Neuroscience 11:682, 2017, section 2.3).
    """

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        self.timesteps = _steps(timesteps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x [B, ...]`` to a view ``[T, B, ...]``; nothing is copied."""
        return x.unsqueeze(0).expand(self.timesteps, *x.shape)

    def extra_repr(self) -> str:
        """Show the number of steps in ``print(model)``."""
        return f"timesteps={self.timesteps}"


class _SpikeEncoder(Scaled):
    """Number of steps and scale, which all encoders to spikes have in common."""

    def __init__(self, timesteps: int, high: float) -> None:
        super().__init__(high)
        self.timesteps = _steps(timesteps)

    def extra_repr(self) -> str:
        """Show steps and scale in ``print(model)``."""
        return f"timesteps={self.timesteps}, high={self.high.item():g}"


class BitPlane(_SpikeEncoder):
    """The bits of the value, the most significant first.

        n = rint(u (2^T - 1)),    s[t] = bit T - 1 - t of n

    `BitPlaneSum` gives n / (2^T - 1) * high back: with T = 8, every value of 8 bits.

    Args:
        timesteps: T, the number of bits, 1 to 16.
        high: the value of u = 1, until calibrated.
        surrogate: ``"fourier"``, ``"sigsine"`` or ``"tanhsine"``, see `planes`.
        rescale: order-aware rescaling of the gradients of planes; with T = 1 it would leave none, and is refused.
    """

    def __init__(self, timesteps: int = 8, high: float = 1.0, surrogate: str = "fourier", rescale: bool = True) -> None:
        super().__init__(timesteps, high)
        if timesteps > MOST_PLANES:
            raise ValueError(f"timesteps of bit planes are at most {MOST_PLANES}, not {timesteps}")
        if surrogate not in SLOPES:
            raise ValueError(f"surrogate must be one of {sorted(SLOPES)}, not {surrogate!r}")
        if rescale and timesteps == 1:
            raise ValueError("rescale leaves a single plane no gradient: rescale=False with timesteps=1")
        self.surrogate = surrogate
        self.rescale = bool(rescale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x [B, ...]`` to spikes ``[T, B, ...]``."""
        self._observe(x)
        spikes: torch.Tensor = Planes.apply(x, self.high, self.timesteps, self.surrogate, self.rescale)  # type: ignore[no-untyped-call]
        return spikes

    def extra_repr(self) -> str:
        """Show steps, scale and surrogate in ``print(model)``."""
        return f"{super().extra_repr()}, surrogate={self.surrogate!r}, rescale={self.rescale}"


class _StraightThrough(_SpikeEncoder):
    """Spikes by a rule for levels, with the straight-through gradient; subclasses give the rule."""

    def __init__(self, timesteps: int, high: float = 1.0) -> None:
        super().__init__(timesteps, high)

    @property
    def count(self) -> int:
        """The largest level."""
        return self.timesteps

    @property
    def worth(self) -> float:
        """Sum over the steps of what a spike is worth to the decoder, sum_t w_t."""
        return 1.0

    def spikes(self, level: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Whether there is a spike: levels int64 ``[B, ...]``, steps int64 ``[T, 1, ...]``."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x [B, ...]`` to spikes ``[T, B, ...]``."""
        self._observe(x)
        t = torch.arange(self.timesteps, device=x.device).reshape(-1, *[1] * x.dim())
        spikes = self.spikes(levels(x, self.high, self.count), t).to(x.dtype)
        if not x.requires_grad:
            return spikes
        through = (x / self.high.to(x.dtype)).clamp(0, 1) / self.worth
        return spikes + (through - through.detach())  # the difference is zero and has a gradient


class RateCode(_StraightThrough):
    """As many spikes as the value is large, evenly spaced.

        n = rint(u T),    s[t] = 1 if floor((t + 1) n / T) > floor(t n / T)

    Decoded by `Rate` (in units of ``high``): w_t = 1/T, ds_t/dx = 1 / high.

    Args:
        timesteps: T, at least 1.
        high: the value of u = 1, until calibrated.
    """

    def spikes(self, level: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return (t + 1) * level // self.timesteps > t * level // self.timesteps


class TTFS(_StraightThrough):
    """Time to first spike (latency): one spike, the earlier the larger the value.

        n = rint(u T),    s[t] = 1 if t = T - n and n > 0

    Decoded by `FirstSpikeTime`: w_t = (T - t)/T, ds_t/dx = 2 / ((T + 1) high). Arguments as in `RateCode`.
    """

    @property
    def worth(self) -> float:
        """(T + 1) / 2."""
        return (self.timesteps + 1) / 2

    def spikes(self, level: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """See the class; t = T - 0 is no step."""
        return level == self.timesteps - t


class Delta(_StraightThrough):
    """Send-on-delta from zero, in steps of 1/T: a spike for every step the value has to be raised.

        n = rint(u T),    s[t] = 1 if t < n

    Decoded by `Rate` (in units of ``high``): w_t = 1/T, ds_t/dx = 1 / high. Arguments as in `RateCode`.
    """

    def spikes(self, level: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return level > t


class Phase(_StraightThrough):
    """Phase coding: the bits of the value, most significant first, again in every period.

        n = rint(u (2^K - 1)),    s[t] = bit K - 1 - (t mod K) of n

    A spike in phase j = t mod K stands for 2^-(1+j) (Kim et al., "Deep neural networks with weighted spikes",
    Neurocomputing 311, 2018). Decoded by `PhaseSum`: w_t sums to 1, ds_t/dx = 1 / high.

    Args:
        timesteps: T, a multiple of the period.
        high: the value of u = 1, until calibrated.
        period: K, the number of bits, 1 to 16.
    """

    def __init__(self, timesteps: int = 8, high: float = 1.0, period: int = 8) -> None:
        super().__init__(timesteps, high)
        if not 1 <= period <= MOST_PLANES:
            raise ValueError(f"period must be from 1 to {MOST_PLANES}, not {period}")
        if timesteps % period:
            raise ValueError(f"timesteps must be a multiple of the period {period}, not {timesteps}")
        self.period = int(period)

    @property
    def count(self) -> int:
        """2^K - 1."""
        return 2**self.period - 1

    def spikes(self, level: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return level >> (self.period - 1 - t % self.period) & 1

    def extra_repr(self) -> str:
        """Show steps, scale and period in ``print(model)``."""
        return f"{super().extra_repr()}, period={self.period}"
