"""Cutting inputs into batches, which bounds the memory of every executor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.reference.result import Result, join

Inputs = np.ndarray | Mapping[str, np.ndarray]
"""Samples [samples, ...], or one such array per input node."""

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
    for name in names:
        shape = graph[name].shape
        if arrays[name].shape[1:] != shape:
            raise refuse(
                "E0330",
                f"data of shape {list(arrays[name].shape)} for input {name!r}",
                supported=f"[samples, {', '.join(map(str, shape))}]",
                suggestion="reshape the data to what the model takes",
            )
    total = min(len(array) for array in arrays.values())
    if total == 0:
        raise refuse("E0330", "no samples in the data")
    for start in range(0, total, size):
        stop = min(start + size, total)
        yield {name: array[start:stop] for name, array in arrays.items()}, stop, total
