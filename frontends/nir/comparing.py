"""What two meanings of one graph do differently, in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from hsnn_compiler.ir.dynamics import differences
from hsnn_compiler.ir.graph import Graph


def compare(first: Graph, second: Graph) -> list[str]:
    """In words, what two settled graphs of the same file do differently."""
    lines = []
    alike: dict[str, list[str]] = {}
    for a in first:
        b = second[a.name]
        if a.dynamics is not None and b.dynamics is not None:
            for field, one, two in differences(a.dynamics, b.dynamics):
                text = f"{field} is {_short(one)}, {_short(two)} in the second"
                alike.setdefault(text, []).append(a.name)
    for text, names in alike.items():
        lines.append(f"{', '.join(names)}: {text}")
    before = {edge[:3]: edge.delay for edge in first.edges}
    for edge in second.edges:
        old = before[edge[:3]]
        if edge.delay != old:
            lines.append(f"{edge.src} -> {edge.dst}: {_steps(old)}, {_steps(edge.delay)} in the second")
    return lines


def _steps(count: int) -> str:
    return "at once" if count == 0 else f"{count} step{'s' if count > 1 else ''} later"


def _short(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, np.ndarray):
        low, high = float(value.min(initial=np.inf)), float(value.max(initial=-np.inf))
        return f"{low:.4g}" if low == high else f"{low:.4g} .. {high:.4g}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
