"""Populations behind a `Collect`, and neurons that fire once, in integers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import nir
import numpy as np

from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.ops import FirstSpike, bias_of
from hsnn_compiler.ir.payloads import largest_payload, message_bits
from hsnn_compiler.ir.quant import STATE_SHIFT, CollectQuant, CurrentQuant, FirstSpikeQuant, WeightQuant
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.batchnorm import with_weights
from hsnn_compiler.passes.loihi_format import (
    EXPONENT_MAX,
    MANTISSA_MAX,
    MANTISSA_MIN,
    STATE_MAX,
    bias_exponent,
    weight_format,
)
from hsnn_compiler.passes.ranges import Ranges
from hsnn_compiler.reference.codes import step_weights

CURRENT_MARGIN = 1.25  # inputs may exceed those seen in calibration by this factor before they clip
FINE_THRESHOLD = 1024
SMALLEST_RAMP = 4
UNIT = 2**STATE_SHIFT


class Collected:
    """What arrives at one population through Collects.

    A Collect presents U c synaptic units for a current c, with U one scale for all that arrives at the population. Its
    own synapses have the scale U 64 2^shift / D, where D is what the values of the code's steps are counted
    in: as large as their weights allow, by the choice of the shift.

    Args:
        graph: is changed by `replace`.
        node: the population.
        bits: of weights, where nothing else was asked for.
        context: knows what was asked for.
        ranges: how large things get on calibration data.
    """

    def __init__(self, graph: Graph, node: Node, bits: int, context: PassContext, ranges: Ranges) -> None:
        self.graph = graph
        self.steps = graph.timesteps or 1
        self.collects = [source for source in graph.predecessors(node.name) if source.kind == "Collect"]
        self.synapses = {collect.name: graph.predecessors(collect.name) for collect in self.collects}
        self.formats = {
            s.name: weight_format(s.op.weight, context.layer(s.name, "bits", bits))
            for synapses in self.synapses.values()
            for s in synapses
        }
        self.largest = sum(
            max(ranges.current(collect.name), float(np.abs(collect.op.bias).max(initial=0.0)))
            for collect in self.collects
        )

    def __bool__(self) -> bool:
        return bool(self.collects)

    def largest_scale(self, room: float) -> float:
        """Largest U up to `room` at which all currents keep to 24 bits, and the first Collect's weights lose nothing.

        Currents larger by `CURRENT_MARGIN` than those of the calibration data fit. Beyond a shift of 6 bits to the
        left, with which nothing is rounded, there is nothing to gain.
        """
        room = min(room, STATE_MAX / UNIT / max(CURRENT_MARGIN * self.largest, 1e-30))
        fits = [self._fits(collect) for collect in self.collects]
        finite = [each for each in fits if math.isfinite(each)]
        return finite[0] * 2.0 ** -max(math.ceil(math.log2(finite[0] / room)), -STATE_SHIFT) if finite else room

    def replace(self, scale: float) -> None:
        """Replace the Collects and their synapses by what they are in integers, for U = `scale`."""
        for collect in self.collects:
            fits = self._fits(collect)
            # What rounding took from the scale must not cost the weights a bit.
            shift = math.floor(math.log2(fits / scale) + 1e-9) if math.isfinite(fits) else 0
            weights, denominator = step_weights(collect.op, self.steps)
            bias = np.asarray(collect.op.bias, np.float64)
            for synapse in self.synapses[collect.name]:
                bias = bias + self._constant(synapse, collect) * float(weights.sum()) / denominator
                self._replace_synapse(synapse, scale * UNIT * 2.0**shift / denominator)
            integers = np.rint(bias * scale * UNIT).astype(np.int32)
            op = replace(collect.op, bias=integers / (scale * UNIT))
            self.graph.update(collect.name, op=op, quant=CollectQuant(shift, integers))

    def _fits(self, collect: Node) -> float:
        """U for which the weights are as large as they can be with shift 0; infinite if all are zero."""
        denominator = step_weights(collect.op, self.steps)[1]
        largest = [self.formats[s.name].largest_scale(s.op.weight) for s in self.synapses[collect.name]]
        return min(largest, default=math.inf) * denominator / UNIT

    def _constant(self, synapse: Node, collect: Node) -> np.ndarray:
        """Bias of a synapse op, as it broadcasts against the shape of the Collect."""
        bias = bias_of(synapse.op)
        return (
            np.zeros(1) if bias is None else np.asarray(bias, np.float64).reshape(-1, *[1] * (len(collect.shape) - 1))
        )

    def _replace_synapse(self, synapse: Node, scale: float) -> None:
        form, bias = self.formats[synapse.name], bias_of(synapse.op)
        integers, clipped = form.round(np.asarray(synapse.op.weight, np.float64), scale)
        bits = message_bits(largest_payload(self.graph, self.graph.predecessors(synapse.name)[0]))
        quant = WeightQuant(integers, 0, form.bits, form.sign_mode, scale, clipped, bits)
        weight = integers / scale
        op: Any = nir.Linear(weight) if bias is None else with_weights(synapse.op, weight, 0 * bias)
        self.graph.update(synapse.name, op=op, quant=quant)


def presentable(constant: float, steps: int, decay: float, gain: float, largest: float, theta: float | None) -> float:
    """Largest scale of a population at which a constant current keeps its potential to 24 bits for a sample.

    Args:
        constant: largest other constant that is added in every step.
        steps: of a sample.
        decay: of the membrane.
        gain: of currents.
        largest: the current.
        theta: threshold, or None.

    A neuron whose current is constant may leave them without harm - it goes on firing, or does not fire - so
    the threshold keeps at least `FINE_THRESHOLD` units.
    """
    reach = min(steps, 1 / max(1 - decay, 1e-9))
    room = STATE_MAX / UNIT / max(CURRENT_MARGIN * (gain * largest + constant) * reach, 1e-30)
    return room if theta is None else max(room, FINE_THRESHOLD / theta)


def present_encodes(
    graph: Graph, encodes: Sequence[Node], ranges: Ranges, exponent: int, scale: float, mantissa: np.ndarray
) -> None:
    """Quantise the Encodes of a population; together with its constant mantissas they must not leave the 13 bits.

    Each has its share of the room that these leave, as large as its part of the largest input.
    """
    low = MANTISSA_MIN - min(0, int(mantissa.min(initial=0)))
    high = MANTISSA_MAX - max(0, int(mantissa.max(initial=0)))
    together = sum(ranges.current(encode.name) for encode in encodes)
    for encode in encodes:
        share = ranges.current(encode.name) / together if together else 1 / len(encodes)
        quant = CurrentQuant(exponent, scale, math.ceil(low * share), math.floor(high * share))
        graph.update(encode.name, quant=quant)


def quantise_first_spikes(graph: Graph, node: Node, bits: int, context: PassContext, ranges: Ranges) -> None:
    """Replace neurons that fire once, and what arrives at them, by what they are in integers.

    The scale is the largest at which threshold and input have room in 24 bits, a direct Encode's in the 13
    bits and the exponent of a bias; then lowered until the ramp is an integer.

    Raises:
        HsnnError: E0443, E0445 or E0453.
    """
    theta = np.asarray(node.op.threshold, np.float64)
    sources = graph.predecessors(node.name)
    if not np.all(theta == theta.flat[0]):
        text = "the threshold differs between the neurons of one population"
        raise _refuse(node, "E0445", text, "one threshold per layer")
    if any(source.is_synapse for source in sources):
        text = "neurons that fire once, driven by spikes as they come"
        raise _refuse(node, "E0453", text, "a constant input: a Collect, or direct coding, before them")
    threshold, steps = float(theta.flat[0]), graph.timesteps or 1
    collected = Collected(graph, node, bits, context, ranges)
    encodes = [source for source in sources if source.kind == "Encode"]
    largest = CURRENT_MARGIN * sum(ranges.current(encode.name) for encode in encodes)
    room = min(STATE_MAX / 2 / threshold, (MANTISSA_MAX << EXPONENT_MAX) / max(largest, 1e-30)) / UNIT
    scale = collected.largest_scale(room) if collected else room
    ramp = int(threshold * scale * UNIT / steps)
    if ramp < SMALLEST_RAMP:
        text = f"a step of the threshold would be {ramp} integer units: the input is far larger than the threshold"
        raise _refuse(node, "E0443", text, f"{SMALLEST_RAMP} or more")
    scale = ramp * steps / (threshold * UNIT)
    exponent = bias_exponent(largest * scale * UNIT)
    mantissa = np.zeros((1,) * len(node.shape), np.int32)
    present_encodes(graph, encodes, ranges, exponent, scale, mantissa)
    collected.replace(scale)
    op = FirstSpike(np.full((1,) * len(node.shape), threshold))
    graph.update(node.name, op=op, quant=FirstSpikeQuant(ramp, mantissa, exponent, scale))


def _refuse(node: Node, code: str, message: str, supported: str) -> HsnnError:
    return HsnnError(Finding(code, message, node=node.name, source=node.source, supported=supported))
