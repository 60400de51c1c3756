"""Neurons of SpikingJelly.

Each step charges, fires where ``H >= v_threshold``, and resets at once, see
https://spikingjelly.readthedocs.io/zh-cn/latest/tutorials/en/neuron.html:

    IF      H = V + X
    LIF     H = V + (X - (V - v_reset)) / tau       with decay_input, else
            H = V - (V - v_reset) / tau + X         (v_reset = None decays to 0)
    reset   V = v_reset where it fires; with v_reset = None V = H - v_threshold
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import nir
import numpy as np
import torch
from spikingjelly.activation_based import base, neuron

from hsnn_compiler.frontends.torch import stateful
from hsnn_compiler.frontends.torch.axes import SAMPLES
from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.registry import Unsupported, module
from hsnn_compiler.frontends.torch.stateful import arrays, resets, scalar
from hsnn_compiler.ir.dynamics import Dynamics
from hsnn_compiler.ir.ops import Decode

Tensor = torch.Tensor


@resets(base.MemoryModule)
def _forget(mod: Any) -> None:
    mod.reset()


@module(neuron.IFNode, neuron.SimpleIFNode, neuron.HalfThresholdIFNode, drives=True)
def _if(call: Call, mod: Any, x: Tensor) -> str:
    return _integrate_and_fire(call, mod, x, mod.v_threshold)


@module(neuron.ActivationAwareIFNode, drives=True)
def _activation_aware(call: Call, mod: Any, x: Tensor) -> str:
    """An IF with thresholds per channel that fires `v_offset` earlier, but subtracts the whole threshold."""
    if mod.v_reset is None and bool(mod.v_offset.any()):
        raise Unsupported(
            "ActivationAwareIFNode with v_offset subtracts more than what it fires at",
            "v_offset = 0, or a v_reset",
            "add v_offset to the layer's bias while training",
            "E0401",
        )
    shape = call.shape(x)
    axis = mod.channel_dim % (len(shape) + 1) - 1
    along = [-1 if i == axis else 1 for i in range(len(shape))]
    at = (mod.v_threshold.double() - mod.v_offset.double()).reshape(along if mod.v_threshold.dim() else ())
    return _integrate_and_fire(call, mod, x, at)


@module(neuron.LIFNode, neuron.SimpleLIFNode, drives=True)
def _lif(call: Call, mod: Any, x: Tensor) -> str:
    return _leaky(call, mod, x, 1 / mod.tau)


@module(neuron.OTTTLIFNode, neuron.SLTTLIFNode, drives=True)
def _online(call: Call, mod: Any, x: Tensor) -> str:
    """What they differ in from LIF concerns training."""
    return _leaky(call, mod, x, 1 / mod.tau)


@module(neuron.ParametricLIFNode, drives=True)
def _parametric(call: Call, mod: Any, x: Tensor) -> str:
    """LIF with ``1 / tau = sigmoid(w)``."""
    return _leaky(call, mod, x, float(mod.w.detach().double().sigmoid()))


@module(neuron.KLIFNode, drives=True)
def _klif(call: Call, mod: Any, x: Tensor) -> str:
    """LIF whose charged potential is ``relu(k H)``; with `scale_reset` V is that divided by k again (k > 0)."""
    k = float(mod.k.detach().double())
    if k <= 0:
        raise Unsupported(f"KLIFNode with k = {k:g}", "k > 0", code="E0401")
    fraction, rest = 1 / mod.tau, mod.v_reset or 0.0
    if mod.scale_reset:
        factor, threshold = 1.0, mod.v_threshold / k
    else:
        factor, threshold = k, mod.v_threshold
    dynamics = Dynamics(
        integrator="none",
        decay=factor * (1 - fraction),
        gain=factor * (fraction if mod.decay_input else 1.0),
        leak=factor * fraction * rest,
        v_min=0.0,
        **_firing(mod),
    )
    tau, r, leak, at, reset = arrays(call.shape(x), mod.tau, mod.tau, rest, threshold, rest)
    return _emit(call, mod, x, nir.LIF(tau, r, leak, at, reset), dynamics)


@module(neuron.CUBALIFNode, drives=True)
def _cuba(call: Call, mod: Any, x: Tensor) -> str:
    """``C = c_decay C + X``, ``H = v_decay V + C``."""
    dynamics = Dynamics(
        integrator="none",
        decay=float(mod.v_decay),
        current_decay=float(mod.c_decay),
        gain=1.0,
        current_gain=1.0,
        leak=0.0,
        **_firing(mod),
    )
    synapse, membrane = (1 / max(1 - decay, 1e-12) for decay in (mod.c_decay, mod.v_decay))
    rows = arrays(call.shape(x), synapse, membrane, membrane, 0.0, mod.v_threshold, mod.v_reset or 0.0, synapse)
    tau_syn, tau_mem, r, leak, threshold, reset, w_in = rows
    op = nir.CubaLIF(
        tau_syn=tau_syn, tau_mem=tau_mem, r=r, v_leak=leak, v_threshold=threshold, v_reset=reset, w_in=w_in
    )
    return _emit(call, mod, x, op, dynamics, {"v": "v", "c": "u"})


@module(neuron.NonSpikingIFNode, neuron.NonSpikingLIFNode)
def _non_spiking(call: Call, mod: Any, x_seq: Tensor) -> str:
    """An integrator that takes a series; `decode` says what becomes of its potentials."""
    _need_series(call, mod, x_seq)
    one, tau = arrays(call.shape(x_seq), 1.0, getattr(mod, "tau", 1.0))
    op = nir.I(one) if isinstance(mod, neuron.NonSpikingIFNode) else nir.LI(tau, one, np.zeros_like(one))
    kinds = {"mean-mem": "mean", "last_mem": "last"}
    if mod.decode not in kinds:
        raise Unsupported(
            f"{type(mod).__name__} with decode={mod.decode!r}",
            "decode='mean-mem' or 'last_mem'",
            "leave the largest potential out of the model, or take the mean",
            "E0401",
        )
    node = stateful.neuron(call, mod, op, Dynamics(), x_seq, series=True)
    call.axes = SAMPLES
    return call.emit(Decode(kinds[mod.decode]), node, stem=f"{call.stem}.decode")


def _integrate_and_fire(call: Call, mod: Any, x: Tensor, threshold: Any) -> str:
    one, at, reset = arrays(call.shape(x), 1.0, threshold, mod.v_reset or 0.0)
    return _emit(call, mod, x, nir.IF(one, at, reset), Dynamics(**_firing(mod)))


def _leaky(call: Call, mod: Any, x: Tensor, fraction: float) -> str:
    """LIF of which `fraction`, 1 / tau, decays in a step."""
    rest = mod.v_reset or 0.0
    r = 1.0 if mod.decay_input else 1 / fraction
    rows = arrays(call.shape(x), 1 / fraction, r, rest, mod.v_threshold, rest)
    return _emit(call, mod, x, nir.LIF(*rows), Dynamics(**_firing(mod)))


def _firing(mod: Any) -> dict[str, Any]:
    """How it fires and resets."""
    reset = "subtract" if mod.v_reset is None else "value" if mod.v_reset else "zero"
    return {"threshold_test": ">=", "reset": reset}


def _emit(call: Call, mod: Any, x: Tensor, op: Any, dynamics: Dynamics, memories: dict[str, str] | None = None) -> str:
    """Run the module and emit the population; `memories` are its states by SpikingJelly's names."""
    memories = memories or {"v": "v"}
    series = mod.step_mode == "m"
    _check_fires(mod)
    if series:
        _need_series(call, mod, x)
    before = {ours: mod._memories[theirs] for theirs, ours in memories.items()}
    with call.tracer.silence():
        call.out = mod.forward(x)
    start: dict[str, Any] = {}
    for theirs, ours in memories.items():
        value = _initial(call, x, mod, theirs, before[ours])
        if np.any(value):
            start[stateful.INIT[ours]] = value
    dynamics = replace(dynamics, **start)
    recorded = getattr(mod, "v_seq", None)
    every = [(recorded, "v")] if series and isinstance(recorded, Tensor) else []
    last = [(getattr(mod, theirs), ours) for theirs, ours in memories.items()]
    if np.isinf(op.v_threshold).all() and not isinstance(op, nir.CubaLIF):
        return _never_fires(call, mod, x, op, dynamics, every if series else last)
    given = [(ours, state) for ours, state in before.items() if call.is_traced(state)]
    if not given and not series and call.tracer.calls.get(id(mod)):
        raise Unsupported(
            f"{type(mod).__name__} starts over in the middle of a run",
            "neurons that keep their state from the first step to the last",
            "reset_net before the loop or after it",
            "E0407",
        )
    results = [(call.out, "s"), *every, *last]
    return stateful.neuron(call, mod, op, dynamics, x, given, results, series)


