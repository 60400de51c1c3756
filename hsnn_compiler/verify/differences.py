"""Where two graphs that should be the same are not."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.records import to_record

FIELDS = ("op", "dynamics", "was", "quant", "schedule")
"""What decides what a node computes; where it came from and why it is where it is do not."""

ROUNDING = 1e-5
"""Floating-point numbers that differ by less than this part of the largest come from another order of sums."""


class Off(NamedTuple):
    """One difference: the node (empty for the graph), what differs, and whether it is mere rounding."""

    node: str
    what: str
    is_rounding: bool = False


def differences(bundle: Graph, again: Graph) -> list[Off]:
    """What a bundle's graph has other than the graph that was compiled again, in the order of the graph."""
    found = []
    if bundle.timesteps != again.timesteps:
        found.append(Off("", f"T = {bundle.timesteps} instead of {again.timesteps}"))
    for node in again:
        if node.name not in bundle:
            found.append(Off(node.name, "missing"))
        else:
            found += _of_node(bundle[node.name], node)
    found += [Off(node.name, "not there when compiled again") for node in bundle if node.name not in again]
    if not found:
        edges = set(bundle.edges) ^ set(again.edges)
        found += [Off(edge.dst, f"the connection from {edge.src}") for edge in sorted(edges)[:1]]
    return found


def same_function(a: Graph, b: Graph) -> bool:
    """Whether two graphs of one compilation compute the same because a pass left all ops as they were."""
    if a.timesteps != b.timesteps or [n.name for n in a] != [n.name for n in b] or a.edges != b.edges:
        return False
    kept = ("op", "dynamics", "quant")
    return all(getattr(x, field) is getattr(y, field) for x, y in zip(a, b, strict=True) for field in kept)


def _of_node(bundle: Node, again: Node) -> list[Off]:
    found = []
    for field in FIELDS:
        a, b = getattr(bundle, field), getattr(again, field)
        if a is None or b is None:
            found += [Off(bundle.name, field)] if a is not b else []
            continue
        (name_a, record_a), (name_b, record_b) = to_record(a), to_record(b)
        if name_a != name_b or record_a.keys() != record_b.keys():
            found.append(Off(bundle.name, f"{field} {name_a} instead of {name_b}"))
            continue
        for key, value in record_a.items():
            off = _of_values(value, record_b[key])
            found += [Off(bundle.name, f"{key} ({off[0]})", off[1])] if off else []
    return found


def _of_values(a: Any, b: Any) -> tuple[str, bool] | None:
    if isinstance(a, (str, bool)) or a is None or isinstance(b, (str, bool)) or b is None:
        return None if a == b else (f"{a} instead of {b}", False)
    x, y = np.asarray(a), np.asarray(b)
    if x.shape != y.shape or "O" in (x.dtype.kind, y.dtype.kind):
        return None if x.shape == y.shape and list(a) == list(b) else ("another shape", False)
    off = x != y
    if not off.any():
        return None
    gap = np.abs(x.astype(np.float64) - y.astype(np.float64)).max()
    size = np.abs(y.astype(np.float64)).max()
    where = f"{int(off.sum())} of {x.size} numbers, by up to {gap:.3g}" if x.size > 1 else f"{a} instead of {b}"
    return where, bool("f" in (x.dtype.kind, y.dtype.kind) and gap <= ROUNDING * size)
