"""What a neuron does in one time step: the contract that NIR leaves open.

NIR gives differential equations; platforms disagree on everything else. `Dynamics` writes
the rest down, and `discretize` turns a NIR neuron plus its dynamics into the coefficients
of one step, which is what every executor and backend uses:

    v    = reset(v)                                      where it fired last step, reset_at="before"
    u    = current_decay * u + w_in * I + current_leak   (only Cuba neurons; else u = I)
    v    = decay * v + gain * u + leak                   (held while refractory)
    v    = reset(v)                                      where it fired last step, reset_at="after"; also "undelayed"
    v    = max(v, v_min)
    s    = v > threshold                                 (or >=; or how often the threshold fits into v)
    v    = reset(v)                                      where it fires, reset_at="spike"

docs/semantics.md explains it, with the names of the platforms that do each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hsnn_compiler.diagnostics import refuse

CHOICES: dict[str, tuple[str, ...]] = {
    "integrator": ("euler", "exact", "none"),
    "if_rate": ("second", "step"),
    "reset": ("zero", "value", "subtract", "none"),
    "reset_at": ("spike", "before", "after", "crossing", "undelayed"),
    "threshold_test": (">", ">="),
}
NEURON_OPS = ("IF", "LIF", "CubaLIF", "I", "LI", "CubaLI")
SPIKING_OPS = ("IF", "LIF", "CubaLIF")
"""Neurons with a threshold; `FirstSpike` fires too, but has no dynamics."""


def _quiet(default: Any) -> Any:
    """A field that is printed and stored only where it differs from its default."""
    return field(default=default, metadata={"quiet": True})


@dataclass(frozen=True, eq=False)
class Dynamics:
    """One discrete-time meaning for a neuron node.

    Attributes:
        dt: length of a step, in the unit of the node's time constants.
        integrator: ``"euler"`` (forward), ``"exact"`` (exponential), or ``"none"``: the source
            gave per-step coefficients, `decay` and `gain` below are used as they are.
        reset: ``"zero"``, ``"value"`` (the op's v_reset), ``"subtract"`` (the threshold, once per
            spike) or ``"none"``.
        threshold_test: ``">"`` or ``">="``.
        v_init: membrane potential before the first step; scalar or array that broadcasts
            against the node's parameters.
        decay: membrane decay per step, overrides the integrator.
        current_decay: synaptic current decay per step, overrides the integrator.
        gain: factor on the input current, overrides the integrator.
        leak: added to v in every step, overrides the integrator (which gives v_leak * dt/tau).
        current_gain: factor on the input of the synaptic current, overrides the integrator.
        current_leak: added to the synaptic current in every step.
        u_init: synaptic current before the first step.
        if_rate: what the r of I and IF means: ``"second"``, dv/dt = r I, so each step adds r*dt*I;
            or ``"step"``, each step adds r*I.
        reset_at: ``"spike"``: in the step that fires; ``"before"``: in the next step, before it
            integrates; ``"after"``: in the next step, applied to what it integrated (snnTorch's
            reset_delay); ``"crossing"``: at the instant within the step at which v reaches the
            threshold, from where it goes on to the end of the step (LIF with the exact integrator);
            ``"undelayed"``: as "spike", but where v lies above the threshold when a step begins, the test is
            made on one threshold less (snnTorch's reset_delay=False; with reset by subtraction).
        max_spikes: most spikes of one step; 0 is no limit: a neuron fires as often as its
            threshold fits into v.
        refractory: steps after a spike in which v is held and nothing fires.
        v_min: lower bound of v before the test, None for none.
        current_first: whether v sees the synaptic current of this step (True) or of the step before.
        reset_current: whether a reset to zero in the next step (`reset_at` "after") is one of the synaptic current
            too (snnTorch's Alpha).
        reset_to_current: whether a reset by subtraction in the next step (`reset_at` "after") takes the threshold from
            u, as if it were input (w_in times), and v goes on from u in the step after; to the v that is tested,
            (v - u) / w_in is added, both as the step began (snnTorch's Alpha: v is the sum of two currents, u is one).
    """

    dt: float = 1.0
    integrator: str = "euler"
    reset: str = "zero"
    threshold_test: str = ">"
    v_init: float | np.ndarray = 0.0
    decay: float | np.ndarray | None = None
    current_decay: float | np.ndarray | None = None
    gain: float | np.ndarray | None = None
    leak: float | np.ndarray | None = None
    current_gain: float | np.ndarray | None = None
    current_leak: float | np.ndarray | None = None
    u_init: float | np.ndarray | None = None
    if_rate: str = _quiet("second")
    reset_at: str = _quiet("spike")
    max_spikes: int = _quiet(1)
    refractory: int = _quiet(0)
    v_min: float | np.ndarray | None = None
    current_first: bool = _quiet(True)
    reset_current: bool = _quiet(False)
    reset_to_current: bool = _quiet(False)

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise refuse("E0210", f"{name}={getattr(self, name)!r}", supported=", ".join(allowed))
        if not (self.dt > 0 and np.isfinite(self.dt)):
            raise refuse("E0210", f"dt={self.dt!r}", supported="a positive length of a step")
        solved = self.integrator == "exact" and self.reset in ("zero", "value")
        if self.reset_at == "crossing" and not (solved and self.max_spikes == 1 and not self.refractory):
            raise refuse(
                "E0210",
                f"reset_at=crossing with integrator={self.integrator}, reset={self.reset}, "
                f"max_spikes={self.max_spikes}, refractory={self.refractory}",
                supported="integrator=exact, reset=zero or value, one spike per step, no refractory steps",
            )
        one_by_one = self.reset == "subtract" and self.max_spikes == 1 and not self.refractory and self.v_min is None
        if self.reset_at == "undelayed" and not one_by_one:
            raise refuse(
                "E0210",
                f"reset_at=undelayed with reset={self.reset}, max_spikes={self.max_spikes}, "
                f"refractory={self.refractory}, v_min={self.v_min}",
                supported="reset=subtract, one spike per step, no refractory steps, no v_min",
            )
        if self.reset_current and (self.reset, self.reset_at) != ("zero", "after"):
            raise refuse(
                "E0210",
                f"reset_current with reset={self.reset}, reset_at={self.reset_at}",
                supported="reset=zero, reset_at=after",
            )
        if self.reset_to_current and not (one_by_one and self.reset_at == "after"):
            raise refuse(
                "E0210",
                f"reset_to_current with reset={self.reset}, reset_at={self.reset_at}, "
                f"max_spikes={self.max_spikes}, refractory={self.refractory}, v_min={self.v_min}",
                supported="reset=subtract, reset_at=after, one spike per step, no refractory steps, no v_min",
            )
        if self.max_spikes < 0 or self.refractory < 0:
            raise refuse("E0210", f"max_spikes={self.max_spikes}, refractory={self.refractory}", supported="0 or more")


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
    current_leak: np.ndarray | None
    u_init: np.ndarray | None
    threshold: np.ndarray | None
    v_reset: np.ndarray
    v_init: np.ndarray
    v_min: np.ndarray | None
    reset: str
    reset_at: str
    inclusive: bool
    max_spikes: int
    refractory: int
    current_first: bool
    reset_current: bool
    reset_to_current: bool

    @property
    def is_basic(self) -> bool:
        """Whether the step is: integrate, fire at most once, reset at once. The fast kernels run these."""
        return (
            self.max_spikes == 1
            and not self.refractory
            and self.v_min is None
            and self.current_first
            and not self.reset_current
            and not self.reset_to_current
            and self.current_leak is None
            and self.u_init is None
            and (self.reset_at == "spike" or self.reset == "none")
        )


def discretize(op: Any, dynamics: Dynamics) -> StepCoefficients:
    """Turn a NIR neuron and its dynamics into the coefficients of one step.

    Euler: decay = 1 - dt/tau, gain = r*dt/tau, leak = v_leak*dt/tau.
    Exact: decay = exp(-dt/tau), gain = r*(1-decay), leak = v_leak*(1-decay).
    Integrate-and-fire: decay = 1, gain = r*dt, or r where `if_rate` is per step.
    """
    kind = type(op).__name__
    if kind not in NEURON_OPS:
        raise refuse("E0101", f"{kind} is not a neuron")
    if dynamics.reset_at == "crossing" and kind not in ("LIF", "LI", "I", "CubaLI"):
        raise refuse("E0210", f"reset_at=crossing for {kind}", supported="LIF: its solution within a step is known")
    one = np.ones(1)
    current_decay = w_in = None
    if kind in ("IF", "I"):
        per_step = 1.0 if dynamics.if_rate == "step" else dynamics.dt
        decay, gain, leak = one, np.asarray(op.r, np.float64) * per_step, np.zeros(1)
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
        if dynamics.current_gain is not None:
            w_in = _array(dynamics.current_gain)
    if dynamics.decay is not None:
        decay = _array(dynamics.decay)
    if dynamics.gain is not None:
        gain = _array(dynamics.gain)
    if dynamics.leak is not None:
        leak = _array(dynamics.leak)
    spikes = kind in SPIKING_OPS
    if dynamics.reset_to_current and spikes and (w_in is None or not np.all(w_in)):
        supported = "CubaLIF, with a gain of its current that is not zero"
        raise refuse("E0210", f"reset_to_current for {kind}", supported=supported)
    return StepCoefficients(
        decay=np.asarray(decay),
        gain=np.asarray(gain),
        leak=leak,
        current_decay=current_decay,
        w_in=w_in,
        current_leak=_maybe(dynamics.current_leak) if kind.startswith("Cuba") else None,
        u_init=_maybe(dynamics.u_init) if kind.startswith("Cuba") else None,
        threshold=np.asarray(op.v_threshold, np.float64) if spikes else None,
        v_reset=np.asarray(op.v_reset, np.float64) if spikes else np.zeros(1),
        v_init=_array(dynamics.v_init),
        v_min=_maybe(dynamics.v_min),
        reset=dynamics.reset if spikes else "none",
        reset_at=dynamics.reset_at,
        inclusive=dynamics.threshold_test == ">=",
        max_spikes=dynamics.max_spikes,
        refractory=dynamics.refractory if spikes else 0,
        current_first=dynamics.current_first,
        reset_current=dynamics.reset_current and spikes and current_decay is not None,
        reset_to_current=dynamics.reset_to_current and spikes,
    )


def delay_steps(op: Any, dynamics: Dynamics) -> np.ndarray:
    """A NIR Delay in whole steps, int64, in the shape of its parameter: the nearest number of steps."""
    return np.rint(np.asarray(op.delay, np.float64) / dynamics.dt).astype(np.int64)


def per_neuron(array: Any, shape: tuple[int, ...]) -> np.ndarray:
    """float64 [size] of what broadcasts against a population of a shape."""
    array = np.asarray(array, np.float64)
    array = array.reshape(()) if array.size == 1 else array
    return np.ascontiguousarray(np.broadcast_to(array, shape)).reshape(-1)


def _decay(tau: np.ndarray, dynamics: Dynamics) -> tuple[np.ndarray, np.ndarray]:
    """Per-step decay and the fraction by which the input acts."""
    if dynamics.integrator == "exact":
        decay = np.exp(-dynamics.dt / tau)
        return decay, 1 - decay
    fraction = dynamics.dt / tau
    return 1 - fraction, fraction


def _maybe(value: float | np.ndarray | None) -> np.ndarray | None:
    return None if value is None else _array(value)


def _array(value: float | np.ndarray) -> np.ndarray:
    return np.atleast_1d(np.asarray(value, np.float64))
