"""What sinabs' neurons do in a step, see https://sinabs.readthedocs.io/v3.1.3/about/modules.html.

With alpha = exp(-1 / tau), or learned as such, a step is

    i = alpha_syn (i + x)               with tau_syn, else i = x
    v = alpha_mem v + i                 or + (1 - alpha_mem) i with norm_input; IAF: alpha_mem = 1
    s = trunc(v / spike_threshold)      MultiSpike and MaxSpike; SingleSpike: v >= spike_threshold
    v = v - s spike_threshold           MembraneSubtract; MembraneReset(c): v (s == 0) + c
    v = max(v, min_v_mem)

Series are [batch, time, ...]; "squeezed" layers take both axes merged into one.
"""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import sinabs.layers as sl
import torch
from sinabs.activation import MaxSpike, MembraneReset, MembraneSubtract, MultiSpike, SingleSpike

from hsnn_compiler.frontends.torch.axes import SAMPLES
from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.registry import Unsupported, module
from hsnn_compiler.frontends.torch.stateful import arrays, neuron, scalar
from hsnn_compiler.ir.dynamics import Dynamics
from hsnn_compiler.ir.graph import Edge

Tensor = torch.Tensor


@module(sl.IAF, sl.LIF, sl.ExpLeak)
def _series(call: Call, mod: Any, input_data: Tensor) -> str:
    _need_order(call, mod, input_data, "BT", "[batch, time, ...]")
    return neuron(call, mod, *_population(call, mod, input_data), input_data, results=_results(call, mod), series=True)


@module(sl.IAFSqueeze, sl.LIFSqueeze, sl.ExpLeakSqueeze)
def _squeezed(call: Call, mod: Any, input_data: Tensor) -> str:
    if mod.num_timesteps != 1:
        _need_order(call, mod, input_data, "(BT)", "[batch * time, ...], or num_timesteps=1")
    op, dynamics = _population(call, mod, input_data)
    return neuron(call, mod, op, dynamics, input_data, results=_results(call, mod), series=True, merged="(BT)")


@module(sl.IAFRecurrent, sl.LIFRecurrent, drives=True)
def _recurrent(call: Call, mod: Any, input_data: Tensor) -> str:
    """What `rec_connect` makes of the spikes is added to the input of the next step."""
    tracer = call.tracer
    with tracer.silence():
        call.out = mod.forward(input_data)
        spikes = call.out[:, 0].clone()
    _need_order(call, mod, input_data, "BT", "[batch, time, ...]")
    node = neuron(call, mod, *_population(call, mod, input_data), input_data, results=_results(call, mod), series=True)
    tracer.track(spikes, node, axes=SAMPLES)
    back = mod.rec_connect(spikes).reshape(spikes.shape)
    if not call.is_traced(back):
        raise Unsupported("a rec_connect that does not depend on the spikes", "layers such as nn.Linear")
    value = tracer.values[id(back)]
    call.taint |= value.taint
    if value.node is not None:
        tracer.graph.connect(Edge(value.node, node, delay=1))
    return node


def _population(call: Call, mod: Any, x: Tensor) -> tuple[Any, Dynamics]:
    """The NIR neuron, and what it does in a step."""
    shape = call.shape(x)
    alpha = _alpha(mod, "mem")
    (decay,) = arrays(shape, alpha)
    tau = 1 / np.maximum(1 - decay, 1e-12)
    more: dict[str, Any] = {"gain": scalar(1 - decay) if mod.norm_input else 1.0, "leak": 0.0}
    synapse = _alpha(mod, "syn")
    if synapse is not None:
        (fraction,) = arrays(shape, synapse)
        more |= {"current_decay": scalar(fraction), "current_gain": scalar(fraction)}
    if mod.spike_fn is None:
        if mod.min_v_mem is not None:
            raise Unsupported(
                f"{type(mod).__name__} with min_v_mem puts out its potential before it is bounded",
                "min_v_mem=None",
                code="E0401",
            )
        tau, synapse_tau, zero = arrays(shape, tau, 1.0 if synapse is None else 1 / (1 - fraction), 0.0)
        dynamics = Dynamics(integrator="none", decay=scalar(decay), **more)
        if synapse is None:
            return nir.LI(tau=tau, r=tau.copy(), v_leak=zero), dynamics
        return nir.CubaLI(
            tau_syn=synapse_tau, tau_mem=tau, r=tau.copy(), v_leak=zero, w_in=synapse_tau.copy()
        ), dynamics
    more |= _firing(mod, decay)
    rows = arrays(shape, tau, 1.0 if synapse is None else 1 / (1 - fraction), 0.0, mod.spike_threshold)
    tau, synapse_tau, zero, threshold = rows
    if mod.min_v_mem is not None:
        more["v_min"] = _bound(mod, shape)
    dynamics = Dynamics(integrator="none", decay=scalar(decay), threshold_test=">=", **more)
    if synapse is not None:
        op: Any = nir.CubaLIF(
            tau_syn=synapse_tau,
            tau_mem=tau,
            r=tau.copy(),
            v_leak=zero,
            v_threshold=threshold,
            v_reset=zero.copy(),
            w_in=synapse_tau.copy(),
        )
    elif np.all(decay == 1):
        op = nir.IF(r=np.ones_like(threshold), v_threshold=threshold, v_reset=zero)
    else:
        op = nir.LIF(tau=tau, r=tau.copy(), v_leak=zero, v_threshold=threshold, v_reset=zero.copy())
    return op, dynamics


