"""What a neuron does in one step, as one line of formulas."""

from __future__ import annotations

import numpy as np

from hsnn_compiler.ir.dynamics import StepCoefficients, delay_steps, discretize
from hsnn_compiler.ir.graph import Node

_WHEN = {
    "spike": "",
    "before": " at the start of the next step",
    "after": " at the end of the next step",
    "crossing": " at the instant of the crossing",
    "undelayed": ", and one threshold less is tested where v began above it",
}


def describe_step(node: Node) -> str:
    """The whole contract of a neuron or a Delay; what is usual (reset at once, one spike) is not mentioned."""
    if node.dynamics is None:
        return ""
    if node.kind == "Delay":
        return f"{_span(delay_steps(node.op, node.dynamics))} steps later"
    step = discretize(node.op, node.dynamics)
    parts = []
    has_current = step.current_decay is not None and (step.current_decay.any() or np.any(step.w_in != 1))
    if has_current and step.current_decay is not None and step.w_in is not None:
        parts.append("u = " + _sum(("u", step.current_decay), ("I", step.w_in), step.current_leak))
    drive = ("u" if has_current else "I") + ("" if step.current_first else " of the step before")
    parts.append("v = " + _sum(("v", step.decay), (drive, step.gain), step.leak))
    if step.v_min is not None:
        parts.append(f"v >= {_span(step.v_min)}")
    if step.threshold is not None:
        parts.append(_fire(step, step.threshold))
    if step.refractory:
        parts.append(f"held for {step.refractory} steps")
    if step.v_init.any():
        parts.append(f"v_0 = {_span(step.v_init)}")
    if step.u_init is not None and step.u_init.any():
        parts.append(f"u_0 = {_span(step.u_init)}")
    return "; ".join(parts)


def _fire(step: StepCoefficients, threshold: np.ndarray) -> str:
    test = ">=" if step.inclusive else ">"
    fits = "" if step.max_spikes == 1 else f" (up to {step.max_spikes or 'any number of'} times)"
    what = {
        "zero": "v = 0",
        "subtract": f"v -= {_span(threshold)}",
        "none": "no reset",
        "value": f"v = {_span(step.v_reset)}",
    }[step.reset]
    what += " and u = 0" if step.reset_current else ""
    if step.reset_to_current and step.w_in is not None:
        what = f"u -= {_span(step.w_in * threshold)}, v = u, once tested with {_per('(v - u)', step.w_in)} more,"
    return f"v {test} {_span(threshold)}{fits}: {what}{'' if step.reset == 'none' else _WHEN[step.reset_at]}"


def _sum(state: tuple[str, np.ndarray], drive: tuple[str, np.ndarray], constant: np.ndarray | None) -> str:
    """``0.9 v + 0.1 I + 0.5`` without factors of one and terms of zero."""
    terms = [
        f"{_span(factor)} {name}" if np.any(factor != 1) else name for name, factor in (state, drive) if factor.any()
    ]
    if constant is not None and constant.any():
        terms.append(_span(constant))
    return " + ".join(terms) or "0"


def _per(name: str, factor: np.ndarray) -> str:
    return f"{name}/{_span(factor)}" if np.any(factor != 1) else name


def _span(array: np.ndarray) -> str:
    """One number, or the range of several."""
    low, high = float(np.min(array)), float(np.max(array))
    return f"{low:.4g}" if low == high else f"{low:.4g}..{high:.4g}"
