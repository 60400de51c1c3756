"""What a change of the neurons costs, measured on data: spikes that move, predictions that change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.report.table import Cell, Table

SAMPLES = 64


@dataclass(frozen=True)
class Compared:
    """Two graphs on the same samples.

    Attributes:
        samples: how many.
        spikes: by population, spikes before and after, and (sample, step, neuron) places at which they differ.
        changed: samples whose prediction, the largest output, is another; None where there is one output.
        error: root mean square of the change of the outputs, over that of the outputs.
        assumed: whether the samples are noise.
    """

    samples: int
    spikes: dict[str, tuple[int, int, int]]
    changed: int | None
    error: float
    assumed: bool

    @property
    def moved(self) -> float:
        """Places at which spikes differ, over the number of spikes before, in percent."""
        before = sum(counts[0] for counts in self.spikes.values())
        return 100 * sum(counts[2] for counts in self.spikes.values()) / max(before, 1)

    def __str__(self) -> str:
        data = f"{self.samples} samples of {'noise' if self.assumed else 'the calibration data'}"
        predictions = "" if self.changed is None else f", {self.changed} of {self.samples} predictions change"
        outputs = f"outputs change by {100 * self.error:.1f}% (rms)"
        return f"on {data}: {self.moved:.1f}% of spikes move{predictions}, {outputs}"

    def table(self, title: str) -> Table:
        """By population."""
        rows: list[tuple[Cell, ...]] = [
            (name, before, after, off, 100 * off / max(before, 1)) for name, (before, after, off) in self.spikes.items()
        ]
        columns = ("population", "spikes before", "spikes after", "places that differ", "% of spikes before")
        return Table(title, columns, rows, (str(self),))


def compare(before: Graph, after: Graph, context: PassContext) -> Compared | None:
    """Run both on calibration samples; None where there are none."""
    if context.calibration is None or not len(context.calibration):
        return None
    x = context.calibration[:SAMPLES]
    before, after = infer_types(before), infer_types(after)
    record = [(node.name, "s") for node in before if node.is_spiking and node.on_chip and node.name in after]
    first, second = (FloatExecutor(graph, method="auto").run(x, record) for graph in (before, after))
    spikes = {}
    for key in record:
        a, b = first.trace[key] != 0, second.trace[key] != 0
        spikes[key[0]] = (int(a.sum()), int(b.sum()), int((a != b).sum()))
    name = sorted(first.outputs)[0]
    a, b = (result.outputs[name].reshape(len(x), -1).astype(np.float64) for result in (first, second))
    size = float(np.sqrt((a**2).mean()))
    error = float(np.sqrt(((a - b) ** 2).mean())) / size if size else 0.0
    changed = int((a.argmax(1) != b.argmax(1)).sum()) if a.shape[1] > 1 else None
    return Compared(len(x), spikes, changed, error, context.assumed)
