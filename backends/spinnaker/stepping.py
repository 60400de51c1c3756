"""Runs a turn step by step, many samples at a time; the arithmetic is the caller's."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.backends.spinnaker.execute import (
    Given,
    Progress,
    TurnResult,
    check_given,
    join_turns,
)
from hsnn_compiler.backends.spinnaker.netlist import Population, Turn
from hsnn_compiler.reference.result import Record

BATCH_SIZE = 128


@dataclass(frozen=True, eq=False)
class Synapses:
    """The synapses of one kind between two populations.

    Attributes:
        source: name of the population before them.
        matrix: weights as a sparse matrix [after, before], float64.
        delay: steps.
        channel: which of the inputs of the neurons they add to.
    """

    source: str
    matrix: Tensor
    delay: int
    channel: int = 0


class Neurons(Protocol):
    """State of a population for a batch.

    Attributes:
        saturated: how often something reached its end.
    """

    saturated: int

    def step(self, arrived: list[Tensor]) -> Tensor:
        """One step: what arrives by channel, float64 [size, batch]; returns spikes, float64 [size, batch]."""
        ...

    def potential(self) -> np.ndarray:
        """In real units, float64 [size, batch]."""
        ...


class Arithmetic(Protocol):
    """How numbers are kept and added.

    Attributes:
        channels: inputs of a neuron that are added up apart.
        clipped: by population, weights that the format does not hold.
    """

    channels: int
    clipped: dict[str, int]

    def synapses(self, turn: Turn, population: Population) -> list[Synapses]:
        """All synapses that end at a population."""
        ...

    def neurons(self, turn: Turn, population: Population, given: Given, batch: int) -> Neurons:
        """A population before its first step."""
        ...


def sparse(pre: np.ndarray, post: np.ndarray, weight: np.ndarray, shape: tuple[int, int]) -> Tensor:
    """A sparse matrix [after, before], float64; synapses between the same two neurons add up."""
    order = np.lexsort((pre, post))
    ends = torch.from_numpy(np.concatenate([[0], np.cumsum(np.bincount(post, minlength=shape[0]))]))
    columns = torch.from_numpy(np.asarray(pre, np.int64)[order])
    values = torch.from_numpy(np.asarray(weight, np.float64)[order])
    with warnings.catch_warnings():  # torch calls its CSR layout a beta at first use
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(ends, columns, values, shape)


class SteppedTurn:
    """A turn, bound to an arithmetic.

    Args:
        turn: the network.
        timesteps: T.
        arithmetic: of the neurons and synapses.
    """

    def __init__(self, turn: Turn, timesteps: int, arithmetic: Arithmetic) -> None:
        self.turn, self.timesteps, self.arithmetic = turn, timesteps, arithmetic
        self.neural = [p for p in turn.populations.values() if p.is_neural]
        self.synapses = {p.name: arithmetic.synapses(turn, p) for p in self.neural}
        self.memory = max((s.delay for found in self.synapses.values() for s in found), default=1)

    def run(self, given: Given, record: Collection[Record], progress: Progress | None = None) -> TurnResult:
        """Run samples in batches, see `TurnRunner`."""
        check_given(self.turn, self.timesteps, given)
        samples, parts = given.samples, []
        for start in range(0, samples, BATCH_SIZE):
            stop = min(start + BATCH_SIZE, samples)
            parts.append(self._batch(given.part(start, stop), stop - start, record))
            if progress:
                progress(stop, samples)
        result = join_turns(parts)
        for name, count in self.arithmetic.clipped.items():
            result.saturated[name] += count
        return result

    def _batch(self, given: Given, batch: int, record: Collection[Record]) -> TurnResult:
        states = {p.name: self.arithmetic.neurons(self.turn, p, given, batch) for p in self.neural}
        series = {p.name: _series(p, given, self.timesteps, batch) for p in self.turn.populations.values()}
        past: deque[Mapping[str, Tensor]] = deque(maxlen=self.memory)
        kept: dict[Record, list[np.ndarray]] = {key: [] for key in record}
        with torch.no_grad(), _one_thread():
            for step in range(1, self.turn.steps + 1):
                now: dict[str, Tensor] = {}
                for population in self.turn.populations.values():
                    name, t = population.name, step - 1 - population.depth
                    inside = 0 <= t < self.timesteps
                    if population.is_neural:
                        now[name] = states[name].step(self._arriving(population, past, batch))
                    elif inside:
                        now[name] = series[name][t]
                    if inside and (name, "s") in kept:
                        kept[name, "s"].append(now[name].numpy().astype(np.uint8))
                    if inside and (name, "v") in kept:
                        kept[name, "v"].append(states[name].potential())
                past.appendleft(now)
        result = TurnResult(saturated={name: state.saturated for name, state in states.items()})
        for (name, variable), steps in kept.items():
            shape = (self.timesteps, *self.turn.populations[name].shape, batch)
            array = np.moveaxis(np.stack(steps).reshape(shape), -1, 0)
            (result.spikes if variable == "s" else result.potential)[name] = np.ascontiguousarray(array)
        return result

    def _arriving(self, population: Population, past: deque[Mapping[str, Tensor]], batch: int) -> list[Tensor]:
        """What arrives in this step, by channel; `past` holds the spikes of the steps before, the last one first."""
        sums = [torch.zeros(population.size, batch, dtype=torch.float64) for _ in range(self.arithmetic.channels)]
        for synapses in self.synapses[population.name]:
            if synapses.delay > len(past):
                continue
            spikes = past[synapses.delay - 1].get(synapses.source)
            if spikes is not None:
                sums[synapses.channel] += synapses.matrix @ spikes
        return sums


class Stepped:
    """A `TurnRunner` that keeps what it has bound: synapses are sorted once for all batches.

    Args:
        make: the arithmetic, anew for each turn.
    """

    def __init__(self, make: Callable[[], Arithmetic]) -> None:
        self._make = make
        self._bound: list[SteppedTurn] = []

    def __call__(
        self, turn: Turn, timesteps: int, given: Given, record: Collection[Record], progress: Progress | None = None
    ) -> TurnResult:
        """See `TurnRunner`."""
        found = next((bound for bound in self._bound if bound.turn is turn), None)
        if found is None:
            found = SteppedTurn(turn, timesteps, self._make())
            self._bound.append(found)
        return found.run(given, record, progress)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Products of one step are short: several threads mostly wait for each other, and on a busy machine for long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _series(population: Population, given: Given, timesteps: int, batch: int) -> Tensor:
    """Spikes of sources, clocks and starts in their windows, [T, size, batch]; nothing of neurons."""
    if population.is_neural:
        return torch.zeros(0)
    if population.kind == "source":
        array = np.asarray(given.spikes[population.name], np.float64).reshape(batch, timesteps, -1)
        return torch.from_numpy(np.ascontiguousarray(array.transpose(1, 2, 0)))
    series = torch.zeros(timesteps, population.size, batch, dtype=torch.float64)
    series[: timesteps if population.kind == "clock" else 1] = 1.0
    return series
