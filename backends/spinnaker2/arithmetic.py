"""SpiNNaker 2's arithmetic, as far as it is known: int8 weights added up exactly, potentials in float32.

Assumed, because the chip's own code is not public: parameters are float32 (they are sent as such), the sum of what
arrives is exact, the step is (alpha V + i_offset) + sum with each operation rounded, and a spike comes where V is above
the threshold, not at it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.backends.spinnaker.execute import Given
from hsnn_compiler.backends.spinnaker.float_run import FloatArithmetic
from hsnn_compiler.backends.spinnaker.netlist import Population, Turn
from hsnn_compiler.backends.spinnaker2.netlist import LifPopulation
from hsnn_compiler.reference.spinnaker2_cells import SUBTRACT


class LifNeurons:
    """Potentials in units of weights, float32.

    Args:
        population: neurons, a readout, or relays.
        given: what is presented.
        batch: samples.
    """

    def __init__(self, population: LifPopulation, given: Given, batch: int) -> None:
        assert population.scale is not None
        self.saturated = 0
        self.alpha = _column(population.beta)
        self.threshold = None if population.threshold is None else _column(population.threshold)
        self.offset = torch.from_numpy(offsets(population, given).T.copy())
        self.subtract = population.reset == SUBTRACT
        self.scale = population.scale[:, None]
        self.v = _column(population.v_init).expand(population.size, batch)

    def step(self, arrived: list[Tensor]) -> Tensor:
        """See `hsnn_compiler.backends.spinnaker.stepping.Neurons`; what arrives is integers."""
        self.v = (self.alpha * self.v + self.offset) + arrived[0].to(torch.float32)
        if self.threshold is None:
            return torch.zeros(self.v.shape, dtype=torch.float64)
        fires = self.v > self.threshold
        rest = self.v - self.threshold if self.subtract else torch.zeros_like(self.v)
        self.v = torch.where(fires, rest, self.v)
        return fires.to(torch.float64)

    def potential(self) -> np.ndarray:
        """In the model's units."""
        return self.v.numpy().astype(np.float64) / self.scale


class Int8Arithmetic(FloatArithmetic):
    """Sums of integers are exact in float64; neurons are the chip's."""

    def neurons(self, turn: Turn, population: Population, given: Given, batch: int) -> LifNeurons:  # type: ignore[override]
        """See `hsnn_compiler.backends.spinnaker.stepping.Arithmetic`."""
        assert isinstance(population, LifPopulation)
        return LifNeurons(population, given, batch)


def offsets(population: LifPopulation, given: Given) -> np.ndarray:
    """``i_offset`` with what is presented, float32 [samples or 1, size]."""
    assert population.bias is not None
    assert population.scale is not None
    if not population.presented:
        return population.bias[None].astype(np.float32)
    value = np.asarray(given.currents[population.presented], np.float64)
    shown: np.ndarray = population.bias[None] + value.reshape(len(value), -1) * population.scale
    return shown.astype(np.float32)


def _column(array: np.ndarray | None) -> Tensor:
    assert array is not None
    return torch.from_numpy(np.asarray(array, np.float32)[:, None])
