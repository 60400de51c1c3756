"""Round weights to the int8 numbers that SpiNNaker 2's populations hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import nir
import numpy as np

from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.ops import bias_of
from hsnn_compiler.passes.base import BOUNDED, Pass, PassContext, PassResult
from hsnn_compiler.passes.batchnorm import with_weights
from hsnn_compiler.reference.spinnaker2_cells import LARGEST_WEIGHT, input_scale, integers, synapses
from hsnn_compiler.report.table import Cell, Table

COLUMNS = ("population", "weights", "scales", "rounded to zero", "largest error", "rms error, %")


@dataclass(frozen=True)
class QuantiseInt8(Pass):
    """Give every weight on the chip a whole number of steps, -127 to 127.

    A step is 1/127 of the largest weight that arrives at a neuron, or at any neuron of its channel in a convolution:
    |W - W_int step| <= step / 2. Thresholds, biases, decays and potentials stay real (float32 on the chip). The
    parameters of the ops become the dequantised ones.
    """

    name: ClassVar[str] = "quantise-int8"
    contract: ClassVar[str] = BOUNDED
    requires: ClassVar[tuple[str, ...]] = ("lif-neurons", "neurons-and-synapses", "single-source")
    ensures: ClassVar[tuple[str, ...]] = ("int8-weights",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        graph = graph.copy()
        rows: list[tuple[Cell, ...]] = []
        for node in [n for n in graph if n.is_population and n.on_chip]:
            feeds = synapses(graph, node)
            if not feeds:
                continue
            scale = input_scale(graph, node)
            before = [np.asarray(feed.op.weight, np.float64) for feed in feeds]
            for feed in feeds:
                steps = np.broadcast_to(scale.reshape(-1), len(feed.op.weight))
                weight = integers(feed.op, scale) / steps.reshape(-1, *[1] * (feed.op.weight.ndim - 1))
                graph.update(feed.name, op=_with(feed.op, weight))
            after = [np.asarray(graph[feed.name].op.weight) for feed in feeds]
            was, now = (np.concatenate([w.reshape(-1) for w in some]) for some in (before, after))
            rms = 100 * np.sqrt(((now - was) ** 2).mean() / max((was**2).mean(), 1e-300))
            lost = int(((was != 0) & (now == 0)).sum())
            rows.append((node.name, was.size, scale.size, lost, float(np.abs(now - was).max()), float(rms)))
        note = f"{len(rows)} populations, weights of -{LARGEST_WEIGHT} to {LARGEST_WEIGHT} steps"
        tables = (Table("int8 weights", COLUMNS, rows),) if rows else ()
        return PassResult(graph, bool(rows), (note,), (), tables)


def _with(op: Any, weight: np.ndarray) -> Any:
    bias = bias_of(op)
    return nir.Linear(weight) if bias is None else with_weights(op, weight, bias)
