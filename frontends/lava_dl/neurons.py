"""Neurons of a file: from device parameters to an op, its dynamics and its integers.

After ``Network.get_neuron_params`` of netx. CUBA and LOIHI are Lava's LIF with du = iDecay - 1,
dv = vDecay, vth = vThMant, bias_exp = 6; SDNN is SigmaDelta, in an input layer Delta, with
spike_exp = state_exp = 6 and payloads of 16 bits. A dense layer without a neuron integrates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nir
import numpy as np

from hsnn_compiler.frontends.lava_dl.fields import Fields
from hsnn_compiler.ir.dynamics import Dynamics
from hsnn_compiler.ir.ops import DeltaEncoder, SigmaDelta
from hsnn_compiler.ir.quant import NeuronQuant, SigmaDeltaQuant

BIAS_EXP = 6
SPIKE_EXP = STATE_EXP = 6
SIGMA_DELTA_BITS = 16
SIGMA_DELTA_MAX = 2**19 - 1  # it is shifted by 12 bits, into 32
UNITY = 4096
VTH_MAX = 2**17 - 1
BIAS_MIN, BIAS_MAX = -4096, 4095
CUBA, SDNN = ("CUBA", "LOIHI"), ("SDNN",)
# Training knows them; they say nothing of what the network computes.
_TRAINING = ("scaleRho", "tauRho", "theta", "sharedParams", "requiresGrad", "persistentState")


@dataclass(frozen=True, eq=False)
class Neuron:
    """A neuron, without its population's bias.

    Attributes:
        kind: ``"lif"``, ``"integrator"``, ``"sigma-delta"`` or ``"sigma"`` (only adds up: it has no spikes).
        du, dv, vth: as Lava's processes take them.
        message_bits: of what it sends; 0 for spikes.
        weight_scale: integer weights per real weight on the way into it.
    """

    kind: str
    du: int = 0
    dv: int = 0
    vth: int = 0
    message_bits: int = 0
    weight_scale: float = 1.0


# netx gives it the threshold 2^17, which 17 bits do not hold: it never spikes there. Here it would return to
# zero where the potential saturates.
INTEGRATOR = Neuron("integrator", du=-1, dv=UNITY, vth=VTH_MAX)


def read_neuron(layer: Fields) -> Neuron:
    """The neuron of a layer that has one."""
    fields = layer.sub("neuron")
    fields.ignore("type", *_TRAINING)
    kind = fields.text("type") if "type" in fields else "CUBA"
    if "type" not in fields:
        fields.assume("the neuron has no type: CUBA is assumed, as the description of the format says")
    bits = fields.integer("messageBits") if "messageBits" in fields else None
    if kind in SDNN:
        fields.ignore("sigma_output", "iDecay", "vDecay", "refDelay", "gradedSpike", "wgtExp", "weight_exp")
        only_adds = "sigma_output" in fields
        fields.ignore(*(["vThMant"] if only_adds else []))
        vth = 0 if only_adds else _within(fields, "vThMant", 0, SIGMA_DELTA_MAX)
        fields.leftovers()
        return Neuron(
            "sigma" if only_adds else "sigma-delta",
            vth=vth,
            message_bits=SIGMA_DELTA_BITS if bits is None else bits,
            weight_scale=float(2**STATE_EXP),
        )
    if kind not in CUBA:
        raise fields.wrong(f"neurons of type {kind}", supported=", ".join((*CUBA, *SDNN)), suggestion="", code="E0251")
    du, dv = _within(fields, "iDecay", 0, UNITY) - 1, _within(fields, "vDecay", 0, UNITY)
    vth = _within(fields, "vThMant", 0, VTH_MAX)
    _check_ignored(fields)
    fields.leftovers()
    return Neuron("lif", du, dv, vth, bits or 0)


def _within(fields: Fields, key: str, low: int, high: int) -> int:
    value = fields.integer(key)
    if not low <= value <= high:
        raise fields.wrong(f"{key} = {value}", supported=f"{low} to {high}")
    return value


def _check_ignored(fields: Fields) -> None:
    """Fields that change something in training or on Loihi 1, and that netx and Lava's LIF leave out."""
    if "refDelay" in fields and (delay := fields.integer("refDelay")) != 1:
        fields.assume(f"refDelay = {delay}: Lava's neurons know no refractory time, it is left out as netx does")
    for key in ("wgtExp", "weight_exp"):
        if key in fields and (exponent := fields.integer(key)) != 0:
            fields.assume(f"{key} = {exponent}: netx leaves it out, and so it is here")
    if "gradedSpike" in fields and fields.integer("gradedSpike"):
        fields.assume("gradedSpike is set: CUBA neurons send spikes without payload, as netx builds them")


