"""What a neuron does in one time step: the contract that NIR leaves open.

NIR gives differential equations; platforms disagree on everything else. `Dynamics` writes
the rest down, and `discretize` turns a NIR neuron plus its dynamics into the coefficients
of one step, which is what every executor and backend uses:

    u[t] = current_decay * u[t-1] + w_in * I[t]         (only Cuba neurons; else u = I)
    v[t] = decay * v[t-1] + gain * u[t] + leak
    s[t] = v[t] > threshold      (or >=)
    v[t] = reset(v[t])           where s[t]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hsnn_compiler.diagnostics import refuse

RESETS = ("zero", "value", "subtract", "none")
INTEGRATORS = ("euler", "exact", "none")
NEURON_OPS = ("IF", "LIF", "CubaLIF", "I", "LI", "CubaLI")
SPIKING_OPS = ("IF", "LIF", "CubaLIF")


@dataclass(frozen=True, eq=False)
class Dynamics:
    """One discrete-time meaning for a neuron node.

    Attributes:
        dt: length of a step, in the unit of the node's time constants.
        integrator: ``"euler"`` (forward), ``"exact"`` (exponential), or ``"none"``: the source
            gave per-step coefficients, `decay` and `gain` below are used as they are.
        reset: ``"zero"``, ``"value"`` (the op's v_reset), ``"subtract"`` (the threshold) or ``"none"``.
        threshold_test: ``">"`` or ``">="``.
        v_init: membrane potential before the first step; scalar or array that broadcasts
            against the node's parameters.
        decay: membrane decay per step, overrides the integrator.
        current_decay: synaptic current decay per step, overrides the integrator.
        gain: factor on the input current, overrides the integrator.
    """

    dt: float = 1.0
    integrator: str = "euler"
    reset: str = "zero"
    threshold_test: str = ">"
    v_init: float | np.ndarray = 0.0
    decay: float | np.ndarray | None = None
    current_decay: float | np.ndarray | None = None
    gain: float | np.ndarray | None = None

    def __post_init__(self) -> None:
        for value, allowed, what in (
            (self.reset, RESETS, "reset"),
            (self.integrator, INTEGRATORS, "integrator"),
            (self.threshold_test, (">", ">="), "threshold_test"),
        ):
            if value not in allowed:
                raise refuse("E0210", f"{what}={value!r}", supported=", ".join(allowed))


@dataclass(frozen=True, eq=False)
class StepCoefficients:
    """Coefficients of one step, float64 arrays that broadcast against the node's parameters.

    ``current_decay`` is None where the neuron has no synaptic current of its own;
    ``threshold`` is None where it does not spike.
    """

    decay: np.ndarray
    gain: np.ndarray
    leak: np.ndarray
    current_decay: np.ndarray | None
    w_in: np.ndarray | None
    threshold: np.ndarray | None
    v_reset: np.ndarray
    v_init: np.ndarray
    reset: str
    inclusive: bool


def discretize(op: Any, dynamics: Dynamics) -> StepCoefficients:
    """Turn a NIR neuron and its dynamics into the coefficients of one step.

    Euler: decay = 1 - dt/tau, gain = r*dt/tau, leak = v_leak*dt/tau.
    Exact: decay = exp(-dt/tau), gain = r*(1-decay), leak = v_leak*(1-decay).
    Integrate-and-fire: decay = 1, gain = r*dt.
    """
    kind = type(op).__name__
    if kind not in NEURON_OPS:
        raise refuse("E0101", f"{kind} is not a neuron")
    one = np.ones(1)
    current_decay = w_in = None
    if kind in ("IF", "I"):
        decay, gain, leak = one, np.asarray(op.r, np.float64) * dynamics.dt, np.zeros(1)
    else:
        tau = np.asarray(op.tau_mem if kind.startswith("Cuba") else op.tau, np.float64)
        decay, fraction = _decay(tau, dynamics)
        gain = np.asarray(op.r, np.float64) * fraction
        leak = np.asarray(op.v_leak, np.float64) * fraction
    if kind.startswith("Cuba"):
        current_decay, fraction = _decay(np.asarray(op.tau_syn, np.float64), dynamics)
        w_in = np.asarray(op.w_in, np.float64) * fraction
        if dynamics.current_decay is not None:
            current_decay, w_in = _array(dynamics.current_decay), np.asarray(op.w_in, np.float64)
    if dynamics.decay is not None:
        decay = _array(dynamics.decay)
    if dynamics.gain is not None:
        gain = _array(dynamics.gain)
    spikes = kind in SPIKING_OPS
    return StepCoefficients(
        decay=np.asarray(decay),
        gain=np.asarray(gain),
        leak=leak,
        current_decay=current_decay,
        w_in=w_in,
        threshold=np.asarray(op.v_threshold, np.float64) if spikes else None,
        v_reset=np.asarray(op.v_reset, np.float64) if spikes else np.zeros(1),
        v_init=_array(dynamics.v_init),
        reset=dynamics.reset if spikes else "none",
        inclusive=dynamics.threshold_test == ">=",
    )


def _decay(tau: np.ndarray, dynamics: Dynamics) -> tuple[np.ndarray, np.ndarray]:
    """Per-step decay and the fraction by which the input acts."""
    if dynamics.integrator == "exact":
        decay = np.exp(-dynamics.dt / tau)
        return decay, 1 - decay
    fraction = dynamics.dt / tau
    return 1 - fraction, fraction


def _array(value: float | np.ndarray) -> np.ndarray:
    return np.atleast_1d(np.asarray(value, np.float64))
