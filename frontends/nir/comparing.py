"""What two meanings of one graph do differently, in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from hsnn_compiler.ir.dynamics import StepCoefficients, discretize
from hsnn_compiler.ir.graph import Graph, Node

_COEFFICIENTS = ("decay", "gain", "leak", "current_decay", "w_in", "current_leak", "u_init", "v_init", "v_min")
_CURRENT = ("current_first", "reset_current", "reset_to_current")
_OTHERS = ("reset", "reset_at", "inclusive", "max_spikes", "refractory", *_CURRENT)
_WORDS = {"w_in": "current_gain", "inclusive": "threshold_test"}
_ROUNDING = 1e-12
"""Coefficients that differ by less, relative to their size, are the same number computed in two ways."""


def compare(first: Graph, second: Graph) -> list[str]:
    """In words, what two settled graphs of the same file do differently: what their steps compute, and when."""
    lines = []
    alike: dict[str, list[str]] = {}
    for a in first:
        b = second[a.name]
        if a.is_neuron and a.dynamics is not None and b.dynamics is not None:
            for field, one, two in _differences(a, b):
                text = f"{field} is {_short(one)}, {_short(two)} in the second"
                alike.setdefault(text, []).append(a.name)
    for text, names in alike.items():
        lines.append(f"{', '.join(names)}: {text}")
    before = {edge[:3]: edge.delay for edge in first.edges}
    for edge in second.edges:
        old = before.get(edge[:3], edge.delay)
        if edge.delay != old:
            lines.append(f"{edge.src} -> {edge.dst}: {_steps(old)}, {_steps(edge.delay)} in the second")
    return lines


def _differences(a: Node, b: Node) -> list[tuple[str, Any, Any]]:
    """What the steps of one neuron differ in: (part of the contract, first, second)."""
    assert a.dynamics is not None
    assert b.dynamics is not None
    one, two = discretize(a.op, a.dynamics), discretize(b.op, b.dynamics)
    names = [*_COEFFICIENTS, *(_OTHERS if a.is_spiking else ("current_first",))]
    if one.reset == two.reset == "value":
        names.append("v_reset")
    found = []
    for name in names:
        x, y = getattr(one, name), getattr(two, name)
        if name in ("u_init", "current_leak"):  # none is zero
            x, y = (np.zeros(1) if value is None else value for value in (x, y))
        if name == "reset":
            x, y = (_reset(step) for step in (one, two))
        if name == "inclusive":
            x, y = (">=" if value else ">" for value in (x, y))
        if name == "reset_at" and "none" in (one.reset, two.reset):
            continue
        if not _same(x, y):
            found.append((_WORDS.get(name, name), x, y))
    return found


def _reset(step: StepCoefficients) -> str:
    return "zero" if step.reset == "value" and not step.v_reset.any() else step.reset


def _same(x: Any, y: Any) -> bool:
    if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        return bool(np.all(np.isclose(x, y, rtol=_ROUNDING, atol=0)))
    return x is None and y is None if isinstance(x, np.ndarray) or isinstance(y, np.ndarray) else x == y


def _steps(count: int) -> str:
    return "at once" if count == 0 else f"{count} step{'s' if count > 1 else ''} later"


def _short(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, np.ndarray):
        low, high = float(value.min(initial=np.inf)), float(value.max(initial=-np.inf))
        return f"{low:.4g}" if f"{low:.4g}" == f"{high:.4g}" else f"{low:.4g} .. {high:.4g}"
    return str(value)