def build(neuron: Neuron, shape: tuple[int, ...], bias: np.ndarray | None, *, encoder: bool = False) -> dict[str, Any]:
    """Op, dynamics and quant of a population.

    A LIF step is ``u = decay_u u + I``, ``v = decay_v v + u + bias`` in units of the synaptic sum; as NIR
    writes it, tau = 4096 / decay, and gains that undo its division by tau.

    Args:
        neuron: what the file says.
        shape: of the population.
        bias: per neuron or per channel, in the population's rank; None for none.
        encoder: whether it is an input layer, whose sigma-delta neurons only encode.
    """
    mantissas = np.zeros((1,) * len(shape), np.int32) if bias is None else bias.astype(np.int32)
    full = np.broadcast_to(mantissas, shape).astype(np.int32)
    if neuron.kind == "sigma-delta":
        quant = SigmaDeltaQuant(neuron.vth, full, SPIKE_EXP, STATE_EXP, float(2**SPIKE_EXP))
        threshold = np.full(1, float(neuron.vth))
        op: Any = DeltaEncoder(threshold) if encoder else SigmaDelta(threshold, mantissas.astype(float))
        return {"op": op, "quant": quant}
    one = np.ones(mantissas.shape)  # NIR wants all parameters in one shape
    tau_mem, tau_syn = UNITY / (neuron.dv or UNITY), UNITY / (neuron.du + 1 or UNITY)
    leak = mantissas.astype(float) * tau_mem
    dynamics = Dynamics(
        integrator="euler",
        reset="zero" if neuron.kind == "lif" else "none",
        decay=None if neuron.dv else 1.0,
        gain=None if neuron.dv else 1.0,
        current_decay=None if neuron.du + 1 else 1.0,
    )
    w_in = one * (tau_syn if neuron.du + 1 else 1.0)
    parameters = {"tau_syn": one * tau_syn, "tau_mem": one * tau_mem, "r": one * tau_mem, "v_leak": leak, "w_in": w_in}
    if neuron.kind == "integrator":
        op = nir.CubaLI(**parameters)
    else:
        op = nir.CubaLIF(**parameters, v_threshold=one * float(neuron.vth), v_reset=0 * one)
    quant_lif = NeuronQuant(neuron.du, neuron.dv, neuron.vth, 0, full, BIAS_EXP, 1.0)
    return {"op": op, "dynamics": dynamics, "quant": quant_lif}


def read_bias(layer: Fields, shape: tuple[int, ...]) -> np.ndarray | None:
    """Bias mantissas of a layer in the rank of its population: one, one per channel, or one per neuron."""
    if "bias" not in layer:
        return None
    bias = layer.integers("bias")
    if bias.size and (bias.min() < BIAS_MIN or bias.max() > BIAS_MAX):
        raise layer.wrong(f"bias from {bias.min()} to {bias.max()}", supported=f"{BIAS_MIN} to {BIAS_MAX} (13 bits)")
    ones = (1,) * (len(shape) - 1)
    if bias.size == 1:
        return bias.reshape((1, *ones))
    if bias.size == shape[0]:
        return bias.reshape((-1, *ones))
    if bias.size == int(np.prod(shape)):
        return bias.reshape(shape)
    raise layer.wrong(
        f"{bias.size} biases for a population of {list(shape)}", supported="one, one per channel or one per neuron"
    )
