"""Netlists in float64: the definition of what one means."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.backends.spinnaker.execute import Given, Progress, TurnResult, bias_of
from hsnn_compiler.backends.spinnaker.netlist import Population, Turn
from hsnn_compiler.backends.spinnaker.stepping import Stepped, Synapses, sparse
from hsnn_compiler.reference.result import Record


class FloatNeurons:
    """V <- beta V + bias + arrived; a spike where V >= threshold, and V is zero then.

    Args:
        population: neurons or a readout.
        given: what is presented.
        batch: samples.
    """

    def __init__(self, population: Population, given: Given, batch: int) -> None:
        column = (population.size, 1)
        self.saturated = 0
        self.beta = _tensor(population.beta, column)
        self.threshold = None if population.threshold is None else _tensor(population.threshold, column)
        self.bias = torch.from_numpy(np.ascontiguousarray(bias_of(population, given).T))
        self.v = _tensor(population.v_init, column).expand(population.size, batch)

    def step(self, arrived: list[Tensor]) -> Tensor:
        """See `Neurons`."""
        self.v = self.beta * self.v + self.bias + arrived[0]
        if self.threshold is None:
            return torch.zeros_like(self.v)
        fires = self.v >= self.threshold
        self.v = torch.where(fires, 0.0, self.v)
        return fires.to(torch.float64)

    def potential(self) -> np.ndarray:
        """See `Neurons`."""
        return self.v.numpy().copy()


class FloatArithmetic:
    """Real numbers, all synapses of a neuron in one sum."""

    channels = 1

    def __init__(self) -> None:
        self.clipped: dict[str, int] = {}

    def synapses(self, turn: Turn, population: Population) -> list[Synapses]:
        """See `Arithmetic`."""
        return [
            Synapses(
                p.pre_population,
                sparse(p.pre, p.post, p.weight, (population.size, turn.populations[p.pre_population].size)),
                p.delay,
            )
            for p in turn.arriving(population.name)
        ]

    def neurons(self, turn: Turn, population: Population, given: Given, batch: int) -> FloatNeurons:
        """See `Arithmetic`."""
        return FloatNeurons(population, given, batch)


def run_float(
    turn: Turn, timesteps: int, given: Given, record: Collection[Record], progress: Progress | None = None
) -> TurnResult:
    """A turn in float64, see `TurnRunner`."""
    return Stepped(FloatArithmetic)(turn, timesteps, given, record, progress)


def _tensor(array: np.ndarray | None, shape: tuple[int, int]) -> Tensor:
    assert array is not None
    return torch.from_numpy(np.asarray(array, np.float64).reshape(shape))
