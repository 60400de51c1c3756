"""What runs one turn of the chip, in whatever arithmetic: inputs, results, and the interface of the runners."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from hsnn_compiler.backends.spinnaker.netlist import Population, Turn
from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.reference.result import Record

Progress = Callable[[int, int], None]
"""Called as (done, all)."""


@dataclass(frozen=True, eq=False)
class Given:
    """What a turn gets from the host.

    Attributes:
        spikes: by source, 0 and 1, [samples, T, *shape].
        currents: by name of what is presented, real numbers [samples, *shape].
    """

    spikes: Mapping[str, np.ndarray] = field(default_factory=dict)
    currents: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return min((len(array) for array in (*self.spikes.values(), *self.currents.values())), default=0)

    def part(self, start: int, stop: int) -> Given:
        """Some of the samples."""
        return Given(
            {name: array[start:stop] for name, array in self.spikes.items()},
            {name: array[start:stop] for name, array in self.currents.items()},
        )


@dataclass(eq=False)
class TurnResult:
    """What was recorded in the windows of populations.

    Attributes:
        spikes: by population, uint8 [samples, T, *shape].
        potential: by population, after each step's update and reset, float64 [samples, T, *shape].
        saturated: by population, how often an accumulator or a potential reached its end.
    """

    spikes: dict[str, np.ndarray] = field(default_factory=dict)
    potential: dict[str, np.ndarray] = field(default_factory=dict)
    saturated: dict[str, int] = field(default_factory=dict)


class TurnRunner(Protocol):
    """Runs samples, each from step 1 of the run on."""

    def __call__(
        self, turn: Turn, timesteps: int, given: Given, record: Collection[Record], progress: Progress | None = None
    ) -> TurnResult:
        """Run a turn.

        Args:
            turn: the network.
            timesteps: T, steps of a window.
            given: for every source, and for everything that is presented.
            record: (population, ``s`` or ``v``) to keep.
            progress: called as (samples done, all samples).
        """
        ...


def check_given(turn: Turn, timesteps: int, given: Given) -> None:
    """Refuse (E0330) inputs that are not those of the turn."""
    wanted = {p.name: (timesteps, *p.shape) for p in turn.populations.values() if p.kind == "source"}
    currents = {p.presented: p.shape for p in turn.populations.values() if p.presented}
    for what, shapes, arrays in (("spikes", wanted, given.spikes), ("values", currents, given.currents)):
        for name, shape in shapes.items():
            if name not in arrays:
                raise refuse("E0330", f"no {what} given for {name!r}", node=name)
            if arrays[name].shape[1:] != shape:
                axes = ", ".join(map(str, ("samples", *shape)))
                raise refuse(
                    "E0330",
                    f"{what} of shape {list(arrays[name].shape)} for {name!r}",
                    node=name,
                    supported=f"[{axes}]",
                )


def join_turns(parts: list[TurnResult]) -> TurnResult:
    """Results of consecutive samples, as one."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return TurnResult(
        {name: np.concatenate([part.spikes[name] for part in parts]) for name in first.spikes},
        {name: np.concatenate([part.potential[name] for part in parts]) for name in first.potential},
        {name: sum(part.saturated[name] for part in parts) for name in first.saturated},
    )


def bias_of(population: Population, given: Given) -> np.ndarray:
    """What is added to the potentials in every step of the run, float64 [samples or 1, size]."""
    bias = np.zeros(population.size) if population.bias is None else np.asarray(population.bias, np.float64)
    if not population.presented:
        return bias[None]
    value = np.asarray(given.currents[population.presented], np.float64)
    return bias[None] + value.reshape(len(value), -1)
