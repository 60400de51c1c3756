"""Norse 1.1: what its neurons do in a step.

Read in ``norse/torch/functional``. With a = dt tau_mem_inv and b = dt tau_syn_inv, a neuron with a synaptic
current computes ``i <- i + I``, ``v <- v + a (v_leak - v + i)``, spikes where ``v > v_th``, resets to v_reset
at once, and only then lets the current decay, ``i <- (1 - b) i``. So the u of `Dynamics` is i before it decays.
All start at v_leak, IAF at v_reset.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import nir
import norse.torch as norse
import numpy as np
import torch
from norse.torch.functional.reset import reset_subtract, reset_value
from norse.torch.module import encode, regularization
from norse.torch.module.snn import SNN, SNNCell, SNNRecurrent, SNNRecurrentCell

from hsnn_compiler.frontends.torch.axes import Axes
from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.feedback import Feedback
from hsnn_compiler.frontends.torch.registry import MODULES, Unsupported, module
from hsnn_compiler.frontends.torch.stateful import arrays, initial, neuron, resets, scalar
from hsnn_compiler.ir.dynamics import Dynamics
from hsnn_compiler.ir.ops import Encode

Tensor = torch.Tensor

KNOWN = "LIF, LIFCell, LIFRecurrent, LIFRecurrentCell, LIFBoxCell, LIFRefrac*, IAF, IAFCell, LI, LICell, LIBoxCell"


class _Rule(NamedTuple):
    """What a neuron computes; missing parts are None.

    Attributes:
        pull: a, what v moves by towards its drive; None for an integrator without leak.
        fade: b, what of the current decays in a step; None without current.
    """

    rest: Any
    start: Any
    pull: Any = None
    fade: Any = None
    threshold: Any = None
    reset_to: Any = 0.0
    reset: str = "value"
    refractory: int = 0


def _lif_rule(mod: Any, p: Any, refractory: int = 0) -> _Rule:
    pull, fade = mod.dt * p.tau_mem_inv, mod.dt * p.tau_syn_inv
    return _Rule(p.v_leak, p.v_leak, pull, fade, p.v_th, p.v_reset, refractory=refractory)


@module(norse.LIFCell, norse.LIF)
def _lif(call: Call, mod: Any, input_tensor: Tensor, state: Any = None) -> str:
    return _emitted(call, mod, _lif_rule(mod, mod.p), input_tensor, state)


@module(norse.LIFRecurrentCell, norse.LIFRecurrent)
def _lif_recurrent(call: Call, mod: Any, input_tensor: Tensor, state: Any = None) -> str:
    return _emitted(call, mod, _lif_rule(mod, mod.p), input_tensor, state)


@module(norse.LIFRefracCell, norse.LIFRefracRecurrentCell, norse.LIFRefracRecurrent)
def _lif_refrac(call: Call, mod: Any, input_tensor: Tensor, state: Any = None) -> str:
    """LIF that is held while ``rho > 0``: rho starts at rho_reset with a spike and falls by one per step."""
    rho = np.unique(mod.p.rho_reset.detach().numpy())
    if len(rho) != 1:
        raise Unsupported("refractory periods that differ from neuron to neuron", "one rho_reset for a population")
    if state is not None:
        if not call.is_traced(state.rho) and np.any(initial(call, state.rho)):
            raise Unsupported("neurons that start refractory", "rho = 0")
        call.ignore(state.rho)
    rule = _lif_rule(mod, mod.p.lif, max(0, math.ceil(rho[0])))
    return _emitted(call, mod, rule, input_tensor, state and state.lif, _flat(call.out[1])[-1:])


@module(norse.LIFBoxCell)
def _lif_box(call: Call, mod: Any, input_tensor: Tensor, state: Any = None) -> str:
    p = mod.p
    kinds = {reset_value: "value", reset_subtract: "subtract"}
    if p.reset_method not in kinds:
        raise Unsupported("LIFBoxCell with a reset_method of its own", "reset_value, reset_subtract")
    rule = _Rule(p.v_leak, p.v_leak, mod.dt * p.tau_mem_inv, None, p.v_th, p.v_reset, kinds[p.reset_method])
    return _emitted(call, mod, rule, input_tensor, state)


@module(norse.IAFCell, norse.IAF)
def _iaf(call: Call, mod: Any, input_tensor: Tensor, state: Any = None) -> str:
    """``v <- v + I``; dt plays no part."""
    rule = _Rule(0.0, mod.p.v_reset, None, None, mod.p.v_th, mod.p.v_reset)
    return _emitted(call, mod, rule, input_tensor, state)


@module(norse.LICell, norse.LI, norse.LILinearCell)
def _li(call: Call, mod: Any, input_tensor: Tensor, state: Any = None) -> str:
    p = mod.p
    rule = _Rule(p.v_leak, p.v_leak, mod.dt * p.tau_mem_inv, mod.dt * p.tau_syn_inv)
    return _emitted(call, mod, rule, input_tensor, state)


@module(norse.LIBoxCell)
def _li_box(call: Call, mod: Any, input_tensor: Tensor, state: Any = None) -> str:
    return _emitted(call, mod, _Rule(mod.p.v_leak, mod.p.v_leak, mod.dt * mod.p.tau_mem_inv), input_tensor, state)


@module(encode.ConstantCurrentLIFEncoder)
def _constant_current(call: Call, mod: Any, input_currents: Tensor) -> str:
    """One value at every step of a LIF without synaptic current, which starts at 0."""
    p = mod.p
    rule = _Rule(p.v_leak, 0.0, mod.dt * p.tau_mem_inv, None, p.v_th, p.v_reset)
    feed = call.emit(Encode("direct"), input_currents, stem=f"{call.stem}.encode")
    op, dynamics = _contract(call, rule, mod.dt, call.shape(input_currents))
    call.axes = Axes("TB", mod.seq_length)
    return neuron(call, mod, op, dynamics, input_currents, feed=feed)


@module(encode.PoissonEncoder, encode.PoissonEncoderStep, encode.SignedPoissonEncoder)
def _random(call: Call, mod: Any, x: Tensor) -> str:
    raise Unsupported(
        f"{type(mod).__name__} draws random numbers",
        "ConstantCurrentLIFEncoder, or spikes as the model's input",
        "encode outside of the model, and capture it with axes=TB",
        "E0411",
    )


@resets(regularization.RegularizationCell)
def _forget_count(mod: Any) -> None:
    mod.state = None


@module(regularization.RegularizationCell)
def _regularization(call: Call, mod: Any, z: Tensor, s: Any) -> None:
    """Passes spikes on; what it counts is for the training."""
    call.ignore(*_flat(s))
    call.results = [(z, call.node(z), None)]


def _refuse(call: Call, mod: Any, *args: Any, **kwargs: Any) -> str:
    raise Unsupported(
        f"{type(mod).__name__}: the graph has no neuron that computes this", KNOWN, "norse.torch.LIF, and train again"
    )


module(
    norse.CobaLIFCell,
    *(
        cls
        for cls in vars(norse).values()
        if isinstance(cls, type)
        and issubclass(cls, (SNN, SNNCell, SNNRecurrent, SNNRecurrentCell))
        and cls not in MODULES
    ),
)(_refuse)


def _emitted(call: Call, mod: Any, rule: _Rule, current: Tensor, state: Any, others: Sequence[Tensor] = ()) -> str:
    """The population and, for recurrent ones and those with weights, the weights before it.

    Args:
        call: the module's call.
        mod: the module.
        rule: what it computes.
        current: its input.
        state: the tuple of tensors handed to the call, with fields v and perhaps i and z.
        others: tensors the call returns that are of no use but to be handed back.
    """
    if state is None and call.tracer.calls.get(id(mod)):
        message = f"{type(mod).__name__} gets no state after its first step, and starts anew"
        raise Unsupported(message, "the state that its call before returned", code="E0407")
    weights = getattr(mod, "input_weights", None)
    series = isinstance(mod, (SNN, SNNRecurrent))
    feed = call.node(current)
    if weights is not None:
        feed = call.emit(nir.Linear(call.array(weights)), current, stem=f"{call.stem}.input_weights")
    feedback = None
    if (recurrent := getattr(mod, "recurrent_weights", None)) is not None:
        has_time = call.axes_of(current).has_time
        feedback = Feedback(call, mod, nir.Linear(call.array(recurrent)), series and has_time)
        feed = feedback.added_to(feed)
        _check_spikes(call, mod, state)
    op, dynamics = _contract(call, rule, mod.dt, call.tracer.graph[feed].shape)
    given = [] if state is None else [("v", state.v)]
    if state is not None and rule.fade is not None:
        if not call.is_traced(state.i) and np.any(initial(call, state.i)):
            raise Unsupported("a synaptic current that does not start at 0", "i = 0")
        given.append(("u", state.i))
    out, returned = call.out
    returned = getattr(returned, "lif", returned)
    results = [(out, "s"), (returned.v, "v")]
    if rule.fade is not None:
        results.append((returned.i, "u"))
    results += [(tensor, "rho") for tensor in others]
    node = neuron(call, mod, op, dynamics, current, given, results, series=series, feed=feed)
    if feedback is not None:
        feedback.closed(node)
    return node


def _contract(call: Call, rule: _Rule, dt: float, shape: tuple[int, ...]) -> tuple[Any, Dynamics]:
    """The NIR neuron and its dynamics; `Dynamics` holds the coefficients as Norse rounds them."""
    parts = [rule.rest, rule.start, rule.pull, rule.fade, rule.threshold, rule.reset_to]
    rest, start, pull, fade, threshold, reset_to = arrays(shape, *(0.0 if part is None else part for part in parts))
    leaky, has_u, spikes = rule.pull is not None, rule.fade is not None, rule.threshold is not None
    dynamics = Dynamics(
        dt=float(dt),
        integrator="none",
        decay=scalar(1 - pull),
        gain=scalar(pull) if leaky else 1.0,
        leak=scalar(pull * rest),
        current_decay=scalar(1 - fade) if has_u else None,
        current_gain=1.0 if has_u else None,
        v_init=scalar(start),
        reset=rule.reset,
        refractory=rule.refractory,
    )
    one = np.ones_like(rest)
    last: dict[str, Any] = {"v_threshold": threshold, "v_reset": reset_to} if spikes else {}
    if not leaky:
        return nir.IF(r=one, **last), dynamics
    tau = dt / np.maximum(pull, 1e-12)
    if not has_u:
        return (nir.LIF if spikes else nir.LI)(tau=tau, r=one, v_leak=rest, **last), dynamics
    tau_syn = dt / np.maximum(fade, 1e-12)
    kind = nir.CubaLIF if spikes else nir.CubaLI
    return kind(tau_mem=tau, tau_syn=tau_syn, r=one, v_leak=rest, w_in=one.copy(), **last), dynamics


def _check_spikes(call: Call, mod: Any, state: Any) -> None:
    """The spikes that come back have to be those of the call before."""
    calls = call.tracer.calls.get(id(mod), [])
    if state is None:
        return
    if call.is_traced(state.z):
        if not calls or call.node(state.z) != calls[-1]:
            message = f"{type(mod).__name__} gets other spikes than its own of the step before"
            raise Unsupported(message, "the state that its call before returned", code="E0407")
    elif calls or np.any(initial(call, state.z)):
        message = f"{type(mod).__name__} gets constant spikes as those of the step before"
        raise Unsupported(message, "zeros at the first step, then its own spikes", code="E0407")


def _flat(state: Any) -> list[Tensor]:
    """The tensors of a state, one after the other."""
    return [part for item in state for part in _flat(item)] if isinstance(state, tuple) else [state]
