"""Spikes with a surrogate gradient.

The forward pass is always the exact, strict threshold test

    s = 1 if v > threshold else 0

and only its derivative, which is zero almost everywhere, is replaced. With the
distance to threshold ``u = v - threshold`` each class below states the function
``ds/dv = g(u)`` that stands in for it; for a threshold that is trained, ``ds/dthreshold = -g(u)``.
"""

from __future__ import annotations

import math
from typing import Any

import torch


class _Spike(torch.autograd.Function):
    """The threshold test; subclasses give the pseudo-derivative ``g(u)``."""

    @staticmethod
    def slope(u: torch.Tensor) -> torch.Tensor:
        """Pseudo-derivative ``ds/dv`` at the distance ``u = v - threshold``."""
        raise NotImplementedError

    @staticmethod
    def forward(ctx: Any, v: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
        """Return 0/1 spikes ``v > threshold`` in the shape and dtype of ``v``."""
        ctx.save_for_backward(v - threshold)
        ctx.threshold_shape = threshold.shape
        # Not `v - threshold > 0`: with denormals flushed to zero that is another test.
        return (v > threshold).to(v.dtype)

    @classmethod  # torch calls it on the class that was applied, whose slope is wanted
    def backward(cls, ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the upstream gradient times ``g(u)``, and the same with a minus for a threshold that is trained."""
        (u,) = ctx.saved_tensors
        slope = upstream * cls.slope(u)
        return slope, -slope.sum_to_size(ctx.threshold_shape) if ctx.needs_input_grad[1] else None


class ATan(_Spike):
    """Derivative of a scaled arctangent, ``alpha = 2``.

        g(u) = (alpha / 2) / (1 + (pi/2 * alpha * u)^2)

    ``g(0) = 1`` and the area under ``g`` is 1. Source: Fang et al., "Incorporating
    Learnable Membrane Time Constant to Enhance Learning of Spiking Neural Networks",
    ICCV 2021, equation 11.
    """

    alpha = 2.0

    @staticmethod
    def slope(u: torch.Tensor) -> torch.Tensor:
        """Pseudo-derivative at ``u``."""
        return (ATan.alpha / 2) / (1 + (math.pi / 2 * ATan.alpha * u) ** 2)


class FastSigmoid(_Spike):
    """Derivative of the fast sigmoid ``u / (1 + k |u|)``, ``k = 10``.

        g(u) = 1 / (1 + k |u|)^2

    Source: Zenke & Ganguli, "SuperSpike", Neural Computation 30(6), 2018; ``k = 10``
    after Zenke & Vogels, Neural Computation 33(4), 2021.
    """

    k = 10.0

    @staticmethod
    def slope(u: torch.Tensor) -> torch.Tensor:
        """Pseudo-derivative at ``u``."""
        return 1 / (1 + FastSigmoid.k * u.abs()) ** 2


class Triangle(_Spike):
    """A triangle of height 1 and half width 1.

        g(u) = max(0, 1 - |u|)

    Source: Esser et al., "Convolutional networks for fast, energy-efficient
    neuromorphic computing", PNAS 113(41), 2016.
    """

    @staticmethod
    def slope(u: torch.Tensor) -> torch.Tensor:
        """Pseudo-derivative at ``u``."""
        return (1 - u.abs()).clamp(min=0)


class Sigmoid(_Spike):
    """Derivative of a logistic function, ``alpha = 4``.

        g(u) = alpha * sigma(alpha u) * (1 - sigma(alpha u))

    ``g(0) = 1`` and the area under ``g`` is 1. Source: Neftci, Mostafa & Zenke, "Surrogate Gradient
    Learning in Spiking Neural Networks", IEEE Signal Processing Magazine 36(6), 2019; ``alpha = 4`` as
    in SpikingJelly's ``surrogate.Sigmoid``.
    """

    alpha = 4.0

    @staticmethod
    def slope(u: torch.Tensor) -> torch.Tensor:
        """Pseudo-derivative at ``u``."""
        soft = torch.sigmoid(Sigmoid.alpha * u)
        return Sigmoid.alpha * soft * (1 - soft)


SURROGATES: dict[str, type[_Spike]] = {
    "atan": ATan,
    "fast_sigmoid": FastSigmoid,
    "sigmoid": Sigmoid,
    "triangle": Triangle,
}
"""Surrogates by the name that ``LIF(surrogate=...)`` takes."""
