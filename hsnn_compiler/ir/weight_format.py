"""Weights as integers of Loihi.

They follow `lava.utils.weightutils`: with mixed signs the lowest bit is lost, so 8-bit weights are even integers
between -256 and 254; weights of one sign use all of 0..255.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class WeightFormat:
    """Range and step of the integers of one synapse op."""

    sign_mode: str
    bits: int

    @property
    def step(self) -> int:
        """Distance between neighbouring integers."""
        return 1 << (8 - self.bits + (self.sign_mode == "mixed"))

    @property
    def low(self) -> int:
        """Smallest integer."""
        return {"mixed": -256, "excitatory": 0, "inhibitory": -(255 // self.step) * self.step}[self.sign_mode]

    @property
    def high(self) -> int:
        """Largest integer."""
        return 0 if self.sign_mode == "inhibitory" else (255 // self.step) * self.step

    def largest_scale(self, weight: np.ndarray) -> float:
        """Largest factor that keeps every weight inside the range; infinite for zero weights."""
        top, bottom = float(weight.max(initial=0.0)), float(weight.min(initial=0.0))
        up = self.high / top if top > 0 else math.inf
        down = self.low / bottom if bottom < 0 else math.inf
        return min(up, down)

    def round(self, weight: np.ndarray, scale: float) -> tuple[np.ndarray, int]:
        """Integers for ``weight * scale``, int32, and how many were clipped."""
        wanted = np.rint(weight * (scale / self.step)) * self.step
        integers = np.clip(wanted, self.low, self.high)
        if integers.max(initial=0) <= 0:  # all that was positive rounded to 0: for Lava these are inhibitory
            integers = np.maximum(integers, WeightFormat("inhibitory", self.bits).low)
        return integers.astype(np.int32), int((integers != wanted).sum())


def weight_format(weight: np.ndarray, bits: int) -> WeightFormat:
    """The format Lava chooses for these weights (from their signs)."""
    if weight.min(initial=0.0) >= 0:
        return WeightFormat("excitatory", bits)
    if weight.max(initial=0.0) <= 0:
        return WeightFormat("inhibitory", bits)
    return WeightFormat("mixed", bits)
