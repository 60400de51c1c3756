"""Alpha: two currents of opposite sign, and a potential that is their sum."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import snntorch as snn
import torch

from hsnn_compiler.frontends.snntorch.rule import check_spikes, fitting, graded, op_of
from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.registry import Unsupported, module
from hsnn_compiler.frontends.torch.stateful import arrays, initial, neuron, scalar
from hsnn_compiler.ir.dynamics import Dynamics

Tensor = torch.Tensor


@module(snn.Alpha)
def _alpha(
    call: Call,
    mod: Any,
    input_: Tensor,
    syn_exc: Tensor | None = None,
    syn_inh: Tensor | None = None,
    mem: Tensor | None = None,
) -> str:
    """``E <- a E + I;  H <- b H - I;  U = t (E + H)``, where E, H and U are zero in the step behind a spike.

    With v = U / t and u = E that is ``v <- b v + (a - b) u``, u of the step before, and ``u <- a u + I``.
    """
    check_spikes(mod)
    if mod.reset_mechanism == "subtract":
        raise Unsupported(
            "Alpha with reset by subtraction, which takes from one current, and once from what it was",
            "reset_mechanism zero (its default) and none",
        )
    slow, fast = mod.alpha.clamp(0, 1), mod.beta.clamp(0, 1)
    scale = torch.log(slow) / (torch.log(fast) - torch.log(slow)) + 1
    parts = [slow.double(), fast.double(), scale.double(), mod.threshold]
    alpha, beta, tau, threshold = arrays(call.shape(input_), *parts)
    given = [(name, fitting(state, input_)) for name, state in zip("uhv", (syn_exc, syn_inh, mem), strict=True)]
    for _, state in given:
        if state is not None and not call.is_traced(state) and np.any(initial(call, state)):
            raise Unsupported("an Alpha neuron that does not start at zero", "zeros as its first states")
    integrates = mod.reset_mechanism == "none"
    dynamics = Dynamics(
        integrator="none",
        decay=scalar(beta),
        gain=scalar(alpha - beta),
        leak=0.0,
        current_decay=scalar(alpha),
        current_gain=1.0,
        current_first=False,
        reset="none" if integrates else "zero",
        reset_at="spike" if integrates else "after",
        reset_current=not integrates,
    )
    states = (mod.syn_exc, mod.syn_inh, mod.mem) if mod.init_hidden and not mod.output else call.out[1:]
    op = op_of(beta, alpha, None if integrates else threshold / tau)
    node = neuron(call, mod, op, dynamics, input_, given, list(zip(states, "uhv", strict=True)))
    spikes, potential = node, None
    if integrates:
        factor = np.array(np.broadcast_to(tau, call.tracer.graph[node].shape), np.float32)
        potential = call.emit(nir.Scale(factor), node, stem=f"{call.stem}.mem")
        spikes = call.emit(nir.Threshold(threshold), potential, stem=f"{call.stem}.spikes")
    spikes = graded(call, mod, spikes)
    own = [(states[0], None, (node, "u")), (states[1], None, (node, "h")), (states[2], potential, (node, "v"))]
    call.results = [(call.out if isinstance(call.out, Tensor) else call.out[0], spikes, None), *own]
    return spikes
