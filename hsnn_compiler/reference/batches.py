"""Cutting inputs into batches, which bounds the memory of every executor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.reference.result import Result, join

Inputs = np.ndarray | Mapping[str, np.ndarray]
"""Samples [samples, ...], with time where an input has it, [samples, time, ...]; or one such array per input node."""

BATCH_SIZE = 128


def run_in_batches(
    graph: Graph,
    inputs: Inputs,
    size: int,
    run: Callable[[dict[str, np.ndarray]], Result],
    progress: Callable[[int, int], None] | None,
) -> Result:
    """Run every batch and put the results together; `progress` is called as (samples done, all samples)."""
    results = []
    for batch, done, total in batches(graph, inputs, size):
        results.append(run(batch))
        if progress:
            progress(done, total)
    return join(results)


def batches(graph: Graph, inputs: Inputs, size: int) -> Iterator[tuple[dict[str, np.ndarray], int, int]]:
    """Cut inputs into batches, after checking names and shapes (E0330)."""
    names = [node.name for node in graph.of_kind("Input")]
    arrays = dict(inputs) if isinstance(inputs, Mapping) else {names[0]: inputs}
    if sorted(arrays) != sorted(names):
        raise refuse("E0330", f"inputs {sorted(arrays)} given", supported=f"inputs {sorted(names)}")
    steps = set()
    for name in names:
        node = graph[name]
        axes = ["samples", *(["time"] if has_time(node) else []), *map(str, node.shape)]
        if arrays[name].ndim != len(axes) or arrays[name].shape[len(axes) - len(node.shape) :] != node.shape:
            raise refuse(
                "E0330",
                f"data of shape {list(arrays[name].shape)} for input {name!r}",
                supported=f"[{', '.join(axes)}]",
                suggestion="reshape the data to what the model takes",
            )
        if has_time(node):
            steps.add(arrays[name].shape[1])
    if len(steps) > 1 or 0 in steps:
        raise refuse("E0330", f"inputs with {sorted(steps)} time steps", supported="one number of steps, at least 1")
    total = min(len(array) for array in arrays.values())
    if total == 0:
        raise refuse("E0330", "no samples in the data")
    for start in range(0, total, size):
        stop = min(start + size, total)
        yield {name: array[start:stop] for name, array in arrays.items()}, stop, total


def has_time(node: Node) -> bool:
    """Whether what a node puts out exists once per time step."""
    return node.type is not None and node.type.coding.per_step
