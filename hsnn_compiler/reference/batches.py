"""Cutting inputs into batches, which bounds the memory of every executor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.shapes import Shape
from hsnn_compiler.reference.result import Result, join

Inputs = np.ndarray | Mapping[str, np.ndarray]
"""Samples [samples, ...], with time where an input has it, [samples, time, ...]; or one such array per input node."""

BATCH_SIZE = 128


class Inlets:
    """What the data for a graph's inputs must look like, looked up once: a short run has no time for it.

    Args:
        graph: with types.

    Attributes:
        axes: by input node, the number of axes before its shape (2 with time, else 1), and its shape.
    """

    def __init__(self, graph: Graph) -> None:
        self.axes: dict[str, tuple[int, Shape]] = {
            node.name: (2 if has_time(node) else 1, node.shape) for node in graph.of_kind("Input")
        }
        self._first = next(iter(self.axes), "")

    def batches(self, inputs: Inputs, size: int) -> Iterator[tuple[dict[str, np.ndarray], int, int]]:
        """Cut inputs into batches, after checking names and shapes (E0330).

        Yields:
            arrays by name, samples done with them, and all samples.
        """
        arrays = {self._first: inputs} if isinstance(inputs, np.ndarray) else _by_name(inputs, self._first)
        if arrays.keys() != self.axes.keys():
            raise refuse("E0330", f"inputs {sorted(arrays)} given", supported=f"inputs {sorted(self.axes)}")
        steps, counts = set(), []
        for name, (lead, shape) in self.axes.items():
            given = arrays[name].shape
            if given[lead:] != shape or len(given) != lead + len(shape):
                axes = ["samples", "time"][:lead] + [str(size) for size in shape]
                raise refuse(
                    "E0330",
                    f"data of shape {list(given)} for input {name!r}",
                    supported=f"[{', '.join(axes)}]",
                    suggestion="reshape the data to what the model takes",
                )
            if lead == 2:
                steps.add(given[1])
            counts.append(given[0])
        if len(steps) > 1 or 0 in steps:
            raise refuse(
                "E0330", f"inputs with {sorted(steps)} time steps", supported="one number of steps, at least 1"
            )
        total = min(counts)
        if total == 0:
            raise refuse("E0330", "no samples in the data")
        if total <= size and total == max(counts):
            yield arrays, total, total
            return
        for start in range(0, total, size):
            stop = min(start + size, total)
            yield {name: array[start:stop] for name, array in arrays.items()}, stop, total


def run_in_batches(
    inlets: Inlets,
    inputs: Inputs,
    size: int,
    run: Callable[[dict[str, np.ndarray]], Result],
    progress: Callable[[int, int], None] | None,
) -> Result:
    """Run every batch and put the results together; `progress` is called as (samples done, all samples)."""
    results = []
    for batch, done, total in inlets.batches(inputs, size):
        results.append(run(batch))
        if progress:
            progress(done, total)
    return join(results)


def batches(graph: Graph, inputs: Inputs, size: int) -> Iterator[tuple[dict[str, np.ndarray], int, int]]:
    """Cut inputs for a graph into batches, see `Inlets.batches`."""
    return Inlets(graph).batches(inputs, size)


def has_time(node: Node) -> bool:
    """Whether what a node puts out exists once per time step."""
    return node.type is not None and node.type.coding.per_step


def _by_name(inputs: Inputs, first: str) -> dict[str, np.ndarray]:
    return dict(inputs) if isinstance(inputs, Mapping) else {first: inputs}
