"""The scale of an encoder: found on data, then frozen.

An encoder divides by ``high``, the value that becomes 1. It must be the same for every sample and batch, in training
and afterwards on the chip, so it is never taken from the batch that is being encoded, except while calibrating.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from hsnn_compiler.nn.loop import reset_states


def positive(high: float) -> torch.Tensor:
    """A scale as a float32 tensor, 0-d. ValueError if it is not one positive number."""
    value = torch.as_tensor(high, dtype=torch.float32).detach().clone()
    if value.dim() or not (bool(value > 0) and bool(value.isfinite())):
        raise ValueError(f"high must be one positive number, not {high}")
    return value


class Scaled(nn.Module):
    """A module with a scale ``high``: a float32 buffer, 0-d, positive; no parameter, and no gradient reaches it.

    While ``calibrating`` is True, each forward pass first makes ``high`` the largest percentile of a batch that was
    seen since calibration began; then it is frozen. A saved or copied module is not calibrating.
    """

    high: torch.Tensor
    _held = False

    def __init__(self, high: float) -> None:
        super().__init__()
        self.register_buffer("high", positive(high))
        self._percentile: float | None = None  # None: not calibrating
        self._seen = False

    @property
    def calibrating(self) -> bool:
        """Whether forward passes still move the scale."""
        return self._percentile is not None

    def start_calibration(self, percentile: float = 100.0) -> None:
        """Forget the scale; the batches to come decide on it. ``percentile`` as in `calibrate`."""
        if not 0 < percentile <= 100:
            raise ValueError(f"percentile must be above 0 and at most 100, not {percentile}")
        self._percentile, self._seen = float(percentile), False

    def freeze(self) -> None:
        """End calibration. Without any positive value seen, the scale stays what it was before."""
        self._percentile, self._seen = None, False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside ``with``, forward passes do not move the scale, though it may be calibrating."""
        before, self._held = self._held, True
        try:
            yield
        finally:
            self._held = before

    @torch.no_grad()
    def calibrate(self, x: torch.Tensor, percentile: float = 100.0) -> None:
        """Set ``high`` on the values of ``x`` that are above zero, and freeze it.

        Args:
            x: values as they will be encoded, of any shape.
            percentile: ``high`` is the smallest of these values that so many percent of them do not exceed:
                100 for the largest. Values beyond it are clipped.

        Raises:
            ValueError: no value of ``x`` is above zero, or the percentile is infinite.
        """
        self.start_calibration(percentile)
        try:
            self._observe(x)
            if not self._seen:
                raise ValueError("no value to calibrate on is above zero")
        finally:
            self.freeze()

    @torch.no_grad()
    def _observe(self, x: torch.Tensor) -> None:
        """Take a batch into the scale, if calibrating."""
        if self._percentile is None or self._held:
            return
        found = x.detach()[x.detach() > 0]
        if not found.numel():
            return
        rank = math.ceil(found.numel() * self._percentile / 100 - 1e-9)
        value = found.kthvalue(max(1, rank)).values
        if not value.isfinite():
            raise ValueError("values to calibrate on must be finite")
        value = value.to(self.high).clamp(min=torch.finfo(torch.float32).tiny)
        self.high.copy_(torch.maximum(self.high, value) if self._seen else value)
        self._seen = True

    def __getstate__(self) -> dict[str, Any]:
        # What torch.save(model) and copy.deepcopy store: the scale, not a calibration in progress.
        return {**self.__dict__, "_percentile": None, "_seen": False, "_held": False}


@contextmanager
def calibration(model: nn.Module, percentile: float = 100.0) -> Iterator[None]:
    """All encoders of ``model`` calibrate on the batches that run through it inside ``with``, then are frozen."""
    encoders = [part for part in model.modules() if isinstance(part, Scaled)]
    for encoder in encoders:
        encoder.start_calibration(percentile)
    try:
        yield
    finally:
        for encoder in encoders:
            encoder.freeze()


@torch.no_grad()
def calibrate(model: nn.Module, x: torch.Tensor, percentile: float = 100.0) -> None:
    """Calibrate the encoders of ``model`` on ``x [B, ...]``, in the order it calls them, and freeze them.

    The model runs once, in eval mode, so batch norm learns nothing. Each encoder sees what those before it, already
    calibrated, let through.
    """
    modes = {part: part.training for part in model.modules()}
    model.eval()
    try:
        with calibration(model, percentile):
            model(x)
    finally:
        for part, training in modes.items():
            part.training = training
        reset_states(model)
