"""Random choices, made either by hypothesis (which shrinks them) or by a seeded generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st

T = TypeVar("T")


class Picks:
    """Choices; the first option and the lowest number are the simplest."""

    def __init__(self, integer: Callable[[int, int], int]) -> None:
        self.integer = integer

    @classmethod
    def seeded(cls, seed: int) -> Picks:
        rng = np.random.default_rng(seed)
        return cls(lambda low, high: int(rng.integers(low, high + 1)))

    def choice(self, options: Sequence[T]) -> T:
        return options[self.integer(0, len(options) - 1)]

    def flag(self, one_in: int = 2) -> bool:
        return self.integer(0, one_in - 1) == one_in - 1

    def divisor(self, number: int) -> int:
        """A number that divides another one, the largest first."""
        return self.choice([n for n in range(number, 0, -1) if number % n == 0])

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.integer(0, 999))


@st.composite
def picks(draw: Any) -> Picks:
    """A `Picks` whose choices hypothesis makes, while the test runs."""
    data = draw(st.data())
    return Picks(lambda low, high: data.draw(st.integers(low, high)))
