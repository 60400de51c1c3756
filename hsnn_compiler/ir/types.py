"""What flows along an edge, and where a node runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum


class Coding(str, Enum):
    """How a tensor carries information.

    ``VALUE`` exists once per sample; the other three exist once per time step.
    """

    VALUE = "value"
    CURRENT = "current"
    SPIKES = "spikes"
    GRADED = "graded"

    @property
    def per_step(self) -> bool:
        """Whether the tensor has a time axis."""
        return self is not Coding.VALUE


@dataclass(frozen=True)
class TensorType:
    """Shape without batch and time axes, and the coding of what flows.

    Attributes:
        shape: e.g. ``(channels, height, width)``.
        coding: see `Coding`.
    """

    shape: tuple[int, ...]
    coding: Coding = Coding.VALUE

    @property
    def size(self) -> int:
        """Number of elements of one sample (and one step)."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.coding.value}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Placement:
    """Where a node runs, ``"host"`` or ``"chip"``, and why."""

    where: str
    why: str = ""
