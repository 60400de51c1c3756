"""The legality table of the graph: one row per op, read by the verifier after every pass.

Columns: how many inputs, codings accepted, coding given, and how each target runs the op:
``native``, ``emulated`` (with what that means), ``folded`` (a pass merges it into its
neighbour) or ``host``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.crossings import wrong_code
from hsnn_compiler.ir.dynamics import delay_steps, discretize
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.payloads import fires_once
from hsnn_compiler.ir.quant import CollectQuant, CurrentQuant, FirstSpikeQuant, NeuronQuant, WeightQuant
from hsnn_compiler.ir.shapes import ShapeError, shape_rule
from hsnn_compiler.ir.types import Coding, TensorType

ANY = frozenset(Coding)
VALUE = frozenset({Coding.VALUE})
STEPS = ANY - VALUE
SAME = "same"  # coding of the input; of several, the one that can hold all
WIDER = (Coding.VALUE, Coding.SPIKES, Coding.GRADED, Coding.CURRENT)
LINEAR = "linear"  # value stays value, everything per step becomes a current
EVENTS = "events"  # value stays value, everything per step becomes spikes
ENCODED = "current or spikes"  # as the kind of an Encode says


@dataclass(frozen=True)
class OpSpec:
    """One row: what an op accepts, yields, and who runs it."""

    inputs: tuple[int, int | None]
    accepts: frozenset[Coding]
    yields: Coding | str
    targets: dict[str, str] = field(default_factory=dict)


def _row(inputs: tuple[int, int | None], accepts: frozenset[Coding], yields: Coding | str, loihi2: str) -> OpSpec:
    return OpSpec(inputs, accepts, yields, {"loihi2": loihi2})


RESET_ZERO = "native with reset to zero; refused with soft reset, graded spikes, refractory steps"
SPINNAKER: dict[str, str] = {
    "Encode": "native: direct coding is a constant current; others are spikes of a SpikeSourceArray",
    "Collect": "refused: nothing adds up over a window",
    "FirstSpike": "refused: no such stock neuron",
    "CubaLIF": "refused: IF_curr_delta has no synaptic current",
    "CubaLI": "refused: IF_curr_delta has no synaptic current",
    "SigmaDelta": "refused: no such stock neuron",
    "DeltaEncoder": "refused: no such stock neuron",
    "Conv1d": "native: a list of synapses",
    "Conv2d": "native: a list of synapses",
    "IF": "emulated with reset to zero: a leak of 0.4% per step; refused otherwise",
    "LIF": RESET_ZERO,
    "I": "host, from spikes",
    "LI": "native: a neuron whose threshold is out of reach, read as its window ends",
}
"""How SpiNNaker runs an op, where that is not as on Loihi 2: there, too, the network's linear ops are synapses."""


SPINNAKER2: dict[str, str] = {
    **SPINNAKER,
    "Encode": "native: direct coding is i_offset; others are spikes of a spike_list",
    "CubaLIF": "refused: lif_curr_exp_no_delay is not used",
    "CubaLI": "refused: lif_curr_exp_no_delay is not used",
    "Conv2d": "native: lif_conv2d, or a list of synapses",
    "IF": "native: reset by subtraction or to zero; refused with graded spikes, refractory steps",
    "LIF": "native: reset by subtraction or to zero; refused with graded spikes, refractory steps",
}
"""How SpiNNaker 2 runs an op, where that is not as on Loihi 2."""
COLUMNS = {"spinnaker": SPINNAKER, "spinnaker2": SPINNAKER2}


SPIKING = "native with reset to zero; emulated with soft reset or graded spikes: needs custom microcode"
ONE, SOME, NONE = (1, 1), (1, None), (0, 0)

