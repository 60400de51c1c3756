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
    """``E <- a E + I;  H <- b H - I;  U = t (E + H)``.

    With v = U and u = t E that is ``v <- b v + (a - b) u``, u of the step before, and ``u <- a u + t I``.

    In the step behind a spike E, H and U are zero (reset to zero), or (by subtraction) E loses the threshold, H is
    zero, and U is ``t (E + H) + H_before`` of E and H as they were before they lost anything. As H = (v - u) / t, that
    is u less t thresholds, the test of v + (v - u) / t, both of the step before, and from there on v = u.
    """
    check_spikes(mod)
    slow, fast = mod.alpha.clamp(0, 1), mod.beta.clamp(0, 1)
    scale = torch.log(slow) / (torch.log(fast) - torch.log(slow)) + 1
    parts = [slow.double(), fast.double(), scale.double(), mod.threshold]
    alpha, beta, tau, threshold = arrays(call.shape(input_), *parts)
    if not np.all(np.isfinite(tau) & (tau != 0)):
        raise Unsupported("Alpha whose alpha is its beta, or whose beta is 1", "alpha above beta, beta below 1")
    subtracts = mod.reset_mechanism == "subtract"
    if subtracts and np.any(threshold < 0):
        raise Unsupported("a membrane potential that starts above the threshold", "a threshold of zero or more")
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
        current_gain=scalar(tau),
        current_first=False,
        reset=mod.reset_mechanism,
        reset_at="spike" if integrates else "after",
        reset_current=mod.reset_mechanism == "zero",
        reset_to_current=subtracts,
    )
    states = (mod.syn_exc, mod.syn_inh, mod.mem) if mod.init_hidden and not mod.output else call.out[1:]
    op = op_of(beta, alpha, None if integrates else threshold)
    node = neuron(call, mod, op, dynamics, input_, given, list(zip(states, "uhv", strict=True)))
    spikes = call.emit(nir.Threshold(threshold), node, stem=f"{call.stem}.spikes") if integrates else node
    spikes = graded(call, mod, spikes)
    own = [
        (states[0], None, (node, "u")),
        (states[1], None, (node, "h")),
        (states[2], node if integrates else None, (node, "v")),
    ]
    call.results = [(call.out if isinstance(call.out, Tensor) else call.out[0], spikes, None), *own]
    return spikes
