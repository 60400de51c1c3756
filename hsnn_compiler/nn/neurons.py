"""Spiking neurons, one step per call, with their state inside.

One call is one time step, in this order and nothing else:

    v <- beta * v + current           integrate (IF: v <- v + current)
    s  = 1 if v > threshold else 0    strict test
    v <- v - s * threshold            reset="subtract"
    v <- v * (1 - s)                  reset="zero"

There is no input gain, no refractory time and no delay: the current of a step can
make the neuron fire in that step. Currents, potentials and thresholds share one
dimensionless unit. All arithmetic is in the dtype of the current, float32 as a rule.
The reset path is detached: gradients flow through the spike and through the
potential, not through the reset (Zenke & Vogels, Neural Computation 33(4), 2021).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from hsnn_compiler.nn.surrogate import SURROGATES

Reset = Literal["subtract", "zero"]
"""What a spike does to the potential: take the threshold away, or set it to zero."""


def _coefficient(name: str, value: float | torch.Tensor) -> torch.Tensor:
    """A float32 copy of a number or of a 1-d per-channel tensor."""
    tensor = torch.as_tensor(value).detach().to(torch.float32).clone()
    if tensor.dim() > 1:
        raise ValueError(f"{name} must be a number or a 1-d tensor, not of shape {tuple(tensor.shape)}")
    return tensor


class _Neuron(nn.Module):
    """State, threshold, reset and surrogate, which LIF and IF have in common."""

    threshold: torch.Tensor
    reset: Reset
    surrogate: str
    v_init: float

    def __init__(self, threshold: float | torch.Tensor, reset: Reset, surrogate: str, v_init: float) -> None:
        super().__init__()
        if reset not in ("subtract", "zero"):
            raise ValueError(f"reset must be 'subtract' or 'zero', not {reset!r}")
        if surrogate not in SURROGATES:
            raise ValueError(f"surrogate must be one of {sorted(SURROGATES)}, not {surrogate!r}")
        self.register_buffer("threshold", _coefficient("threshold", threshold))
        self.reset = reset
        self.surrogate = surrogate
        self.v_init = float(v_init)
        self._v: torch.Tensor | None = None

    @property
    def v(self) -> torch.Tensor | None:
        """Potential after the last step, shaped like the current; None before the first."""
        return self._v

    def reset_state(self) -> None:
        """Forget the potential; the next step starts from ``v_init``."""
        self._v = None

    def __getstate__(self) -> dict[str, Any]:
        # What torch.save(model) and copy.deepcopy store: the neuron, not one run's potentials.
        return {**self.__dict__, "_v": None}

    def _broadcast(self, name: str, current: torch.Tensor) -> torch.Tensor:
        """Shape a per-channel coefficient [C] as [C, 1, ...] for currents [B, C, ...]."""
        value: torch.Tensor = getattr(self, name)
        if value.dim() == 0:
            return value
        if current.dim() < 2 or current.shape[1] != value.numel():
            raise ValueError(f"{name} holds {value.numel()} channels, the current is of shape {tuple(current.shape)}")
        return value.reshape(-1, *[1] * (current.dim() - 2))

    def _previous(self, current: torch.Tensor) -> torch.Tensor:
        """The potential before this step, checked against the shape of the current."""
        if self._v is None:
            return torch.full_like(current, self.v_init)
        if self._v.shape != current.shape:
            # Broadcasting would silently mix samples of two runs.
            raise ValueError(
                f"state of shape {tuple(self._v.shape)} meets a current of shape {tuple(current.shape)}:"
                " call reset_state() before a new input"
            )
        return self._v

    def _fire(self, v: torch.Tensor) -> torch.Tensor:
        """Test the threshold, reset, keep the new potential and return the spikes."""
        threshold = self._broadcast("threshold", v)
        spikes: torch.Tensor = SURROGATES[self.surrogate].apply(v, threshold)
        fired = spikes.detach()
        self._v = v - fired * threshold if self.reset == "subtract" else v * (1 - fired)
        return spikes


class LIF(_Neuron):
    """Leaky integrate-and-fire neurons.

        v <- beta * v + current,    s = 1 if v > threshold else 0,    reset

    Args:
        beta: share of the potential kept per step, 0 to 1, a number or one per channel.
        threshold: a number or one per channel.
        reset: ``"subtract"`` takes the threshold from the potential of neurons that
            fired, ``"zero"`` sets it to zero.
        surrogate: ``"atan"``, ``"fast_sigmoid"``, ``"sigmoid"`` or ``"triangle"``, see `surrogate`.
        v_init: potential before the first step.

    ``beta`` and ``threshold`` are float32 buffers, 0-d or ``[C]``; ``reset``,
    ``surrogate`` and ``v_init`` are plain attributes. The potential is in neither the
    state_dict nor a saved module.
    """

    beta: torch.Tensor

    def __init__(
        self,
        beta: float | torch.Tensor = 0.9,
        threshold: float | torch.Tensor = 1.0,
        reset: Reset = "subtract",
        surrogate: str = "atan",
        v_init: float = 0.0,
    ) -> None:
        super().__init__(threshold, reset, surrogate, v_init)
        self.register_buffer("beta", _coefficient("beta", beta))

    def forward(self, current: torch.Tensor) -> torch.Tensor:
        """One step: current ``[B, C, ...]`` to spikes 0/1 of the same shape and dtype."""
        return self._fire(self._broadcast("beta", current) * self._previous(current) + current)

    def extra_repr(self) -> str:
        """Summarise the coefficients for ``print(model)``."""
        return f"beta={_text(self.beta)}, threshold={_text(self.threshold)}, reset={self.reset!r}"


class IF(_Neuron):
    """Integrate-and-fire neurons: no leak.

        v <- v + current,    s = 1 if v > threshold else 0,    reset

    Arguments and attributes are those of `LIF`, without ``beta``.
    """

    def __init__(
        self,
        threshold: float | torch.Tensor = 1.0,
        reset: Reset = "subtract",
        surrogate: str = "atan",
        v_init: float = 0.0,
    ) -> None:
        super().__init__(threshold, reset, surrogate, v_init)

    def forward(self, current: torch.Tensor) -> torch.Tensor:
        """One step: current ``[B, C, ...]`` to spikes 0/1 of the same shape and dtype."""
        return self._fire(self._previous(current) + current)

    def extra_repr(self) -> str:
        """Summarise the coefficients for ``print(model)``."""
        return f"threshold={_text(self.threshold)}, reset={self.reset!r}"


def _text(coefficient: torch.Tensor) -> str:
    return f"{coefficient.item():g}" if coefficient.dim() == 0 else f"[{coefficient.numel()} channels]"
