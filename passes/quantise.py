"""Quantise the chip's part to Loihi's integers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import nir
import numpy as np

from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.ir.dynamics import Dynamics, StepCoefficients, discretize
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.ops import bias_of
from hsnn_compiler.ir.quant import STATE_SHIFT, CurrentQuant, NeuronQuant, WeightQuant
from hsnn_compiler.passes.base import BOUNDED, Pass, PassContext, PassResult
from hsnn_compiler.passes.batchnorm import with_weights
from hsnn_compiler.passes.chip_steps import inclusive_tests, step_findings, taken_at_a_spike
from hsnn_compiler.passes.connections import vars_of
from hsnn_compiler.passes.loihi_format import (
    EXPONENT_MAX,
    MANTISSA_MAX,
    MANTISSA_MIN,
    STATE_MAX,
    VTH_MAX,
    WeightFormat,
    bias_exponent,
    current_decay_integer,
    decay_integer,
    late_reset,
    weight_format,
)
from hsnn_compiler.passes.ranges import Ranges, measure

CURRENT_MARGIN = 1.25  # inputs may exceed those seen in calibration by this factor before they clip
READOUT_MARGIN = 2.0
COARSE_THRESHOLD = 32
BITS = range(2, 9)  # one bit of mixed signs would hold nothing but -256 and 0


@dataclass(frozen=True)
class Quantise(Pass):
    """Give weights, biases, decays and thresholds the integer formats of Loihi.

    Each population gets one scale S (integer units per real unit) for everything that arrives: as large
    as its weights allow, then lowered until the threshold theta S is an integer, so that rounding
    the threshold costs nothing. Weights: 8 bits, |W - W_int/S| <= step/(2 S). Biases: 13-bit
    mantissa, 3-bit exponent. Decays: 12 bits. The parameters of the ops become the dequantised ones.
    """

    bits: int = 8

    name: ClassVar[str] = "quantise"
    contract: ClassVar[str] = BOUNDED
    requires: ClassVar[tuple[str, ...]] = ("placed", "timed", "neurons-and-synapses", "single-source", "direct")
    ensures: ClassVar[tuple[str, ...]] = ("quantised",)
    layer_options: ClassVar[tuple[str, ...]] = ("bits",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        _check_bits(self.bits, graph, context)
        graph = _one_encode_per_population(graph)
        ranges = measure(graph, context)
        findings: list[Finding] = []
        populations = [node for node in graph if node.is_neuron and node.on_chip]
        for node in populations:
            try:
                _Population(graph, node, self.bits, context, ranges).quantise()
            except HsnnError as error:
                findings += error.findings
            findings += coarse(graph[node.name])
        findings += inclusive_tests(populations)
        notes = (f"{len(populations)} populations, weights of at most {self.bits} bits",)
        return PassResult(graph, True, notes, tuple(findings))


class _Population:
    """One population and everything that arrives at it."""

    def __init__(self, graph: Graph, node: Node, bits: int, context: PassContext, ranges: Ranges) -> None:
        assert node.dynamics is not None
        self.graph, self.node, self.dynamics, self.ranges = graph, node, node.dynamics, ranges
        self.steps = graph.timesteps or 1
        sources = graph.predecessors(node.name)
        self.synapses = [source for source in sources if source.is_synapse]
        self.encodes = [source for source in sources if source.kind == "Encode"]
        self.step = discretize(node.op, node.dynamics)
        self.decay, self.gain, self.theta, self.v_init, self.leak, self.current_decay = self._scalars()
        self.formats = {s.name: weight_format(s.op.weight, context.layer(s.name, "bits", bits)) for s in self.synapses}

    def quantise(self) -> None:
        """Choose the scale and replace the population and its synapses in the graph."""
        vth, scale, exponent = self._scale()
        self._check_threshold(vth)
        bias = self._total_bias()
        largest_input = CURRENT_MARGIN * sum(self.ranges.current(encode.name) for encode in self.encodes)
        unit = scale * 2**STATE_SHIFT
        bias_exp = bias_exponent((float(np.abs(bias).max(initial=0.0)) + largest_input * self.gain) * unit)
        if bias_exp > EXPONENT_MAX:
            raise self._refuse(
                "E0442",
                f"a bias current of {np.abs(bias).max(initial=0.0) + largest_input:.4g} is too large",
                supported=f"at most {MANTISSA_MAX << EXPONENT_MAX} integer units",
            )
        mantissa = np.rint(bias * unit / 2**bias_exp).astype(np.int32)
        self._replace_synapses(scale, exponent, mantissa * 2.0**bias_exp / (unit * self.gain))
        low = MANTISSA_MIN - min(0, int(mantissa.min(initial=0)))
        high = MANTISSA_MAX - max(0, int(mantissa.max(initial=0)))
        for encode in self.encodes:  # together they must not leave the 13 bits: each has its share
            share = self._share(encode)
            quant = CurrentQuant(bias_exp, scale * self.gain, math.ceil(low * share), math.floor(high * share))
            self.graph.update(encode.name, quant=quant)
        self._replace_neuron(vth, scale, mantissa, bias_exp)

    # -- the scale ----------------------------------------------------------------------------

    def _scale(self) -> tuple[int, float, int]:
        """Threshold integer, scale of the population, and the exponent of its weights."""
        fits = min(
            (self.formats[s.name].largest_scale(s.op.weight * self.gain) for s in self.synapses),
            default=math.inf,
        )
        if self.theta is None:
            return self._readout_scale(fits)
        if math.isinf(fits):
            fits = self._input_scale()
        vth = int(min(self.theta * fits, VTH_MAX))
        return vth, (vth / self.theta if vth else fits), 0

    def _readout_scale(self, fits: float) -> tuple[int, float, int]:
        """An integrator must not overflow: its scale follows from the largest potential it reaches."""
        largest = self.ranges.potential(self.node.name) * READOUT_MARGIN
        room = STATE_MAX / 2**STATE_SHIFT / max(largest, 1e-30)
        if room >= fits:
            return VTH_MAX, (room if math.isinf(fits) else fits), 0
        # A linear layer keeps its weights' precision and shifts the sum; convolutions cannot.
        if all(s.kind in ("Affine", "Linear") for s in self.synapses):
            exponent = -min(8, math.ceil(math.log2(fits / room)))
            return VTH_MAX, fits * 2.0**exponent, exponent
        return VTH_MAX, room, 0

    def _input_scale(self) -> float:
        """A population without weights: use the bias mantissa's range, and leave room for T steps of it."""
        largest = CURRENT_MARGIN * sum(self.ranges.current(encode.name) for encode in self.encodes) * self.gain
        room = STATE_MAX / 2 / MANTISSA_MAX / self.steps
        exponent = int(np.clip(math.floor(math.log2(max(room, 1))), 0, EXPONENT_MAX))
        return MANTISSA_MAX * 2.0**exponent / (2**STATE_SHIFT * max(largest, 1e-12))

    def _share(self, encode: Node) -> float:
        """Part of the largest input that comes from one of the Encodes."""
        together = sum(self.ranges.current(other.name) for other in self.encodes)
        return self.ranges.current(encode.name) / together if together else 1 / len(self.encodes)

    def _check_threshold(self, vth: int) -> None:
        if vth < 4:
            raise self._refuse(
                "E0443",
                f"the threshold would be {vth} integer units: its weights are far larger than its threshold",
                suggestion="look for a channel with a huge weight or batch-norm scale",
            )

    # -- replacing ------------------------------------------------------------------------------

    def _total_bias(self) -> np.ndarray:
        """Constant input per step, in units of the membrane potential, broadcastable against the shape."""
        rank = len(self.node.shape)
        total = np.full((1,) * rank, self.leak)
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
            quant = WeightQuant(integers, exponent, form.bits, form.sign_mode, scale * self.gain, clipped)
            weight = integers * 2.0**exponent / quant.scale
            channels = np.broadcast_to(bias.reshape(-1), (len(weight),)) if i == 0 else np.zeros(len(weight))
            has_bias = bias_of(synapse.op) is not None or channels.any()
            op = with_weights(synapse.op, weight, channels.copy()) if has_bias else nir.Linear(weight)
            self.graph.update(synapse.name, op=op, quant=quant)

    def _replace_neuron(self, vth: int, scale: float, mantissa: np.ndarray, bias_exp: int) -> None:
        unit = scale * 2**STATE_SHIFT
        v_init = round(self.v_init * unit)
        du = current_decay_integer(self.current_decay or 0.0)
        dv = decay_integer(self.decay)
        taken = late_reset(taken_at_a_spike(self.step), vth, dv) if self.step.reset == "subtract" else None
        quant = NeuronQuant(du, dv, vth, v_init, mantissa, bias_exp, scale, taken)
        changes: dict[str, Any] = {}
        if self.theta is not None:
            changes["v_threshold"] = np.full_like(self.node.op.v_threshold, vth / scale, dtype=np.float64)
        if self.leak:
            changes["v_leak"] = np.zeros_like(self.node.op.v_leak)
        dynamics = Dynamics(
            **{
                **vars(self.dynamics),
                "integrator": "none",
                "decay": 1 - dv / 4096,
                "gain": self.gain,
                "current_decay": None if self.current_decay is None else 1 - (du + 1) / 4096,
                "v_init": v_init / unit,
                "threshold_test": ">",
            }
        )
        op = type(self.node.op)(**{**vars_of(self.node.op), **changes})
        self.graph.update(self.node.name, op=op, dynamics=dynamics, quant=quant)

    # -- what the chip has once per population ------------------------------------------------------

    def _scalars(self) -> tuple[float, float, float | None, float, float, float | None]:
        step: StepCoefficients = self.step
        constant = bool(self.encodes) or any(np.any(bias_of(s.op)) for s in self.synapses if bias_of(s.op) is not None)
        if findings := step_findings(self.node, step, constant):
            raise HsnnError(findings)
        values = {
            "decay": step.decay,
            "gain": step.gain,
            "threshold": step.threshold,
            "v_init": step.v_init,
            "leak": step.leak,
            "current_decay": step.current_decay,
            "w_in": step.w_in,
        }
        scalars: dict[str, float | None] = {}
        for what, array in values.items():
            if array is not None and not np.all(array == array.flat[0]):
                raise self._refuse(
                    "E0445",
                    f"{what} differs between the neurons of one population",
                    supported=f"one {what} per layer",
                    suggestion="train with one value per layer, or split the layer",
                )
            scalars[what] = None if array is None else float(array.flat[0])
        gain = float(scalars["gain"] or 0) * float(1 if scalars["w_in"] is None else scalars["w_in"])
        if gain <= 0:
            raise self._refuse("E0445", f"an input gain of {gain}", supported="positive gains")
        return (
            float(scalars["decay"] or 0),
            gain,
            scalars["threshold"],
            float(scalars["v_init"] or 0),
            float(scalars["leak"] or 0),
            scalars["current_decay"],
        )

    def _refuse(self, code: str, message: str, **more: str) -> HsnnError:
        return HsnnError(Finding(code, message, node=self.node.name, source=self.node.source, **more))


