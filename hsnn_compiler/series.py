"""Inputs with a time axis, as the spikes that a compiled program gets from the host."""

from __future__ import annotations

import numpy as np

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.types import Coding, TensorType


def as_spikes(graph: Graph, data: np.ndarray | None, timesteps: int | None) -> tuple[Graph, list[Finding]]:
    """Take inputs with a time axis for spikes, where the data say that they are, or say why not (E0437).

    Args:
        graph: as captured.
        data: calibration data, [samples, time, ...]; None if there are none.
        timesteps: steps per sample asked for, None for those of the data.

    Returns:
        The graph, in which such inputs put out spikes.
    """
    series = [node for node in graph.of_kind("Input") if node.type is not None and node.type.coding.per_step]
    if not series:
        return graph, []
    reason = _obstacle(graph, data, timesteps)
    if reason:
        return graph, [_refusal(node, reason) for node in series]
    graph = graph.copy()
    for node in series:
        graph.update(node.name, type=TensorType(node.shape, Coding.SPIKES))
    return infer_types(graph), []


def _obstacle(graph: Graph, data: np.ndarray | None, timesteps: int | None) -> str:
    """Why a bundle cannot take the series, or an empty string."""
    if data is None:
        return "there are no data that would say whether it is spikes"
    if not np.isin(data, (0, 1)).all():
        return "its values are not all 0 or 1"
    if any(node.type is not None and node.type.coding.per_step for node in graph.of_kind("Output")):
        return "so has the result, which a bundle reads once per sample"
    steps = {data.shape[1], graph.timesteps, timesteps or graph.timesteps}
    return (
        "" if len(steps) == 1 else f"samples of {data.shape[1]} steps do not fit {timesteps or graph.timesteps} steps"
    )


def _refusal(node: Node, reason: str) -> Finding:
    return Finding(
        "E0437",
        f"the input has a time axis, and {reason}",
        node=node.name,
        source=node.source,
        supported="one input per sample that the model repeats (direct coding); or spikes, 0 and 1, with a result per"
        " sample",
        suggestion="hsnn-compile simulate MODEL --axes TB --data FILE --backend reference runs its integers",
    )