def _firing(mod: Any, decay: np.ndarray) -> dict[str, Any]:
    """How often it may fire in a step, and how it resets."""
    fires, resets_by = mod.spike_fn.made, mod.reset_fn
    if fires is MultiSpike:
        most = 0
    elif fires is SingleSpike:
        most = 1
    elif isinstance(fires, MaxSpike):
        most = int(fires.max_num_spikes_per_bin or 0)
    else:
        raise _refused(mod, "spike_fn", fires, "MultiSpike, SingleSpike and MaxSpike(n)")
    if type(resets_by) is MembraneSubtract:
        value = resets_by.subtract_value
        if value is None or bool((torch.as_tensor(mod.spike_threshold) == value).all()):
            return {"max_spikes": most, "reset": "subtract"}
    elif type(resets_by) is MembraneReset:
        if not resets_by.reset_value:
            return {"max_spikes": most, "reset": "zero"}
        if mod.min_v_mem is None:
            # The value is added in every step, whether it fires or not: v is kept without it.
            return {
                "max_spikes": most,
                "reset": "zero",
                "leak": scalar(decay * resets_by.reset_value),
                "v_init": -float(resets_by.reset_value),
            }
    raise _refused(
        mod, "reset_fn", resets_by, "MembraneSubtract() of the threshold, MembraneReset (with a value: no min_v_mem)"
    )


def _bound(mod: Any, shape: tuple[int, ...]) -> float | np.ndarray:
    """sinabs bounds v after the reset; that is the same as before it where the bound is not above 0."""
    (bound,) = arrays(shape, mod.min_v_mem)
    if np.any(bound > 0):
        raise _refused(mod, "min_v_mem", float(bound.max()), "min_v_mem of 0 or less")
    return scalar(bound)


def _alpha(mod: Any, which: str) -> Tensor | float | None:
    """Decay per step, in float64; None where there is none."""
    if mod.train_alphas:
        alpha = getattr(mod, f"alpha_{which}")
        return None if alpha is None else alpha.detach().double()
    tau = getattr(mod, f"tau_{which}")
    if tau is None:
        return 1.0 if which == "mem" else None
    found: Tensor = torch.exp(-1 / tau.detach().double())
    return found


def _results(call: Call, mod: Any) -> list[tuple[Tensor, str]]:
    """What the call put out, and the states it left in the module."""
    found = [(call.out, "s"), (mod.v_mem, "v"), (getattr(mod, "i_syn", None), "u")]
    found += [(mod.recordings.get("v_mem"), "v"), (mod.recordings.get("i_syn"), "u")]
    return [(tensor, name) for tensor, name in found if isinstance(tensor, Tensor)]


def _need_order(call: Call, mod: Any, x: Tensor, order: str, supported: str) -> None:
    if call.axes_of(x).order != order:
        raise Unsupported(
            f"{type(mod).__name__} gets a tensor with other leading axes than it expects",
            supported,
            f"an example with time, and axes={order!r}",
            "E0407",
        )


def _refused(mod: Any, option: str, value: Any, supported: str) -> Unsupported:
    shown = getattr(value, "__name__", value)
    return Unsupported(f"{type(mod).__name__} with {option}={shown}", supported, code="E0401")
