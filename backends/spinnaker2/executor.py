"""The integer reference of SpiNNaker 2: a program in the chip's arithmetic, the host's stages in float64."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np

from hsnn_compiler.backends.spinnaker.execute import Progress
from hsnn_compiler.backends.spinnaker.simulate import Simulation
from hsnn_compiler.backends.spinnaker.stepping import Stepped
from hsnn_compiler.backends.spinnaker2.arithmetic import Int8Arithmetic
from hsnn_compiler.backends.spinnaker2.lower import lower
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.reference.batches import BATCH_SIZE, Inlets, Inputs
from hsnn_compiler.reference.result import Record, Result, join


class Spinnaker2Executor(Simulation):
    """Runs samples as the executors of `hsnn_compiler.reference` do.

    Args:
        graph: compiled for SpiNNaker 2.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph, Stepped(Int8Arithmetic), lower(graph))

    def run(  # type: ignore[override]
        self,
        inputs: Inputs,
        record: Collection[Record] = (),
        batch_size: int = BATCH_SIZE,
        progress: Callable[[int, int], None] | None = None,
    ) -> Result:
        """Run samples [samples, ...]; `record` as for `FloatExecutor.run`."""
        results = []
        for batch, done, total in Inlets(self.graph).batches(inputs, batch_size):
            results.append(self.run_batch(batch, record))
            if progress:
                progress(done, total)
        return join(results)

    def run_batch(
        self, inputs: Mapping[str, np.ndarray], record: Collection[Record], progress: Progress | None = None
    ) -> Result:
        """One batch: inputs by name, [samples, ...]."""
        result = super().run(inputs, record, progress)
        result.trace.update({key: inputs[key[0]] for key in record if key[0] in inputs})
        return result