SPEC: dict[str, OpSpec] = {
    #             inputs  accepts  yields           on Loihi 2
    "Input":     _row(NONE, ANY,   SAME,            "host"),
    "Output":    _row(SOME, ANY,   SAME,            "host"),
    "Encode":    _row(ONE,  VALUE, ENCODED,         "native: direct coding is a bias current; others are spikes"),
    "Decode":    _row(SOME, STEPS, Coding.VALUE,    "host"),
    "Collect":   _row(SOME, STEPS, Coding.CURRENT,  "emulated: neurons that collect for a window, custom microcode"),
    "FirstSpike": _row(SOME, STEPS, Coding.SPIKES,  "emulated: a ramp to the threshold, custom microcode"),
    "Affine":    _row(SOME, ANY,   LINEAR,          "native"),
    "Linear":    _row(SOME, ANY,   LINEAR,          "native"),
    "Conv1d":    _row(SOME, ANY,   LINEAR,          "native"),
    "Conv2d":    _row(SOME, ANY,   LINEAR,          "native"),
    "Scale":     _row(SOME, ANY,   LINEAR,          "folded"),
    "Flatten":   _row(SOME, ANY,   SAME,            "native"),
    "AvgPool2d": _row(SOME, ANY,   LINEAR,          "folded"),
    "SumPool2d": _row(SOME, ANY,   LINEAR,          "folded"),
    "Mean":      _row(SOME, ANY,   LINEAR,          "folded"),
    "BatchNorm": _row(SOME, ANY,   LINEAR,          "folded"),
    "Add":       _row(SOME, ANY,   LINEAR,          "folded"),
    "NoOp":      _row(SOME, ANY,   SAME,            "folded"),
    "IF":        _row(SOME, STEPS, Coding.SPIKES,   SPIKING),
    "LIF":       _row(SOME, STEPS, Coding.SPIKES,   SPIKING),
    "CubaLIF":   _row(SOME, STEPS, Coding.SPIKES,   SPIKING),
    "I":         _row(SOME, STEPS, Coding.CURRENT,  "native: a neuron whose threshold is out of reach"),
    "LI":        _row(SOME, STEPS, Coding.CURRENT,  "native: a neuron whose threshold is out of reach"),
    "CubaLI":    _row(SOME, STEPS, Coding.CURRENT,  "native: a neuron whose threshold is out of reach"),
    "SigmaDelta":   _row(SOME, STEPS, Coding.GRADED, "native"),
    "DeltaEncoder": _row(SOME, STEPS, Coding.GRADED, "native"),
    "Delay":     _row(SOME, STEPS, SAME,            "host"),
    "Threshold": _row(SOME, ANY,   EVENTS,            "host"),
    "ReLU":      _row(SOME, ANY,   LINEAR,          "emulated: converted to integrate-and-fire neurons"),
    "Clip":      _row(SOME, ANY,   LINEAR,          "emulated: converted to integrate-and-fire neurons (low = 0)"),
    "Quantised": _row(SOME, ANY,   LINEAR,          "emulated: converted to integrate-and-fire neurons"),
    "LeakyReLU": _row(SOME, ANY,   LINEAR,          "host"),
    "Sigmoid":   _row(SOME, ANY,   LINEAR,          "host"),
    "Tanh":      _row(SOME, ANY,   LINEAR,          "host"),
    "GELU":      _row(SOME, ANY,   LINEAR,          "host"),
    "Softmax":   _row(SOME, ANY,   LINEAR,          "host"),
    "LayerNorm": _row(SOME, ANY,   LINEAR,          "host"),
    "MaxPool2d": _row(SOME, ANY,   SAME,            "emulated for spikes: neurons that fire if any in the window does"),
    "Concat":    _row(SOME, ANY,   SAME,            "host"),
    "HostCall":  _row(SOME, ANY,   LINEAR,          "host"),
    "Spread":    _row(SOME, ANY,   SAME,            "native: where axons lead"),
}  # fmt: skip


def output_type(node: Node, inputs: list[TensorType]) -> TensorType:
    """Type a node yields for these input types. Raises `ShapeError` in words."""
    row = SPEC[node.kind]
    codings = {tensor.coding for tensor in inputs}
    for coding in codings - row.accepts:
        raise ShapeError(f"{node.kind} takes {_names(row.accepts)}, not {coding.value}")
    if codings and Coding.VALUE in codings and len(codings) > 1:
        raise ShapeError("values (once per sample) and steps meet without an Encode or Decode between them")
    shape = shape_rule(node.op, [tensor.shape for tensor in inputs])
    per_step = bool(codings) and Coding.VALUE not in codings
    adds_up = len(inputs) > 1 and node.kind != "Concat"
    if row.yields is LINEAR or (row.yields is SAME and adds_up):
        coding = Coding.CURRENT if per_step else Coding.VALUE
    elif row.yields is SAME:
        own = node.type.coding if node.type else Coding.VALUE
        coding = max((tensor.coding for tensor in inputs), key=WIDER.index, default=own)
    elif row.yields is EVENTS:
        coding = Coding.SPIKES if per_step else Coding.VALUE
    elif row.yields is ENCODED:
        coding = Coding.SPIKES if node.is_event_source else Coding.CURRENT
    else:
        coding = Coding(row.yields)
        if node.is_spiking and not fires_once(node):
            coding = Coding.GRADED  # how often it fires in a step
    return TensorType(shape, coding)


def verify(graph: Graph) -> list[Finding]:
    """Check a graph against the table: inputs, types, neurons' dynamics, quantised values.

    Returns all findings at once; an empty list means the graph is legal.
    """
    findings: list[Finding] = []
    for node in graph.topological():
        for check in CHECKS:
            message = check(graph, node)
            if message:
                findings.append(Finding("E0102", message, node=node.name, source=node.source))
                break
    if not graph.of_kind("Output"):
        findings.append(Finding("E0102", "the graph has no output"))
    return findings


def _check_known(graph: Graph, node: Node) -> str:
    return "" if node.kind in SPEC else f"{node.kind} is not an op of the graph"


def _check_inputs(graph: Graph, node: Node) -> str:
    low, high = SPEC[node.kind].inputs
    count = len(graph.in_edges(node.name))
    if count < low or (high is not None and count > high):
        return f"{node.kind} has {count} inputs"
    return ""


