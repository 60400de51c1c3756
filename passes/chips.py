"""Lay the cores of a network out on the chips of a board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.passes.axons import Axons, dealt, spanning, trace_axons
from hsnn_compiler.passes.usage import Usage
from hsnn_compiler.targets import Target


@dataclass(frozen=True)
class Part:
    """The cores of one population that are on one chip.

    Attributes:
        population: its name.
        cores: how many of its cores are on this chip.
        of: how many cores it has in all.
        neurons: neurons on these cores.
        synapses: synapses into them.
        axons: input axons of these cores, an even share of the population's, as in the estimate of its cores.
    """

    population: str
    cores: int
    of: int
    neurons: int
    synapses: int
    axons: int

    def __str__(self) -> str:
        return self.population if self.cores == self.of else f"{self.population} ({self.cores} of {self.of} cores)"


@dataclass(frozen=True)
class Crossing:
    """A connection that leads from chip to chip: an estimate.

    Attributes:
        source: population the spikes come from.
        target: population they go to.
        axons: neurons of the source, each once for every other chip on which it reaches the target.
    """

    source: str
    target: str
    axons: int


@dataclass(frozen=True)
class Layout:
    """Which cores are on which chip.

    Attributes:
        chips: the parts on each chip, in the order of the graph.
        crossings: connections that lead from chip to chip.
    """

    chips: tuple[tuple[Part, ...], ...]
    crossings: tuple[Crossing, ...]

    @property
    def axons(self) -> int:
        """Axons that cross between chips, all connections together."""
        return sum(crossing.axons for crossing in self.crossings)


def lay_out(graph: Graph, used: Sequence[Usage], target: Target) -> Layout | None:
    """Put populations on chips in the order of the graph, on as few chips as this order allows.

    The row of all cores (see `axons`) is cut into pieces, a chip each, that hold within the limits of one chip: cores,
    neurons, synapses (input axons follow from the cores). Among the cuts with the fewest chips, those are taken that
    the fewest axons lead past; one that passes over a chip in between counts for both borders. Found by dynamic
    programming over the cores: ``best(x) = min over y of best(y) + (1 chip, axons past x)``, where the cores from y
    to x fit on one chip; of equal ones, the one that fills the earlier chips.

    Returns:
        None where a single core holds more than a chip. The number of chips is not compared with that of the board.
    """
    axons = trace_axons(graph, used)
    ends = _ends(used, target, spanning(axons, sum(item.cores for item in used)))
    if ends is None:
        return None
    chip = np.repeat(np.arange(len(ends)), np.diff([0, *ends]))
    return Layout(_parts(used, chip), _crossings(axons, chip))


def _ends(used: Sequence[Usage], target: Target, passing: np.ndarray) -> list[int] | None:
    """Where each chip ends in the row of cores."""
    cores = len(passing) - 1
    limits = (
        (np.arange(cores + 1), target["chip.neuron_cores"]),
        (_running([dealt(item.neurons, item.cores) for item in used]), target["chip.neurons"]),
        (_running([dealt(item.synapses, item.cores) for item in used]), target["chip.synapses"]),
    )
    earliest = np.max([np.searchsorted(sums, sums - limit) for sums, limit in limits], axis=0)
    chips, cost, before = (np.zeros(cores + 1, np.int64) for _ in range(3))
    for end in range(1, cores + 1):
        start = int(earliest[end])
        if start == end:
            return None
        stop = min(end, int(np.searchsorted(chips[:end], chips[start], "right")))
        best = stop - 1 - int(np.argmin(cost[start:stop][::-1]))
        chips[end], cost[end], before[end] = chips[start] + 1, cost[best] + passing[end], best
    ends = [cores] if cores else []
    while ends and before[ends[-1]]:
        ends.append(int(before[ends[-1]]))
    return ends[::-1]


def _running(sums: list[np.ndarray]) -> np.ndarray:
    """Running sums of all populations, one after the other [cores + 1]."""
    steps = [np.diff(one) for one in sums]
    joined: np.ndarray = np.concatenate([[0], *steps]).cumsum()
    return joined


def _parts(used: Sequence[Usage], chip: np.ndarray) -> tuple[tuple[Part, ...], ...]:
    parts: list[list[Part]] = [[] for _ in range(int(chip[-1]) + 1 if chip.size else 0)]
    begin = 0
    for item in used:
        own = chip[begin : begin + item.cores]
        for number in range(int(own[0]), int(own[-1]) + 1):
            low, high = (int(np.searchsorted(own, number, side)) for side in ("left", "right"))
            shares = (
                int(bounds[high] - bounds[low])
                for bounds in (dealt(total, item.cores) for total in (item.neurons, item.synapses, item.axons))
            )
            parts[number].append(Part(item.name, high - low, item.cores, *shares))
        begin += item.cores
    return tuple(tuple(on_chip) for on_chip in parts)


def _crossings(axons: Sequence[Axons], chip: np.ndarray) -> tuple[Crossing, ...]:
    found = [Crossing(item.source, item.target, item.crossing(chip)) for item in axons]
    return tuple(crossing for crossing in found if crossing.axons)
