"""What training fixed for converted activations: where a quantised one ends, and in how many steps it is exact."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Node
from hsnn_compiler.ir.ops import Quantised
from hsnn_compiler.passes.base import listing

CHOSEN_BY_HAND = ("threshold", "method", "percentile")
"""Options of a layer that ask for a threshold other than the trained one."""


def trained_end(op: Any) -> np.ndarray | None:
    """The activation at which a quantised activation ends, float64, as wide as its threshold; None for other ops."""
    return np.asarray(op.threshold, np.float64) if isinstance(op, Quantised) else None


def trained_timesteps(ops: Iterable[Any], max_spikes: int) -> int | None:
    """Steps in which spikes have the levels that all quantised activations were trained with; None if there are none.

    Args:
        ops: of activations; others than quantised ones do not matter.
        max_spikes: how often a neuron fires in one step at most.
    """
    levels = {op.levels for op in ops if isinstance(op, Quantised)}
    if len(levels) != 1 or (only := levels.pop()) % max_spikes:
        return None
    return only // max_spikes


def other_levels(activations: Iterable[Node], timesteps: int) -> tuple[Finding, ...]:
    """W0440 for quantised activations that first spikes in so many steps do not compute exactly."""
    others = [node for node in activations if isinstance(node.op, Quantised) and node.op.levels != timesteps]
    if not others:
        return ()
    numbers = ", ".join(str(levels) for levels in sorted({node.op.levels for node in others}))
    return (
        Finding(
            "W0440",
            f"activations trained with {numbers} levels are compiled for {timesteps}, one per step:"
            f" {listing(node.name for node in others)}",
            suggestion="as many --timesteps as all of them have levels, which is the default, computes them exactly",
        ),
    )


def is_exact(node: Node, timesteps: int) -> bool:
    """Whether a converted neuron computes what it was: one that fires once, in as many steps as there were levels.

    Where an input lies exactly between two levels the neuron takes the upper one, whatever `Quantised.ties` says.
    """
    return node.kind == "FirstSpike" and isinstance(node.was, Quantised) and node.was.levels == timesteps
