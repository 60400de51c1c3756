"""One population of the chip and everything that arrives at it, in integers."""

from __future__ import annotations

import math
from typing import Any

import nir
import numpy as np

from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.ir.dynamics import Dynamics, StepCoefficients, discretize
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.ops import bias_of
from hsnn_compiler.ir.payloads import largest_payload, message_bits
from hsnn_compiler.ir.quant import STATE_SHIFT, NeuronQuant, WeightQuant
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.batchnorm import with_weights
from hsnn_compiler.passes.chip_steps import step_findings, taken_at_a_spike
from hsnn_compiler.passes.collecting import CURRENT_MARGIN, Collected, present_encodes, presentable
from hsnn_compiler.passes.connections import vars_of
from hsnn_compiler.passes.loihi_format import (
    DECAY_UNITY,
    EXPONENT_MAX,
    MANTISSA_MAX,
    STATE_MAX,
    VTH_MAX,
    WeightFormat,
    bias_exponent,
    current_decay_integer,
    decay_integer,
    late_reset,
    one_or_each,
    weight_format,
)
from hsnn_compiler.passes.one_to_one import is_per_channel
from hsnn_compiler.passes.ranges import Ranges

STATE_MARGIN = 2.0
EXPONENT_MIN = -8
VTH_MIN, SMALL_THRESHOLD = 4, 64
BIAS_MAX = MANTISSA_MAX << EXPONENT_MAX