def _check_bits(bits: int, graph: Graph, context: PassContext) -> None:
    wrong = [("", bits)] + [(node.name, context.layer(node.name, "bits", bits)) for node in graph]
    findings = [
        Finding("E0212", f"weights of {number} bits", node=name, supported=f"{BITS[0]} to {BITS[-1]} bits")
        for name, number in wrong
        if number not in BITS
    ]
    if findings:
        raise HsnnError(findings)


def coarse(node: Node, suggestion: str = "raise the floor of calibrate-thresholds") -> list[Finding]:
    """Warn of a threshold so small in integers that most weights into the population round to nothing (W0449)."""
    quant = node.quant
    if not isinstance(quant, NeuronQuant) or quant.vth >= COARSE_THRESHOLD:
        return []
    return [
        Finding(
            "W0449",
            f"the threshold is only {quant.vth} integer units, so weights well below it have little resolution",
            node=node.name,
            source=node.source,
            suggestion=f"compare float and integer accuracy; {suggestion}",
        )
    ]


def _one_encode_per_population(graph: Graph) -> Graph:
    """An analog input that feeds several populations is presented to each at its own scale."""
    graph = graph.copy()
    for encode in graph.of_kind("Encode"):
        for edge in graph.out_edges(encode.name)[1:]:
            copy = encode.with_(name=graph.unique(f"{encode.name}.{edge.dst}"))
            graph.disconnect(edge)
            graph.add(copy, graph.in_edges(encode.name)[0].src)
            graph.connect(edge._replace(src=copy.name))
    return graph
