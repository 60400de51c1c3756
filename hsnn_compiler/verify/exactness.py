"""Does a stage compute exactly what the stage before it does, up to the rounding of floating-point numbers?

Values are compared directly. Spikes are not continuous: where a membrane potential equals its threshold up to rounding,
one stage fires and the other does not, and all that follows in this sample may differ. Such a *tie* is no
fault. It is told from one by the potentials: at the threshold where the neuron did not fire, and nothing left above it
where it did (unless it resets to zero, which hides that).
Only the first layer that differs in a sample is judged, because what is behind it saw other spikes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hsnn_compiler.ir.dynamics import discretize
from hsnn_compiler.verify.runner import Runner, Snapshot

VALUE_TOLERANCE = 1e-5
"""Of the layer's largest magnitude in the batch: passes may keep parameters in float32."""
TIE_TOLERANCE = 1e-4
"""Of the threshold: the same, added up over the steps."""


@dataclass(frozen=True)
class Departure:
    """The first place at which a stage differs from the one before.

    Attributes:
        stage, layer: where.
        neuron: index in the layer (channel, row, column).
        step: time step, counted from 0; None where there is no time.
        sample: index in the data.
        before, after: the two values there: spikes, or what the nodes put out.
    """

    stage: str
    layer: str
    neuron: tuple[int, ...]
    step: int | None
    sample: int
    before: float
    after: float

    def __str__(self) -> str:
        when = "" if self.step is None else f" at step {self.step}"
        values = f"{self.before:g} before and {self.after:g} after"
        return f"{self.stage}: {self.layer}, neuron {self.neuron}{when} of sample {self.sample}: {values}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Pair:
    """Two stages on the same batch."""

    before: Runner
    after: Runner
    x: np.ndarray
    first: int
    a: Snapshot
    b: Snapshot

    @property
    def common(self) -> list[str]:
        """Layers both have, with or without time in both, in the order of the network."""
        both = [name for name in self.after.layers if name in self.a.signals]
        return [name for name in both if self.a.signals[name].shape == self.b.signals[name].shape]


def compare(pair: Pair, *, bitwise: bool = False) -> tuple[Departure | None, int]:
    """The first departure in a batch, and the number of samples in which there are ties.

    Args:
        pair: the stages and what they gave.
        bitwise: no difference is forgiven, as between integers.
    """
    differing: dict[int, str] = {}
    for name in pair.common:
        for number in np.flatnonzero(_off(pair, name, bitwise).reshape(len(pair.x), -1).any(1)).tolist():
            differing.setdefault(number, name)
    tied: set[int] = set()
    for sample, name in differing.items():
        found = _judge(pair, sample, name, bitwise)
        if found is not None:
            return found, len(tied)
        tied.add(sample)
    return _outputs(pair, tied, bitwise), len(tied)


def first_difference(pair: Pair, layers: Collection[str]) -> Departure | None:
    """The first spike or value that differs at all in these layers, earliest layer first, then step, then sample."""
    for name in pair.common:
        if name in layers and (off := _off(pair, name, bitwise=False)).any():
            places = np.argwhere(off)
            order = (places[:, 0], places[:, 1]) if name in pair.after.timed else (places[:, 0],)
            return _departure(pair, name, places[np.lexsort(order)[0]])
    return None


def _off(pair: Pair, name: str, bitwise: bool) -> np.ndarray:
    a, b = pair.a.signals[name], pair.b.signals[name]
    if bitwise or name in pair.after.timed:
        return np.asarray(a != b)
    size = max(float(np.abs(a).max(initial=0)), 1e-30)
    return np.asarray(np.abs(a - b) > VALUE_TOLERANCE * size)


def _judge(pair: Pair, sample: int, name: str, bitwise: bool) -> Departure | None:
    """The departure in the first layer that differs in a sample; None if all there are ties."""
    places = np.argwhere(_off(pair, name, bitwise)[sample])
    if name not in pair.after.timed or bitwise:
        return _departure(pair, name, (sample, *places[0]))
    tie = _Ties(pair, sample, name)
    seen = set()
    for step, *neuron in places.tolist():  # in the order of steps: of each neuron, only its first counts
        index = tuple(neuron)
        if index not in seen and not tie(step, index):
            return _departure(pair, name, (sample, step, *neuron))
        seen.add(index)
    return None


class _Ties:
    """Whether a neuron that fires in one stage only was at its threshold in the other."""

    def __init__(self, pair: Pair, sample: int, name: str) -> None:
        self.sides = []
        for runner in (pair.before, pair.after):
            node = runner.graph[name]
            rule = discretize(node.op, node.dynamics) if node.dynamics is not None else None
            threshold = np.ones(()) if rule is None or rule.threshold is None else rule.threshold
            trace = runner.traces(pair.x[sample : sample + 1], [(name, "s"), (name, "v")])
            full = np.broadcast_to(threshold, node.shape)
            subtracts = rule is not None and rule.reset == "subtract" and rule.reset_at == "spike"
            self.sides.append((trace[name, "s"][0], trace[name, "v"][0], full, subtracts))

    def __call__(self, step: int, neuron: tuple[int, ...]) -> bool:
        at = (step, *neuron)
        silent, fires = sorted(self.sides, key=lambda side: float(side[0][at]))
        if silent[0][at] == fires[0][at]:
            return True  # run by itself the sample adds up in another order, and the difference is gone
        _, v, threshold, _ = silent
        if abs(v[at] - threshold[neuron]) > TIE_TOLERANCE * abs(threshold[neuron]):
            return False
        _, v, threshold, subtracts = fires  # what is left of a potential at the threshold is nothing
        return not subtracts or bool(abs(v[at]) <= TIE_TOLERANCE * abs(threshold[neuron]))


def _outputs(pair: Pair, tied: set[int], bitwise: bool) -> Departure | None:
    a, b = pair.a.outputs, pair.b.outputs
    off = np.abs(a - b) > (0 if bitwise else VALUE_TOLERANCE * max(float(np.abs(a).max(initial=0)), 1e-30))
    off[sorted(tied)] = False
    if not off.any():
        return None
    sample, index = (int(i) for i in np.argwhere(off)[0])
    end = pair.after.graph.of_kind("Output")[0].name
    values = float(a[sample, index]), float(b[sample, index])
    return Departure(pair.after.stage.name, end, (index,), None, pair.first + sample, *values)


def _departure(pair: Pair, name: str, place: Any) -> Departure:
    sample, *rest = (int(i) for i in place)
    step = rest.pop(0) if name in pair.after.timed else None
    values = (float(shot.signals[name][tuple(int(i) for i in place)]) for shot in (pair.a, pair.b))
    return Departure(pair.after.stage.name, name, tuple(rest), step, pair.first + sample, *values)