def _never_fires(
    call: Call, mod: Any, x: Tensor, op: Any, dynamics: Dynamics, potentials: list[tuple[Tensor, str]]
) -> str:
    """A neuron with an infinite threshold: an integrator, whose potential may be used."""
    plain = nir.I(op.r) if isinstance(op, nir.IF) else nir.LI(op.tau, op.r, op.v_leak)
    results = [(tensor, "s") for tensor, _ in potentials]
    node = stateful.neuron(call, mod, plain, dynamics, x, results=results, series=mod.step_mode == "m")
    spikes = call.emit(nir.Threshold(op.v_threshold), node, stem=f"{call.stem}.spikes")
    assert call.results is not None
    call.results.append((call.out, spikes, None))
    return spikes


def _initial(call: Call, x: Tensor, mod: Any, name: str, state: Any) -> float | np.ndarray:
    """Where a state starts: from what is in the module if that fits, else from its reset value."""
    if isinstance(state, Tensor) and state.shape == x.shape[call.axes_of(x).count - 1 :] and not call.is_traced(state):
        return stateful.initial(call, state)
    value = mod.get_reset_value(name)
    return scalar(arrays(call.shape(x), value)[0])


def _need_series(call: Call, mod: Any, x: Tensor) -> None:
    if call.axes_of(x).order != "TB":
        raise Unsupported(
            f"{type(mod).__name__} in multi-step mode gets a tensor without time as its first axis",
            "[T, B, ...] in multi-step mode, [B, ...] in single-step mode",
            "repeat the input, x.unsqueeze(0).repeat(T, 1, ...), or give an example with time (axes='TB')",
            "E0407",
        )


def _check_fires(mod: Any) -> None:
    """Refuse a surrogate function that is not a step in the forward direction."""
    if isinstance(mod, (neuron.OTTTLIFNode, neuron.SLTTLIFNode)):
        return
    at = torch.arange(-300, 301) / 100
    name = getattr(type(mod.surrogate_function), "__name__", "surrogate function")
    if not torch.equal(mod.surrogate_function(at), (at >= 0).to(at)):
        raise Unsupported(
            f"{type(mod).__name__} whose surrogate function ({name}) does not put out 0 and 1",
            "surrogate functions that are a step in forward (spiking=True)",
            "surrogate_function=surrogate.ATan(), or set_spiking_mode(True)",
            "E0401",
        )
