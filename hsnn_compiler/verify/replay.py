"""Replay data through the stages, batch by batch, and keep statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from hsnn_compiler.passes.base import EXACT
from hsnn_compiler.verify.exactness import Departure, Pair, compare
from hsnn_compiler.verify.layers import Layer
from hsnn_compiler.verify.runner import Runner, Snapshot, layers_of
from hsnn_compiler.verify.stages import Stage

BATCH_BYTES = 2**28
"""Signals of one batch in one stage stay below this."""
LARGEST_BATCH = 128


@dataclass
class Outcome:
    """What one stage did with all the data.

    Attributes:
        name, contract: of the stage.
        samples: how many were run.
        agree: samples with the prediction of the source; None where there is one output, and so no classes.
        right: samples predicted right; None without labels.
        spikes: of all populations.
        output: the outputs against those of the source.
        layers: by name, against the activations of the source.
        saturated: of integers, by population and Encode: neuron-steps that left the range of the state, inputs clipped.
        departure: of an exact stage, the first place where it is not.
        ties: samples in which a potential equals its threshold up to rounding, so that spikes may differ.
    """

    name: str
    contract: str
    samples: int = 0
    agree: int | None = None
    right: int | None = None
    spikes: int = 0
    output: Layer = field(default_factory=lambda: Layer(None, np.ones(())))
    layers: dict[str, Layer] = field(default_factory=dict)
    saturated: dict[str, int] = field(default_factory=dict)
    departure: Departure | None = None
    ties: int = 0

    @property
    def accuracy(self) -> float | None:
        """Share of right predictions."""
        return None if self.right is None else self.right / max(self.samples, 1)

    @property
    def agreement(self) -> float | None:
        """Share of samples with the prediction of the source."""
        return None if self.agree is None else self.agree / max(self.samples, 1)

    def count(self, outputs: np.ndarray, source: np.ndarray, y: np.ndarray | None) -> None:
        """Take the outputs [samples, classes] of a batch in."""
        self.samples += len(outputs)
        self.output.add(source, outputs)
        if outputs.shape[1] > 1:
            predicted = outputs.argmax(1)
            self.agree = (self.agree or 0) + int((predicted == source.argmax(1)).sum())
            if y is not None:
                self.right = (self.right or 0) + int((predicted == y).sum())


def batch_size(stages: Sequence[Stage]) -> int:
    """Samples per batch such that the signals of the largest stage fit into `BATCH_BYTES`."""
    sizes = (sum(n.type.size for n in stage.graph if n.type) * (stage.graph.timesteps or 1) * 8 for stage in stages)
    return int(np.clip(BATCH_BYTES // max(max(sizes), 1), 1, LARGEST_BATCH))


def replay(
    stages: Sequence[Stage],
    x: np.ndarray,
    y: np.ndarray | None,
    source: Callable[[np.ndarray], np.ndarray] | None,
    progress: Callable[[str, int, int], None],
) -> list[Outcome]:
    """Run all samples through the source and all stages; the first stage is the captured graph.

    Args:
        stages: in order.
        x: inputs [samples, ...].
        y: labels [samples], or None.
        source: outputs [samples, classes] of the source; None takes those of the captured graph.
        progress: called as (what, done, total).
    """
    layers = layers_of(stages[0].graph)
    runners = [Runner(stage, layers) for stage in stages]
    outcomes = [Outcome(stage.name, stage.contract) for stage in stages]
    origin = Outcome("source", "")
    size = batch_size(stages)
    for first in range(0, len(x), size):
        batch = x[first : first + size]
        labels = None if y is None else y[first : first + size]
        captured = runners[0].run(batch)
        truth = captured.outputs if source is None else source(batch)
        activations = {n: runners[0].activity(n, s) for n, s in captured.signals.items()}
        origin.count(truth, truth, labels)
        if source is not None and stages[0].contract == EXACT and outcomes[0].departure is None:
            outcomes[0].departure, tied = _against_source(truth, captured, runners[0], first)
            outcomes[0].ties += tied
        before: Snapshot = captured
        for i, (runner, outcome) in enumerate(zip(runners, outcomes, strict=True)):
            shot = before if i and runner.stage.repeats else captured if not i else runner.run(batch)
            outcome.count(shot.outputs, truth, labels)
            outcome.spikes += shot.spikes
            if i and runner.stage.repeats:
                outcome.layers, outcome.saturated = outcomes[i - 1].layers, outcomes[i - 1].saturated
            else:
                _layers(runner, outcome, shot, activations)
            if i and runner.stage.contract == EXACT and not runner.stage.repeats and outcome.departure is None:
                pair = Pair(runners[i - 1], runner, batch, first, before, shot)
                outcome.departure, ties = compare(pair, bitwise=runner.stage.integers)
                outcome.ties += ties
            before = shot
            progress("verify", first * len(stages) + (i + 1) * len(batch), len(x) * len(stages))
    return [origin, *outcomes]


TIED_SHARE = 0.01
"""A spiking source may differ from its graph in this share of a batch's samples: no potentials of it are known."""


def _against_source(truth: np.ndarray, captured: Snapshot, runner: Runner, first: int) -> tuple[Departure | None, int]:
    """Whether the captured graph gives the outputs of the source."""
    size = max(float(np.abs(truth).max(initial=0)), 1e-30)
    off = np.abs(truth - captured.outputs) > 1e-4 * size  # the source may compute in float32
    samples = int(off.any(1).sum())
    spiking = any(node.is_spiking for node in runner.graph)
    if not samples or (spiking and samples <= max(1, TIED_SHARE * len(truth))):
        return None, samples
    sample, index = (int(i) for i in np.argwhere(off)[0])
    values = float(truth[sample, index]), float(captured.outputs[sample, index])
    end = runner.graph.of_kind("Output")[0].name
    return Departure(runner.stage.name, end, (index,), None, first + sample, *values), 0


def _layers(runner: Runner, outcome: Outcome, shot: Snapshot, activations: dict[str, np.ndarray]) -> None:
    for name, signal in shot.signals.items():
        if name not in outcome.layers:
            steps = signal.shape[1] if name in runner.timed else None
            scale, converted = runner.scale(name), name in runner.stage.scales
            outcome.layers[name] = Layer(steps, scale, converted, runner.most_spikes(name))
        layer = outcome.layers[name]
        layer.add(activations[name], runner.activity(name, signal))
        if runner.stage.integers:
            layer.saturated = (layer.saturated or 0) + shot.saturated.get(name, 0)
    for name, count in shot.saturated.items():
        outcome.saturated[name] = outcome.saturated.get(name, 0) + count
