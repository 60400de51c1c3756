"""What each platform makes of a NIR neuron, read in its source and confirmed by running it.

norse 1.1.0, sinabs 3.1.3, snnTorch 1.0.0, SpikingJelly 2.0.0, spyx 1.0.0, and the Lava importer of
the NIR paper; tests/peers compares with the libraries themselves. docs/semantics.md says it in words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hsnn_compiler.ir.dynamics import Dynamics

STATELESS = frozenset({"Input", "Output", "Flatten", "NoOp"})


@dataclass(frozen=True)
class Preset:
    """One platform.

    Attributes:
        title: name and version.
        dt: what it uses if nothing is said, in the unit of the file.
        neuron: dynamics of an op for a dt.
        runs: kinds of nodes it can import at all.
        late: rule for late edges, see `hsnn_compiler.frontends.nir.late`.
        bias_at_start: whether recurrent weights deliver their bias in the first step.
        synapse_delay, population_delay: steps on the edges into weight layers, and forward into neurons.
    """

    title: str
    dt: float
    neuron: Callable[[Any, float], Dynamics]
    runs: frozenset[str]
    late: str
    bias_at_start: bool = False
    synapse_delay: int = 0
    population_delay: int = 0


def _kind(op: Any) -> str:
    return type(op).__name__


def _f64(value: Any) -> np.ndarray:
    return np.asarray(value, np.float64)


def norse(op: Any, dt: float) -> Dynamics:
    """Forward Euler; r and v_reset are not used, except r of CubaLIF; it starts at v_leak, and so does its current."""
    if _kind(op) in ("IF", "I"):
        return Dynamics(dt, gain=1.0)
    if _kind(op).startswith("Cuba"):
        rest = _f64(op.v_leak)
        leak = rest * dt / _f64(op.tau_syn) if rest.any() else None
        return Dynamics(dt, v_init=rest, current_leak=leak, u_init=rest if rest.any() else None)
    return Dynamics(dt, gain=dt / _f64(op.tau), v_init=_f64(op.v_leak))


def sinabs(op: Any, dt: float) -> Dynamics:
    """Time constants count in steps; exponential decay, gain 1; as many spikes as fit, subtracted."""
    shared: dict[str, Any] = {"reset": "subtract", "threshold_test": ">=", "max_spikes": 0, "gain": 1.0}
    if _kind(op) in ("IF", "I"):
        bound = -_f64(op.v_threshold) if _kind(op) == "IF" else None
        return Dynamics(dt, v_min=bound, **shared)
    decays: dict[str, Any] = {"decay": np.exp(-dt / _f64(op.tau_mem if _kind(op).startswith("Cuba") else op.tau))}
    if _kind(op).startswith("Cuba"):
        decays.update(current_decay=np.exp(-dt / _f64(op.tau_syn)), current_gain=1.0)
    return Dynamics(dt, "none", leak=0.0, **decays, **shared)


def snntorch(op: Any, dt: float) -> Dynamics:
    """Forward Euler, decay kept within 0 and 1; the smallest gain of a population counts for all of it."""
    if _kind(op).startswith("Cuba"):
        return Dynamics(
            dt,
            "none",
            decay=_kept(dt, op.tau_mem),
            current_decay=_kept(dt, op.tau_syn),
            current_gain=_f64(op.w_in) * dt / _f64(op.tau_syn),
            gain=_f64(op.r) * dt / _f64(op.tau_mem),
        )
    if _kind(op) in ("IF", "I"):
        return Dynamics(dt, gain=1.0)
    return Dynamics(dt, "none", decay=_kept(dt, op.tau), gain=float((_f64(op.r) * dt / _f64(op.tau)).min()), leak=0.0)


def spikingjelly(op: Any, dt: float) -> Dynamics:
    """Forward Euler, reset to v_reset, where it also starts; it fires at the threshold itself."""
    start = _f64(op.v_reset) if hasattr(op, "v_reset") else 0.0
    return Dynamics(dt, reset="value", threshold_test=">=", v_init=start)


def lava(op: Any, dt: float) -> Dynamics:
    """Forward Euler; r, v_leak and v_reset are not used."""
    if _kind(op) in ("IF", "I"):
        return Dynamics(dt, gain=1.0)
    if _kind(op).startswith("Cuba"):
        return Dynamics(dt, gain=1.0, leak=0.0)
    return Dynamics(dt, gain=dt / _f64(op.tau), leak=0.0)


def spyx(op: Any, dt: float) -> Dynamics:
    """Forward Euler without any gain; soft reset in the step after the spike."""
    shared: dict[str, Any] = {"reset": "subtract", "gain": 1.0, "leak": 0.0}
    if _kind(op) in ("IF", "I"):
        return Dynamics(dt, reset_at="after", **shared)
    if _kind(op).startswith("Cuba"):
        decays: dict[str, Any] = {"decay": _kept(dt, op.tau_mem), "current_decay": _kept(dt, op.tau_syn)}
        return Dynamics(dt, "none", current_gain=1.0, reset_at="before", **decays, **shared)
    return Dynamics(dt, "none", decay=_kept(dt, op.tau), reset_at="after", **shared)


def _kept(dt: float, tau: Any) -> np.ndarray:
    return np.clip(1 - dt / _f64(tau), 0, 1)


_POOLED = STATELESS | {"Affine", "Linear", "Conv1d", "Conv2d", "SumPool2d", "AvgPool2d"}
PRESETS: dict[str, Preset] = {
    "norse": Preset(
        "Norse 1.1.0",
        1e-3,
        norse,
        STATELESS | {"Affine", "Linear", "Conv2d", "SumPool2d", "IF", "LIF", "CubaLIF"},
        "depth-first",
    ),
    "sinabs": Preset(
        "sinabs 3.1.3", 1.0, sinabs, STATELESS | {"Affine", "Conv2d", "SumPool2d", "IF", "LIF", "LI"}, "depth-first"
    ),
    "snntorch": Preset("snnTorch 1.0.0", 1e-4, snntorch, _POOLED | {"LIF", "CubaLIF"}, "queue", bias_at_start=True),
    "spikingjelly": Preset("SpikingJelly 2.0.0", 1e-4, spikingjelly, _POOLED | {"IF", "LIF", "CubaLIF"}, "queue"),
    "lava": Preset(
        "the NIR paper's Lava",
        1e-4,
        lava,
        STATELESS | {"Affine", "Linear", "Conv2d", "SumPool2d", "IF", "LIF", "CubaLIF"},
        "loops",
        synapse_delay=1,
    ),
    "spyx": Preset(
        "spyx 1.0.0",
        1.0,
        spyx,
        STATELESS | {"Affine", "Linear", "Conv2d", "SumPool2d", "IF", "LIF", "CubaLIF"},
        "loops",
        population_delay=1,
    ),
}
