"""Netlists in the arithmetic of SpiNNaker 1: ``IF_curr_delta`` of sPyNNaker 1!7.4.1, in s16.15.

Followed are ``neuron_model_lif_impl.h``, ``input_type_delta.h`` and ``synapses.c`` of sPyNNaker (its installed binary
was run on numbers to see that it computes the same), and for what the host sends ``data_type.py`` and
``synapse_dynamics_static.py``:

    alpha = R I,  I = excitatory - inhibitory + i_offset;   V <- alpha - e (alpha - V);   a spike where V >= v_thresh

with R = tau_m / cm and e = exp(-dt / tau_m). Every product is rounded down. What arrives in one step is added up in a
ring buffer of 16 bits for each sign, which stops at 65535, and is shifted left by what `ring_buffers` says.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.backends.spinnaker.cells import cells
from hsnn_compiler.backends.spinnaker.execute import Given, Progress, TurnResult, bias_of
from hsnn_compiler.backends.spinnaker.fixed_point import LOWEST, ONE, divide, exponential, to_s1615
from hsnn_compiler.backends.spinnaker.netlist import Population, Projection, Turn
from hsnn_compiler.backends.spinnaker.ring_buffers import FULL, shifts, units
from hsnn_compiler.backends.spinnaker.stepping import Stepped, Synapses, sparse
from hsnn_compiler.reference.result import Record

_WORD = 2**32


class FixedNeurons:
    """Potentials in units of 2^-15, as int64 that stay within 32 bits.

    Args:
        population: neurons or a readout.
        given: what is presented.
        batch: samples.
        shift: of the ring buffers, excitatory and inhibitory.
    """

    def __init__(self, population: Population, given: Given, batch: int, shift: tuple[int, int]) -> None:
        name, column = population.name, (population.size, 1)
        cell = cells(population)
        tau, cm = to_s1615(cell.tau_m, "tau_m", name), to_s1615(cell.cm, "cm", name)
        rates = divide(np.full_like(tau, ONE), tau)
        values, where = np.unique(rates, return_inverse=True)
        decay = np.array([exponential(-int(value)) for value in values], np.int64)[where]
        self.resistance = torch.from_numpy(divide(tau, cm).reshape(column))
        self.decay = torch.from_numpy(decay.reshape(column))
        # the smallest number of the format that is not below the threshold: the same test
        self.threshold = torch.from_numpy(to_s1615(np.ceil(cell.v_thresh * ONE) / ONE, "a threshold", name)[:, None])
        self.bias = torch.from_numpy(np.ascontiguousarray(to_s1615(bias_of(population, given), "a bias", name).T))
        assert population.v_init is not None
        start = torch.from_numpy(to_s1615(population.v_init, "a start potential", name).reshape(column))
        self.v = start.expand(population.size, batch)
        self.fires = population.threshold is not None
        self.shift = shift
        self.saturated = 0

    def step(self, arrived: list[Tensor]) -> Tensor:
        """See `Neurons`; what arrives is in units of the ring buffers."""
        exciting, inhibiting = (self._buffered(part, shift) for part, shift in zip(arrived, self.shift, strict=True))
        current = self._wrap(exciting - inhibiting + self.bias)
        alpha = self._wrap((current * self.resistance) >> 15)
        self.v = self._wrap(alpha - self._wrap((self._wrap(alpha - self.v) * self.decay) >> 15))
        if not self.fires:
            return torch.zeros(self.v.shape, dtype=torch.float64)
        fires = self.v >= self.threshold
        self.v = torch.where(fires, 0, self.v)
        return fires.to(torch.float64)

    def _buffered(self, arrived: Tensor, shift: int) -> Tensor:
        whole = arrived.to(torch.int64)
        self.saturated += int((whole > FULL).sum())
        return whole.clamp(max=FULL) << shift

    def _wrap(self, number: Tensor) -> Tensor:
        """The lowest 32 bits; counts what loses some."""
        wrapped = torch.remainder(number - LOWEST, _WORD) + LOWEST
        self.saturated += int((wrapped != number).sum())
        return wrapped

    def potential(self) -> np.ndarray:
        """See `Neurons`."""
        return self.v.numpy() / float(ONE)


class FixedArithmetic:
    """Integers, excitatory and inhibitory synapses in a sum each.

    Attributes:
        clipped: by population, weights that a synaptic row cannot hold.
    """

    channels = 2

    def __init__(self) -> None:
        self.clipped: dict[str, int] = {}
        self._signed: Turn | None = None
        self._shifts: dict[str, tuple[int, int]] = {}

    def synapses(self, turn: Turn, population: Population) -> list[Synapses]:
        """See `Arithmetic`; integers below 2^53 are exact in float64."""
        if self._signed is None:
            self._signed = by_sign(turn)
        found, name = [], population.name
        shift = self._shifts[name] = shifts(self._signed, name)
        for part in self._signed.arriving(name):
            channel = int(part.weight[0] < 0)
            weight = units(part.weight, shift[channel])
            self.clipped[name] = self.clipped.get(name, 0) + int((weight > FULL).sum())
            size = (population.size, turn.populations[part.pre_population].size)
            # sPyNNaker cuts off what a row has no bits for
            matrix = sparse(part.pre, part.post, weight & FULL, size)
            found.append(Synapses(part.pre_population, matrix, part.delay, channel))
        return found

    def neurons(self, turn: Turn, population: Population, given: Given, batch: int) -> FixedNeurons:
        """See `Arithmetic`."""
        return FixedNeurons(population, given, batch, self._shifts[population.name])


def by_sign(turn: Turn) -> Turn:
    """The same turn with the excitatory and the inhibitory synapses of each projection as two."""
    parts: dict[str, Projection] = {}
    for projection in turn.projections.values():
        for sign, chosen in (("excitatory", projection.weight > 0), ("inhibitory", projection.weight < 0)):
            if chosen.any():
                name = f"{projection.name}.{sign}"
                parts[name] = replace(
                    projection,
                    name=name,
                    pre=projection.pre[chosen],
                    post=projection.post[chosen],
                    weight=projection.weight[chosen],
                )
    return replace(turn, projections=parts)


def run_fixed(
    turn: Turn, timesteps: int, given: Given, record: Collection[Record], progress: Progress | None = None
) -> TurnResult:
    """A turn in s16.15, see `TurnRunner`; a weight that a row cannot hold counts as saturated once."""
    return Stepped(FixedArithmetic)(turn, timesteps, given, record, progress)
