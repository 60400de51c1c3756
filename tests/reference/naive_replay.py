"""What neurons do, once more: one sample, one step, one neuron at a time, from the NIR equations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hsnn_compiler.ir import Dynamics


def replay(op: Any, dynamics: Dynamics, current: np.ndarray) -> dict[str, np.ndarray]:
    """Drive a population with `current` [time, ...]; returns s (or the potential), u and v, [time, ...]."""
    out = {name: np.zeros(current.shape) for name in "suv"}
    for index in np.ndindex(*current.shape[1:]):
        parameters = {
            name: float(np.broadcast_to(_full(getattr(op, name), current.ndim - 1), current.shape[1:])[index])
            for name in ("r", "tau", "tau_mem", "tau_syn", "w_in", "v_leak", "v_threshold", "v_reset")
            if hasattr(op, name)
        }
        v = float(np.broadcast_to(_full(dynamics.v_init, current.ndim - 1), current.shape[1:])[index])
        u = 0.0
        for t in range(len(current)):
            u, v, s = _step(type(op).__name__, parameters, dynamics, u, v, float(current[(t, *index)]))
            for name, value in zip("suv", (s, u, v), strict=True):
                out[name][(t, *index)] = value
    return out


def _step(kind: str, p: dict[str, float], how: Dynamics, u: float, v: float, i: float) -> tuple[float, float, float]:
    def relax(x: float, goal: float, tau: float) -> float:
        if how.integrator == "exact":
            return goal + (x - goal) * math.exp(-how.dt / tau)
        return x + how.dt / tau * (goal - x)

    if kind in ("IF", "I"):
        u = i
        v = v + how.dt * p["r"] * i
    elif kind in ("LIF", "LI"):
        u = i
        v = relax(v, p["v_leak"] + p["r"] * i, p["tau"])
    else:
        u = relax(u, p["w_in"] * i, p["tau_syn"])
        v = relax(v, p["v_leak"] + p["r"] * u, p["tau_mem"])
    if kind in ("I", "LI", "CubaLI"):
        return u, v, v
    fires = v >= p["v_threshold"] if how.threshold_test == ">=" else v > p["v_threshold"]
    if fires:
        v = {"zero": 0.0, "value": p["v_reset"], "subtract": v - p["v_threshold"], "none": v}[how.reset]
    return u, v, float(fires)


def _full(value: Any, rank: int) -> np.ndarray:
    array = np.asarray(value, np.float64)
    return array.reshape((1,) * rank) if array.size == 1 else array
