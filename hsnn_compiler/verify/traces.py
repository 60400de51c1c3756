"""Compare recorded signals element by element."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hsnn_compiler.reference.result import Record, Result


@dataclass(frozen=True)
class Difference:
    """One signal that differs.

    Attributes:
        signal: node and variable.
        different, compared: number of elements.
        first: (sample, time step counted from 0, index in the population) of the first difference in time.
        values: the two values there.
    """

    signal: Record
    different: int
    compared: int
    first: tuple[int, ...]
    values: tuple[float, float]

    def __str__(self) -> str:
        node, variable = self.signal
        sample, step, *index = self.first
        return (
            f"{node}.{variable}: {self.different} of {self.compared} differ, first in sample {sample} at step {step}, "
            f"neuron {tuple(index)}: {self.values[0]:g} and {self.values[1]:g}"
        )


def compare(a: Result, b: Result) -> list[Difference]:
    """Differences between the traces two runs have in common; an empty list means none at all.

    Raises ValueError if they have no signal in common: nothing compared is not equality.
    """
    common = [signal for signal in a.trace if signal in b.trace]
    if not common:
        raise ValueError("the two runs recorded no signal in common")
    found = (_difference(signal, a.trace[signal], b.trace[signal]) for signal in common)
    return [difference for difference in found if difference is not None]


def _difference(signal: Record, a: np.ndarray, b: np.ndarray) -> Difference | None:
    if a.shape != b.shape:
        raise ValueError(f"{signal}: shapes {a.shape} and {b.shape}")
    differs = a != b
    if not differs.any():
        return None
    # Earliest step first, then the sample: that is where the cause is.
    places = np.argwhere(differs)
    first = tuple(int(i) for i in places[np.lexsort((places[:, 0], places[:, 1]))[0]])
    return Difference(signal, int(differs.sum()), a.size, first, (float(a[first]), float(b[first])))