def _check_type(graph: Graph, node: Node) -> str:
    inputs = [source.type for source in graph.predecessors(node.name)]
    if node.type is None or None in inputs:
        return ""  # before shape inference
    try:
        expected = output_type(node, [tensor for tensor in inputs if tensor is not None])
    except ShapeError as error:
        return str(error)
    return "" if expected == node.type else f"type is {node.type}, the table says {expected}"


def _check_codes(graph: Graph, node: Node) -> str:
    if node.kind in ("Encode", "Decode", "Collect"):
        return wrong_code(node.op, graph.timesteps)
    if node.kind == "FirstSpike" and not np.all((node.op.threshold > 0) & np.isfinite(node.op.threshold)):
        return "a threshold of a first spike that is not positive"
    if node.kind == "Quantised":
        if not np.all((node.op.threshold > 0) & np.isfinite(node.op.threshold)):
            return "a quantised activation with a threshold that is not positive"
        if node.op.levels < 1 or node.op.ties not in ("up", "even"):
            return f"a quantised activation with {node.op.levels} levels, and ties {node.op.ties}"
    return ""


def _check_dynamics(graph: Graph, node: Node) -> str:
    if not node.is_neuron and node.kind != "Delay":
        return "" if node.dynamics is None else f"{node.kind} has dynamics"
    if node.dynamics is None:
        return f"{node.kind} without dynamics has no meaning in steps"
    if node.kind == "Delay":
        return "" if delay_steps(node.op, node.dynamics).min(initial=0) >= 0 else "a negative delay"
    if graph.timesteps is None and any(
        source.type.coding is Coding.VALUE for source in graph.of_kind("Input") if source.type
    ):
        return "a neuron in a graph that does not say its number of time steps"
    for array in vars(discretize(node.op, node.dynamics)).values():
        if isinstance(array, np.ndarray) and not np.all(np.isfinite(array)):
            return "a coefficient of the neuron is not finite"
    return ""


def _check_quant(graph: Graph, node: Node) -> str:
    quant = node.quant
    if isinstance(quant, WeightQuant):
        real = quant.integers * 2.0**quant.exponent / quant.scale
        if not np.allclose(real, node.op.weight, rtol=1e-5, atol=1e-12):
            return "the integers are not those of the weights"
    elif isinstance(quant, NeuronQuant):
        taken = 0 if quant.taken is None else quant.taken
        limits = ((quant.du, -1, 4095, "du"), (quant.dv, 0, 4096, "dv"), (quant.vth, 0, 2**17 - 1, "vth"),
                  (quant.v_init, 1 - 2**23, 2**23 - 1, "v_init"), (taken, 0, 2**23, "taken"),
                  (quant.bias_exp, 0, 7, "bias_exp"))  # fmt: skip
        for value, low, high, what in limits:
            if np.shape(value) not in ((), () if what in ("vth", "bias_exp") else node.shape):
                return f"{what} of shape {list(np.shape(value))} for neurons of shape {list(node.shape)}"
            if np.min(value) < low or np.max(value) > high:
                found = value if np.ndim(value) == 0 else f"{np.min(value)}..{np.max(value)}"
                return f"{what} = {found} is outside {low}..{high}"
        if quant.vth == 0 and node.is_spiking and not fires_once(node):
            return "several spikes in a step with a threshold of 0"
        if quant.bias_mant.size and (quant.bias_mant.min() < -4096 or quant.bias_mant.max() > 4095):
            return "bias_mant is outside 13 bits"
    elif isinstance(quant, CurrentQuant) and node.kind != "Encode":
        return "a quantised current on something that is not an Encode"
    elif isinstance(quant, CollectQuant):
        fits = node.kind == "Collect" and np.abs(quant.bias.astype(np.int64)).max(initial=0) < 2**23
        return "" if fits else "a start value outside 24 bits, or of something that is not a Collect"
    elif isinstance(quant, FirstSpikeQuant):
        fits = node.kind == "FirstSpike" and 1 <= quant.ramp * (graph.timesteps or 1) < 2**23
        return "" if fits else "a threshold outside 24 bits, or of something that is not a FirstSpike"
    return ""


CHECKS: tuple[Callable[[Graph, Node], str], ...] = (
    _check_known,
    _check_inputs,
    _check_type,
    _check_codes,
    _check_dynamics,
    _check_quant,
)


def runs_on(kind: str, family: str) -> str:
    """How chips of a family (``Target.family``) run an op, alone or several on a board: the table's last column."""
    column = SPEC[kind].targets
    return COLUMNS[family].get(kind, column["loihi2"]) if family in COLUMNS else column.get(family, "host")


def table(family: str = "loihi2") -> list[tuple[str, str, str, str]]:
    """Rows (op, accepts, yields, how the chip runs it) for documents and ``hsnn-compile targets``."""
    return [
        (kind, _names(row.accepts), row.yields.value if isinstance(row.yields, Coding) else row.yields,
         runs_on(kind, family))
        for kind, row in SPEC.items()
    ]  # fmt: skip


def _names(codings: frozenset[Coding]) -> str:
    if codings == ANY:
        return "any"
    return ", ".join(coding.value for coding in Coding if coding in codings)
