"""What a run returns: outputs, traces and counters, the same for every executor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from hsnn_compiler.diagnostics import refuse

Record = tuple[str, str]
"""A recorded signal: node name, and ``s`` (spikes or output), ``u`` (current) or ``v`` (membrane potential)."""


@dataclass(repr=False)
class Result:
    """Outputs and traces of a run.

    Attributes:
        outputs: by name of the output node, [samples, ...].
        trace: by (node, variable), [samples, time, ...] (no time axis for values).
        saturated: per population, neuron-steps in which u wrapped or v saturated; per Encode, clipped inputs.
        spikes: per population, spikes sent, summed over samples, steps and neurons; a graded spike counts once.
        how: per layer, the way it was run, where the executor had a choice.
    """

    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    trace: dict[Record, np.ndarray] = field(default_factory=dict)
    saturated: dict[str, int] = field(default_factory=dict)
    spikes: dict[str, int] = field(default_factory=dict)
    how: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in self.outputs.items())
        return f"<Result {self.samples} samples: {shapes}; {len(self.trace)} traces>"

    @property
    def output(self) -> np.ndarray:
        """The only output, or the first."""
        return next(iter(self.outputs.values()))

    @property
    def samples(self) -> int:
        """How many samples were run."""
        return len(self.output)

    def predictions(self) -> np.ndarray:
        """Class with the largest output, [samples]; the first of equal ones."""
        return self.output.reshape(self.samples, -1).argmax(1)

    def accuracy(self, labels: np.ndarray) -> float:
        """Share of right predictions; one label per sample (E0315)."""
        if len(labels) != self.samples:
            raise refuse("E0315", f"{len(labels)} labels for {self.samples} samples", supported="one label per sample")
        return float((self.predictions() == np.asarray(labels)).mean())


def join(results: Sequence[Result]) -> Result:
    """Put the results of consecutive batches together."""
    first = results[0]
    # Passes may reorder the ends of a graph; output, output_2, ... is the order the source gave them.
    names = sorted(first.outputs, key=lambda name: (len(name), name))
    if len(results) == 1:
        if len(names) > 1:
            first.outputs = {name: first.outputs[name] for name in names}
        return first
    return Result(
        {name: np.concatenate([r.outputs[name] for r in results]) for name in names},
        {key: np.concatenate([r.trace[key] for r in results]) for key in first.trace},
        _total(r.saturated for r in results),
        _total(r.spikes for r in results),
        first.how,
    )


def _total(counters: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for counter in counters:
        for name, number in counter.items():
            total[name] = total.get(name, 0) + number
    return total
