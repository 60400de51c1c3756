"""Leaky, Lapicque, Synaptic, the recurrent ones, and LeakyParallel."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import snntorch as snn
import torch

from hsnn_compiler.frontends.snntorch.rule import Rule, check_spikes, graded, recurrent_weights, reset_at
from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.registry import Unsupported, module
from hsnn_compiler.frontends.torch.stateful import arrays, keeps, neuron, resets, scalar
from hsnn_compiler.ir.dynamics import Dynamics

Tensor = torch.Tensor


@resets(snn.SpikingNeuron)
def _forget(mod: Any) -> None:
    """States are buffers, which are made anew when their shape is not that of the input."""
    if hasattr(mod, "_init_mem"):
        mod._init_mem()


STATES = ("mem", "syn", "syn_exc", "syn_inh", "spk")


@keeps(snn.SpikingNeuron)
def _states(mod: Any) -> list[Tensor]:
    return [state for state in (getattr(mod, name, None) for name in STATES) if state is not None]


@module(snn.Leaky)
def _leaky(call: Call, mod: Any, input_: Tensor, mem: Tensor | None = None) -> str:
    """``U <- beta U + I - reset threshold``."""
    at = reset_at(mod, "before")
    rule = Rule(call, mod, input_, at, decay=mod.beta.clamp(0, 1))
    return rule.emitted([("v", mem)], "sv")


@module(snn.Lapicque)
def _lapicque(call: Call, mod: Any, input_: Tensor, mem: Tensor | None = None) -> str:
    """``U <- (1 - dt/RC) U + I R (1/RC) dt - reset threshold``."""
    decay = 1 - mod.time_step / (mod.R * mod.C)
    gain = mod.R * (1 / (mod.R * mod.C)) * mod.time_step
    at = reset_at(mod, "after", delayed=True)
    return Rule(call, mod, input_, at, decay=decay, gain=gain).emitted([("v", mem)], "sv")


@module(snn.Synaptic)
def _synaptic(call: Call, mod: Any, input_: Tensor, syn: Tensor | None = None, mem: Tensor | None = None) -> str:
    """``I_syn <- alpha I_syn + I``, ``U <- beta U + I_syn - reset threshold``."""
    at = reset_at(mod, "after")
    rule = Rule(call, mod, input_, at, decay=mod.beta.clamp(0, 1), current_decay=mod.alpha.clamp(0, 1))
    return rule.emitted([("u", syn), ("v", mem)], "suv")


@module(snn.RLeaky)
def _rleaky(call: Call, mod: Any, input_: Tensor, spk: Tensor | None = None, mem: Tensor | None = None) -> str:
    """Leaky on ``I + W S(t-1)``."""
    rule = Rule(call, mod, input_, reset_at(mod, "after"), decay=mod.beta.clamp(0, 1))
    return rule.emitted([("v", mem)], "sv", recurrent=recurrent_weights(call, mod, input_), spikes=spk)


@module(snn.RSynaptic)
def _rsynaptic(
    call: Call,
    mod: Any,
    input_: Tensor,
    spk: Tensor | None = None,
    syn: Tensor | None = None,
    mem: Tensor | None = None,
) -> str:
    """Synaptic on ``I + W S(t-1)``. Its reset_delay changes nothing: version 1.0 forgets what it then computes."""
    at = reset_at(mod, "after", delayed=True)
    rule = Rule(call, mod, input_, at, decay=mod.beta.clamp(0, 1), current_decay=mod.alpha.clamp(0, 1))
    recurrent = recurrent_weights(call, mod, input_)
    return rule.emitted([("u", syn), ("v", mem)], "suv", recurrent=recurrent, spikes=spk)


@module(snn.LeakyParallel)
def _leaky_parallel(call: Call, mod: Any, input_: Tensor) -> str:
    """``U <- max(0, W I + b + w U)`` with a ReLU RNN whose recurrent weights are diagonal; no reset."""
    rnn = mod.rnn
    weights = rnn.weight_hh_l0.detach()
    if torch.count_nonzero(weights - torch.diag(weights.diagonal())):
        raise Unsupported("LeakyParallel whose neurons feed each other", "weight_hh_enable=False", "snn.RLeaky")
    check_spikes(mod)
    if not call.axes_of(input_).has_time:
        raise Unsupported("LeakyParallel on one step", "a series [T, B, ...]", code="E0407")
    weight = call.array(rnn.weight_ih_l0)
    op = nir.Linear(weight)
    if rnn.bias:
        op = nir.Affine(weight, call.array(rnn.bias_ih_l0) + call.array(rnn.bias_hh_l0))
    feed = call.emit(op, input_, stem=f"{call.stem}.rnn")
    decay, threshold = arrays((mod.hidden_size,), weights.diagonal(), mod.threshold)
    tau = 1 / np.maximum(1 - decay, 1e-12)
    dynamics = Dynamics(integrator="none", decay=scalar(decay), gain=1.0, leak=0.0, v_min=0.0)
    node = neuron(call, mod, nir.LI(tau, tau.copy(), np.zeros_like(tau)), dynamics, input_, series=True, feed=feed)
    node = call.emit(nir.Threshold(threshold), node, stem=f"{call.stem}.spikes")
    return graded(call, mod, node)


@module(snn.SLSTM, snn.SConv2dLSTM)
def _lstm(call: Call, mod: Any, *args: Tensor) -> str:
    raise Unsupported(
        f"{type(mod).__name__}: gates multiply computed values in every step",
        "Leaky, Lapicque, Synaptic, RLeaky, RSynaptic, LeakyParallel",
        "snn.RSynaptic for a recurrent layer with memory, and train again",
    )
