"""Spiking neurons and activations of `hsnn_compiler.nn`."""

from __future__ import annotations

import nir
import numpy as np
import torch

from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.registry import Unsupported, module
from hsnn_compiler.frontends.torch.stateful import keeps, neuron
from hsnn_compiler.frontends.torch.tracer import Shape
from hsnn_compiler.ir.dynamics import Dynamics
from hsnn_compiler.ir.ops import Quantised
from hsnn_compiler.nn import IF, LIF, QCFS

Tensor = torch.Tensor


@module(LIF)
def _lif(call: Call, mod: LIF, current: Tensor) -> str:
    """``v <- beta v + I`` is Euler with dt = 1, tau = 1 / (1 - beta) and r = tau.

    The step uses beta itself (`Dynamics.decay`), not 1 - dt/tau, which rounds.
    """
    beta, threshold = _parameters(call.shape(current), mod.beta, mod.threshold)
    if np.any(beta < 0) or np.any(beta > 1):
        raise Unsupported(f"{type(mod).__name__} with beta outside 0..1", "beta from 0 to 1")
    tau = 1 / np.maximum(1 - beta, 1e-12)  # beta = 1, no leak, has no finite tau; the step does not use it
    op = nir.LIF(tau=tau, r=tau.copy(), v_leak=np.zeros_like(tau), v_threshold=threshold, v_reset=np.zeros_like(tau))
    return neuron(call, mod, op, _dynamics(mod, _scalar(beta)), current)


@module(IF)
def _if(call: Call, mod: IF, current: Tensor) -> str:
    """``v <- v + I``."""
    (threshold,) = _parameters(call.shape(current), mod.threshold)
    op = nir.IF(r=np.ones_like(threshold), v_threshold=threshold, v_reset=np.zeros_like(threshold))
    return neuron(call, mod, op, _dynamics(mod, 1.0), current)


@module(QCFS)
def _qcfs(call: Call, mod: QCFS, x: Tensor) -> str:
    """Halves round up, as floor(... + 1/2) does."""
    shape = call.shape(x)
    threshold = call.array(mod.threshold).reshape(-1, *[1] * (len(shape) - 1))
    per_channel = np.array(np.broadcast_to(threshold, (*shape[:1], *threshold.shape[1:])))
    return call.emit(Quantised(per_channel, mod.levels), x)


@keeps(LIF, IF)
def _kept(mod: LIF | IF) -> list[Tensor]:
    return [] if mod.v is None else [mod.v]


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
