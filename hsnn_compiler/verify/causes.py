"""Why a layer loses, in words: each cause with the number that shows it, and an option to try."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.quant import CurrentQuant, NeuronQuant
from hsnn_compiler.passes.base import LOSSY
from hsnn_compiler.passes.quantise import COARSE_THRESHOLD, has_coarse_weights
from hsnn_compiler.verify.layers import Layer
from hsnn_compiler.verify.replay import Outcome
from hsnn_compiler.verify.stages import Stage
from hsnn_compiler.verify.weights import Weights, batch_norm_ratio, feeding, weights_of

TOO_HIGH = 2.0  # threshold over largest activation, median channel; calibration gives 0.7 to 0.9
WASTE = 0.1  # relative error of rounding that a threshold too high must bring
CLIPPING = 0.08  # relative root mean square of what is clipped; calibration gives about 0.02
ROUNDING = 0.15  # relative error of rounding to T levels; 0.05 to 0.06 at T = 16
COARSE = 0.08  # relative error of the median channel's weights; below 0.02 at 8 bits
DOMINATED = 8.0  # largest channel's weights over those of the median channel
SILENT = 0.05  # share of neurons
SHARE = 1e-3  # of weights clipped, inputs clipped, states saturated
ZERO_LOSS = 0.15  # relative error of a layer that resets to zero


@dataclass(frozen=True)
class Change:
    """Something to try that can be measured by compiling again.

    Attributes:
        text: what to add to the command line.
        layers: ``{layer: {key: value}}`` to add; None as a value takes the option away.
        timesteps, reset: other options, None to leave them.
    """

    text: str
    layers: dict[str, dict[str, str | None]] | None = None
    timesteps: int | None = None
    reset: str | None = None


@dataclass(frozen=True)
class Cause:
    """Why a layer loses.

    Attributes:
        layer: where: an activation, or a weight layer.
        population: the neurons in which it shows.
        stage: the stage that brings it.
        kind: one or two words, stable: ``threshold too high``, ...
        what: the sentence, with the number that shows it.
        weight: relative error that goes with it; larger causes come first.
        suggestion: what to try, in words.
        changes: the same as things that can be measured.
    """

    layer: str
    population: str
    stage: str
    kind: str
    what: str
    weight: float
    suggestion: str
    changes: tuple[Change, ...] = ()

    def __str__(self) -> str:
        return f"{self.layer}: {self.what}. Try: {self.suggestion}."

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in ("layer", "stage", "kind", "what", "weight", "suggestion")}


def causes(captured: Graph, stages: list[Stage], outcomes: list[Outcome], options: dict[str, Any]) -> list[Cause]:
    """All causes that the statistics show, the largest first.

    Args:
        captured: the source's graph.
        stages: as replayed.
        outcomes: of the stages, in the same order.
        options: the program's, as in its manifest: what was asked for per layer.
    """
    found: list[Cause] = []
    can_subtract = "fit-neurons" not in options.get("pipeline", "")  # it refuses this reset
    lossy = [i for i, stage in enumerate(stages) if stage.contract == LOSSY]
    if lossy:
        stage, outcome = stages[lossy[-1]], outcomes[lossy[-1]]
        for name in stage.scales:
            if name in outcome.layers:
                chosen = options.get("layers", {}).get(name, {})
                found += _of_rates(stage, name, outcome.layers[name], chosen, can_subtract)
    for before, stage, outcome in zip(stages, stages[1:], outcomes[1:], strict=False):
        if stage.integers and not before.integers:
            found += _of_integers(stage, outcome)
        elif any(node.quant is not None for node in stage.graph) and not before.integers:
            floating = next(s for s in reversed(stages) if not any(node.quant is not None for node in s.graph))
            for weights in weights_of(stage.graph, floating.graph):
                found += _of_weights(captured, stage, weights, floating)
    return sorted(found, key=lambda cause: -cause.weight)


# -- thresholds, steps, resets -----------------------------------------------------------------


def _of_rates(stage: Stage, name: str, layer: Layer, chosen: dict[str, str], can_subtract: bool) -> Iterator[Cause]:
    steps, rounding = layer.steps or 1, layer.rounding or 0.0
    high, clipping = layer.headroom() or 0.0, layer.clipping or 0.0
    where = (name, name, stage.name)
    fixed = "threshold" in chosen
    away = Change(f"leave out --layer {name}:threshold={chosen.get('threshold')}", {name: {"threshold": None}})
    if high > TOO_HIGH and rounding > WASTE:
        silent = f"; {layer.silent:.1%} of its neurons never fire" if layer.silent else ""
        what = f"its threshold is {high:.1f} times the largest activation (median channel), so {steps} steps give only"
        levels = max(1, int(layer.levels / high + 0.5)) + 1
        what += f" {levels} levels: error {rounding:.1%} from rounding alone{silent}"
        way = away if fixed else Change(f"--layer {name}:method=mse", {name: {"method": "mse"}})
        yield Cause(*where, "threshold too high", what, rounding, way.text, (way,))
    elif clipping > max(CLIPPING, 0.7 * rounding):  # at few steps, some clipping is the best there is
        what = f"its threshold is too low: {layer.clipped:.1%} of the activations lie above it and are clipped"
        top = "1 spike" if layer.most == 1 else f"{layer.most} spikes"
        what += f" (error {clipping:.1%}), {layer.full:.1%} of the rates are {top} per step"
        way = away if fixed else Change(f"--layer {name}:method=max", {name: {"method": "max"}})
        yield Cause(*where, "threshold too low", what, clipping, way.text, (way,))
    elif rounding > ROUNDING:
        what = (
            f"too few steps: with T = {steps} a rate has {layer.levels + 1} levels, which alone is an error of"
            f" {rounding:.1%}"
        )
        way = Change(f"--timesteps {2 * steps}", timesteps=2 * steps)
        yield Cause(*where, "too few steps", what, rounding, way.text, (way,))
    if high <= TOO_HIGH and (layer.silent or 0) > SILENT:
        what = f"{layer.silent:.1%} of its neurons never fire though the source activates them"
        way = Change(f"--layer {name}:percentile=99", {name: {"percentile": "99"}})
        yield Cause(*where, "silent neurons", what, (layer.silent or 0) * (layer.error or 0), way.text, (way,))
    dynamics, error = stage.graph[name].dynamics, layer.error or 0.0
    if dynamics is not None and dynamics.reset == "zero" and error > max(ZERO_LOSS, 1.5 * rounding):
        kept = "" if layer.mean_ratio is None else f", {layer.mean_ratio:.1%} of its activity arrives"
        what = (
            f"reset to zero drops what exceeds the threshold: error {error:.1%} where reset by subtraction could have"
        )
        what += f" {rounding:.1%}{kept}"
        way = Change(f"--timesteps {2 * steps}", timesteps=2 * steps)
        if can_subtract:
            way = Change("--reset subtract", reset="subtract")
        yield Cause(*where, "reset to zero", what, error - rounding, way.text, (way,))


# -- integers ----------------------------------------------------------------------------------


def _of_weights(captured: Graph, stage: Stage, weights: Weights, floating: Stage) -> Iterator[Cause]:
    where = (weights.name, weights.population, stage.name)
    ways = _more_bits(captured, weights)
    if weights.clipped > SHARE:
        what = f"{weights.clipped:.1%} of its weights clip at {weights.bits} bits"
        yield Cause(*where, "weights clip", what, max(weights.clipped, weights.error), _words(ways), ways)
    if weights.error <= COARSE:
        return
    if weights.dominance > DOMINATED and not (weights.bits < 8 and weights.alike_error > COARSE):
        yield _dominated(captured, stage, weights, floating)
        return
    what = f"its weights are rounded to {weights.bits} bits: the median channel has {weights.levels:.1f} levels on each"
    what += f" side of zero, an error of {weights.error:.1%}"
    if weights.larger and weights.alike_error <= COARSE:
        ways = _to_host(captured, weights)
        what += f"; they share the scale of {weights.population} with the {weights.larger_by:.1f} times larger weights"
        yield Cause(*where, "shared scale", f"{what} of {weights.larger}", weights.error, _words(ways), ways)
    else:
        yield Cause(*where, "coarse weights", what, weights.error, _words(ways), ways)


def _dominated(captured: Graph, stage: Stage, weights: Weights, floating: Stage) -> Cause:
    channel, side = weights.channel, "input" if weights.of_inputs else "output"
    what = f"one channel dominates its weight scale: {side} channel {channel} has weights {weights.dominance:.0f} times"
    what += f" those of the median channel, which keeps {weights.levels:.1f} of {weights.most} levels"
    what += f" (error {weights.error:.1%})"
    ways = _to_host(captured, weights)
    words = _words(ways)
    source = feeding(stage.graph, weights.name) if weights.of_inputs else stage.graph[weights.population]
    if source is not None:
        if weights.of_inputs:
            what += f"; it comes from {source.name}"
        norm = batch_norm_ratio(captured, source.name, channel)
        if norm is not None and norm.ratio > DOMINATED / 2:
            what += f", where the batch norm {norm.name} scales channel {channel} {norm.ratio:.0f} times the median"
        scale = floating.scales.get(source.name)
        if weights.of_inputs and scale is not None and scale.size > 1:
            # Clips the large channel: worth a measurement, not a recommendation.
            limit = f"{float(np.quantile(scale, 0.9)):.3g}"
            ways = (*ways, Change(f"--layer {source.name}:threshold={limit}", {source.name: {"threshold": limit}}))
    return Cause(weights.name, weights.population, stage.name, "dominating channel", what, weights.error, words, ways)


def _more_bits(captured: Graph, weights: Weights) -> tuple[Change, ...]:
    if weights.bits == 8:
        return _to_host(captured, weights)
    return _known(captured, weights.name, "bits", "8")


def _to_host(captured: Graph, weights: Weights) -> tuple[Change, ...]:
    return _known(captured, weights.name, "place", "host")


def _known(captured: Graph, name: str, key: str, value: str) -> tuple[Change, ...]:
    """Options are for layers of the source; synapses that a pass made have none."""
    return (Change(f"--layer {name}:{key}={value}", {name: {key: value}}),) if name in captured else ()


def _words(ways: tuple[Change, ...]) -> str:
    train = "train again with weights that differ less"
    if not ways:
        return f"{train}; no option of this layer helps"
    is_host = ways[0].text.endswith("place=host")
    return f"{ways[0].text}, with all layers before it, or {train}" if is_host else ways[0].text


def _of_integers(stage: Stage, outcome: Outcome) -> Iterator[Cause]:
    steps = stage.graph.timesteps or 1
    for node in stage.graph:
        count = outcome.saturated.get(node.name, 0)
        size = outcome.samples * int(np.prod(node.shape)) if node.type else 1
        if isinstance(node.quant, CurrentQuant) and count / size > SHARE:
            what = f"{count / size:.1%} of the input currents clip at the range that calibration saw"
            fed = stage.graph.successors(node.name)[0].name
            text = "calibrate on data that reaches as far as these (--calib), when compiling"
            yield Cause(node.name, fed, stage.name, "input clipped", what, count / size, text)
        if isinstance(node.quant, NeuronQuant):
            yield from _of_population(stage, node, node.quant, count / size / steps)


def _of_population(stage: Stage, node: Node, quant: NeuronQuant, saturated: float) -> Iterator[Cause]:
    where = (node.name, node.name, stage.name)
    steps = stage.graph.timesteps or 1
    if saturated > SHARE:
        what = f"{saturated:.1%} of its potentials saturate at 24 bits (or its currents wrap)"
        way = Change(f"--timesteps {max(1, steps // 2)}", timesteps=max(1, steps // 2))
        yield Cause(*where, "state saturates", what, saturated, way.text, (way,))
    if node.is_spiking and quant.vth < COARSE_THRESHOLD and has_coarse_weights(stage.graph, node.name):
        what = f"its threshold is only {quant.vth} integer units (W0449): weights well below it have little resolution"
        text = "a larger floor: -p with calibrate-thresholds{floor=0.25}"
        yield Cause(*where, "coarse threshold", what, 1 / (2 * quant.vth), text)
