"""Spiking neurons and the loop over time of `hsnn_compiler.nn`."""

from __future__ import annotations

import nir
import numpy as np
import torch

from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.registry import Unsupported, module
from hsnn_compiler.frontends.torch.tracer import Shape
from hsnn_compiler.ir.dynamics import Dynamics
from hsnn_compiler.ir.ops import Decode, Encode
from hsnn_compiler.nn import IF, LIF, Direct, Last, Rate, Sum, TimeLoop, reset_states

Tensor = torch.Tensor

DECODERS: dict[type, str] = {Rate: "mean", Sum: "sum", Last: "last"}


@module(LIF)
def _lif(call: Call, mod: LIF, current: Tensor) -> str:
    """``v <- beta v + I`` is Euler with dt = 1, tau = 1 / (1 - beta) and r = tau.

    The step uses beta itself (`Dynamics.decay`), not 1 - dt/tau, which rounds.
    """
    shape = _per_step(call, current, mod)
    beta, threshold = _parameters(shape, mod.beta, mod.threshold)
    if np.any(beta < 0) or np.any(beta > 1):
        raise Unsupported(f"{type(mod).__name__} with beta outside 0..1", "beta from 0 to 1")
    tau = 1 / np.maximum(1 - beta, 1e-12)  # beta = 1, no leak, has no finite tau; the step does not use it
    op = nir.LIF(tau=tau, r=tau.copy(), v_leak=np.zeros_like(tau), v_threshold=threshold, v_reset=np.zeros_like(tau))
    return call.emit(op, current, dynamics=_dynamics(mod, _scalar(beta)))


@module(IF)
def _if(call: Call, mod: IF, current: Tensor) -> str:
    """``v <- v + I``."""
    (threshold,) = _parameters(_per_step(call, current, mod), mod.threshold)
    op = nir.IF(r=np.ones_like(threshold), v_threshold=threshold, v_reset=np.zeros_like(threshold))
    return call.emit(op, current, dynamics=_dynamics(mod, 1.0))


@module(TimeLoop, drives=True)
def _time_loop(call: Call, mod: TimeLoop, x: Tensor) -> str | None:
    """Encode, the body captured on one step with fresh state, decode."""
    tracer = call.tracer
    if tracer.loop is not None:
        raise Unsupported("a TimeLoop inside a TimeLoop", "one loop over time", code="E0407")
    steps = mod.encoder.timesteps if type(mod.encoder) is Direct else None
    if steps is None:
        call.complain(
            Unsupported(f"encoder {type(mod.encoder).__name__} of a TimeLoop", "hsnn_compiler.nn.Direct", code="E0407")
        )
    elif tracer.graph.timesteps not in (None, steps):
        raise Unsupported(
            f"TimeLoops of {tracer.graph.timesteps} and of {steps} steps in one model",
            "one number of time steps",
            "give all encoders the same timesteps",
            "E0407",
        )
    kind = DECODERS.get(type(mod.decoder))
    if kind is None:
        call.complain(
            Unsupported(
                f"decoder {type(mod.decoder).__name__} of a TimeLoop",
                "Rate, Sum, Last of hsnn_compiler.nn",
                code="E0407",
            )
        )
    tracer.graph.timesteps = tracer.graph.timesteps or steps

    prefix = f"{tracer.path}." if tracer.path else ""
    with tracer.silence():
        step = x.clone()
        reset_states(mod.body)
    start = None
    if tracer.values[id(x)].node is not None:
        start = call.emit(Encode("direct"), x, stem="encode")
    tracer.track(step, start, frozenset(call.taint))
    tracer.loop = f"{prefix}body"
    try:
        result = mod.body(step)
    finally:
        tracer.loop = None
        reset_states(mod.body)
    if not isinstance(result, torch.Tensor) or not tracer.is_traced(result):
        raise Unsupported(
            "the body of a TimeLoop gives something other than one tensor computed from its input",
            "bodies that return one tensor",
            code="E0407",
        )
    (value,) = tracer.traced_in(result)
    call.taint.update(value.taint)
    with tracer.silence():
        call.out = result.clone()
    return None if value.node is None else call.emit(Decode(kind or "mean"), value.node, stem="decode")


@module(Direct, Rate, Sum, Last)
def _coding(call: Call, mod: torch.nn.Module, x: Tensor) -> str:
    raise Unsupported(
        f"{type(mod).__name__} outside a TimeLoop",
        "encoders and decoders as parts of hsnn_compiler.nn.TimeLoop",
        "let TimeLoop(encoder, body, decoder) run the loop over time",
        "E0407",
    )


def _per_step(call: Call, current: Tensor, mod: LIF | IF) -> Shape:
    if call.tracer.loop is None:
        raise Unsupported(
            f"a spiking neuron ({type(mod).__name__}) outside a TimeLoop",
            "spiking neurons in the body of hsnn_compiler.nn.TimeLoop",
            "let TimeLoop(encoder, body, decoder) run the loop over time",
            "E0407",
        )
    return call.shape(current)


def _parameters(shape: Shape, *tensors: Tensor) -> list[np.ndarray]:
    """Coefficients as float64 arrays of one shape, (C, 1, ...) or all ones."""
    arrays = [tensor.detach().cpu().numpy().astype(np.float64) for tensor in tensors]
    channels = max(array.size for array in arrays) if any(array.ndim for array in arrays) else 1
    common = tuple(channels if axis == 0 else 1 for axis in range(len(shape)))
    return [np.array(np.broadcast_to(array.reshape(-1, *[1] * (len(shape) - 1)), common)) for array in arrays]


def _dynamics(mod: LIF | IF, decay: float | np.ndarray) -> Dynamics:
    return Dynamics(
        dt=1.0,
        integrator="none",
        decay=decay,
        gain=1.0,
        reset=mod.reset,
        threshold_test=">",
        v_init=float(np.float32(mod.v_init)),
    )


def _scalar(array: np.ndarray) -> float | np.ndarray:
    return float(array.ravel()[0]) if array.size == 1 else array