class Population:
    """One population and everything that arrives at it.

    Args:
        graph: is changed by `quantise`.
        node: the population.
        bits: of weights, where nothing else was asked for.
        context: knows what was asked for.
        ranges: how large things get on calibration data.

    Raises:
        HsnnError: with everything that the chip does not have (E0444, E0445, E0453).
    """

    def __init__(self, graph: Graph, node: Node, bits: int, context: PassContext, ranges: Ranges) -> None:
        assert node.dynamics is not None
        self.graph, self.node, self.dynamics, self.ranges = graph, node, node.dynamics, ranges
        self.steps = graph.timesteps or 1
        sources = graph.predecessors(node.name)
        self.synapses = [source for source in sources if source.is_synapse]
        self.encodes = [source for source in sources if source.kind == "Encode"]
        self.step = discretize(node.op, node.dynamics)
        self.gain, self.theta = self._scalars()
        payloads = {s.name: largest_payload(graph, graph.predecessors(s.name)[0]) for s in self.synapses}
        self.message_bits = {name: message_bits(payload) for name, payload in payloads.items()}
        self.bias = self._total_bias()
        self.largest_input = CURRENT_MARGIN * sum(ranges.current(encode.name) for encode in self.encodes) * self.gain
        self.constant = float(np.abs(self.bias).max(initial=0.0)) + self.largest_input
        self.formats = {s.name: weight_format(s.op.weight, context.layer(s.name, "bits", bits)) for s in self.synapses}
        self.collected = Collected(graph, node, bits, context, ranges)

    def quantise(self) -> None:
        """Choose the scale and replace the population and its synapses in the graph."""
        vth, scale, exponent = self._scale()
        self._check_threshold(vth)
        unit = scale * 2**STATE_SHIFT
        bias_exp = bias_exponent(self.constant * unit)
        if bias_exp > EXPONENT_MAX:
            raise self._refuse(
                "E0442",
                f"a bias current of {self.constant:.4g} is too large",
                supported=f"at most {BIAS_MAX} integer units",
            )
        mantissa = np.rint(self.bias * unit / 2**bias_exp).astype(np.int32)
        # Constants per channel go on as the bias of the first synapses; others have no place but the leak.
        leak = mantissa * 2.0**bias_exp / unit
        through_synapses = bool(self.synapses) and self.step.current_decay is None and is_per_channel(leak)
        self._replace_synapses(scale, exponent, leak / self.gain if through_synapses else np.zeros(1))
        present_encodes(self.graph, self.encodes, self.ranges, bias_exp, scale * self.gain, mantissa)
        self.collected.replace(scale * self.gain)
        self._replace_neuron(vth, scale, mantissa, bias_exp, None if through_synapses else leak)

    # -- the scale ----------------------------------------------------------------------------

    def _scale(self) -> tuple[int, float, int]:
        """Threshold integer, scale of the population, and the exponent of its weights."""
        fits = min(
            (self.formats[s.name].largest_scale(s.op.weight * self.gain) for s in self.synapses),
            default=math.inf,
        )
        if self.collected:
            slowest = float(self.step.decay.max())
            room = presentable(self.constant, self.steps, slowest, self.gain, self.collected.largest, self.theta)
            room = min(room, fits, VTH_MAX / self.theta if self.theta else math.inf)
            fits = self.collected.largest_scale(room * self.gain) / self.gain
        fits, exponent = self._within_range(fits)
        if self.theta is None:
            return VTH_MAX, fits, exponent
        vth = int(min(self.theta * fits, VTH_MAX))
        return vth, (vth / self.theta if vth else fits), exponent

    def _within_range(self, fits: float) -> tuple[float, int]:
        """A scale at which state and bias keep to their bits, and an exponent of weights.

        An integrator adds up without end, and payloads make currents large: beyond 24 bits a current wraps. Twice the
        largest of the calibration data must fit.
        """
        largest = self.ranges.potential(self.node.name) * STATE_MARGIN
        room = STATE_MAX / 2**STATE_SHIFT / max(largest, 1e-30)
        for_bias = BIAS_MAX / 2**STATE_SHIFT / max(self.constant, 1e-30)
        if self.theta is None or self.theta * for_bias >= VTH_MIN:  # else it is the bias that is too large
            room = min(room, for_bias)
        if math.isinf(fits):
            fits = room if self.theta is None else self._input_scale()
            return min(fits, room), 0
        if room >= fits:
            return fits, 0
        # A linear layer keeps its weights' precision and shifts the sum; convolutions cannot.
        if all(s.kind in ("Affine", "Linear") for s in self.synapses):
            shift = math.log2(fits / room)
            # Weights lose nothing, or less than a bit where else the threshold would be small.
            keeps = self.theta is None or self.theta * fits * 2.0 ** -math.ceil(shift) >= SMALL_THRESHOLD
            exponent = max(EXPONENT_MIN, -math.ceil(shift) if keeps else -math.floor(shift))
            return min(fits * 2.0**exponent, room), exponent
        return room, 0

    def _input_scale(self) -> float:
        """A population without weights: use the bias mantissa's range, and leave room for T steps of it."""
        room = STATE_MAX / 2 / MANTISSA_MAX / self.steps
        exponent = int(np.clip(math.floor(math.log2(max(room, 1))), 0, EXPONENT_MAX))
        return MANTISSA_MAX * 2.0**exponent / (2**STATE_SHIFT * max(self.largest_input, 1e-12))

    def _check_threshold(self, vth: int) -> None:
        if vth < VTH_MIN:
            raise self._refuse(
                "E0443",
                f"the threshold would be {vth} integer units: its weights are far larger than its threshold",
                suggestion="look for a channel with a huge weight or batch-norm scale"
                + ("" if self.step.max_spikes == 1 else ", or fewer spikes per step (--max-spikes)"),
            )

    # -- replacing ------------------------------------------------------------------------------

    def _total_bias(self) -> np.ndarray:
        """Constant input per step, in units of the membrane potential, broadcastable against the shape."""
        rank = len(self.node.shape)
        total = self._whole(self.step.leak)
        for synapse in self.synapses:
            bias = bias_of(synapse.op)
            if bias is not None:
                total = total + self.gain * np.asarray(bias, np.float64).reshape(-1, *[1] * (rank - 1))
        return total

    def _replace_synapses(self, scale: float, exponent: int, bias: np.ndarray) -> None:
        """Give each synapse op its integers; the whole bias goes to the first."""
        unit = scale * self.gain * 2.0**-exponent
        for i, synapse in enumerate(self.synapses):
            form: WeightFormat = self.formats[synapse.name]
            integers, clipped = form.round(np.asarray(synapse.op.weight, np.float64), unit)
            message_bits = self.message_bits[synapse.name]
            quant = WeightQuant(integers, exponent, form.bits, form.sign_mode, scale * self.gain, clipped, message_bits)
            weight = integers * 2.0**exponent / quant.scale
            channels = np.broadcast_to(bias.reshape(-1), (len(weight),)) if i == 0 else np.zeros(len(weight))
            has_bias = bias_of(synapse.op) is not None or channels.any()
            op = with_weights(synapse.op, weight, channels.copy()) if has_bias else nir.Linear(weight)
            self.graph.update(synapse.name, op=op, quant=quant)

    def _replace_neuron(
        self, vth: int, scale: float, mantissa: np.ndarray, bias_exp: int, leak: np.ndarray | None
    ) -> None:
        unit = scale * 2**STATE_SHIFT
        v_init = self._start(unit)
        current = self.step.current_decay
        each_du = current_decay_integer(0.0 if current is None else self._whole(current))
        each_dv = decay_integer(self._whole(self.step.decay))
        du, dv = (one_or_each(each, self.node.shape) for each in (each_du, each_dv))
        taken = late_reset(taken_at_a_spike(self.step), vth, dv) if self.step.reset == "subtract" else None
        quant = NeuronQuant(du, dv, vth, v_init, mantissa, bias_exp, scale, taken)
        changes: dict[str, Any] = {}
        if self.theta is not None:
            changes["v_threshold"] = np.full_like(self.node.op.v_threshold, vth / scale, dtype=np.float64)
        if hasattr(self.node.op, "v_leak"):
            changes["v_leak"] = np.zeros_like(self.node.op.v_leak)
        dynamics = Dynamics(
            **{
                **vars(self.dynamics),
                "integrator": "none",
                "reset": "zero" if self.step.reset == "value" else self.dynamics.reset,
                "decay": _number(1 - each_dv / DECAY_UNITY),
                "gain": float(self.step.gain.flat[0]),
                "current_gain": None if self.step.w_in is None else float(self.step.w_in.flat[0]),
                "current_decay": None if current is None else _number(1 - (each_du + 1) / DECAY_UNITY),
                "leak": leak if leak is not None and leak.any() else None if self.dynamics.leak is None else 0.0,
                "v_init": v_init / unit,
                "threshold_test": ">",
            }
        )
        op = type(self.node.op)(**{**vars_of(self.node.op), **changes})
        self.graph.update(self.node.name, op=op, dynamics=dynamics, quant=quant)

    # -- what the chip has once per population ------------------------------------------------------

    def _start(self, unit: float) -> int | np.ndarray:
        """Start potential in integers: one, or int32 per neuron (E0453 beyond 24 bits)."""
        wanted = np.rint(self._whole(self.step.v_init) * unit)
        if np.abs(wanted).max() > STATE_MAX:
            raise self._refuse(
                "E0453",
                f"a start potential of {np.abs(wanted).max() / unit:.4g}, far from the threshold",
                supported=f"up to {STATE_MAX / unit:.4g}",
            )
        return one_or_each(wanted, self.node.shape)

    def _whole(self, array: np.ndarray) -> np.ndarray:
        """A coefficient of the step as it broadcasts against the population's shape."""
        return array.reshape((1,) * len(self.node.shape)) if array.size == 1 else array

    def _scalars(self) -> tuple[float, float | None]:
        """Input gain and threshold: one each, or E0445. (`lower-connections` made them one where weights can be.)"""
        step: StepCoefficients = self.step
        constant = bool(self.encodes) or any(np.any(bias_of(s.op)) for s in self.synapses if bias_of(s.op) is not None)
        if findings := step_findings(self.node, step, constant):
            raise HsnnError(findings)
        values = {"gain": step.gain, "threshold": step.threshold, "w_in": step.w_in}
        scalars: dict[str, float | None] = {}
        for what, array in values.items():
            if array is not None and not np.all(array == array.flat[0]):
                raise self._refuse(
                    "E0445",
                    f"{what} differs between the pixels of a channel, which one kernel serves",
                    supported=f"one {what} per channel",
                    suggestion="train with one value per channel",
                )
            scalars[what] = None if array is None else float(array.flat[0])
        gain = float(scalars["gain"] or 0) * float(1 if scalars["w_in"] is None else scalars["w_in"])
        if gain <= 0:
            raise self._refuse("E0445", f"an input gain of {gain}", supported="positive gains")
        return gain, scalars["threshold"]

    def _refuse(self, code: str, message: str, **more: str) -> HsnnError:
        return HsnnError(Finding(code, message, node=self.node.name, source=self.node.source, **more))


def _number(array: np.ndarray) -> float | np.ndarray:
    """What is the same for all neurons as a number."""
    return float(array.flat[0]) if np.all(array == array.flat[0]) else array
