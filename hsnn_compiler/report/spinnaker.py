"""The tables that describe what a program needs on SpiNNaker, before anything is mapped."""

from __future__ import annotations

import numpy as np

from hsnn_compiler.ir.dynamics import discretize
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.passes.spinnaker.board import limits, needs, totals
from hsnn_compiler.report.table import Cell, Table
from hsnn_compiler.targets import Target

ESTIMATE = (
    "An estimate from below: {neurons} neurons per core, 4 bytes per synapse. What sPyNNaker makes of it: --map. Each"
    " figure and its source: hsnn-compile targets {name}."
)
FIXED = "On the machine potentials are s16.15, and weights have 16 bits: simulate --backend spinnaker-fixed."


def spinnaker_tables(graph: Graph, target: Target) -> list[Table]:
    """Neurons, and what they take."""
    return [neurons(graph), resources(graph, target), board(graph, target)]


def neurons(graph: Graph) -> Table:
    """The step of every population, as PyNN gets it."""
    rows: list[tuple[Cell, ...]] = []
    for node in graph:
        if node.on_chip and node.is_neuron and node.dynamics is not None and node.schedule is not None:
            step = discretize(node.op, node.dynamics)
            test = ">=" if step.inclusive else ">"
            threshold = "never fires" if step.threshold is None else f"V {test} {span(step.threshold)}"
            rows.append((node.name, node.schedule.depth, span(step.decay), threshold, span(step.v_init)))
    return Table("Neurons", ("population", "depth", "beta", "fires", "V at start"), rows, (FIXED,) if rows else ())


def resources(graph: Graph, target: Target) -> Table:
    """What each population and its synapses take, turn by turn."""
    rows: list[tuple[Cell, ...]] = [
        (need.name, need.turn, need.kind, need.neurons, need.synapses, need.memory, need.cores)
        for need in needs(graph, target)
    ]
    columns = ("population", "turn", "what", "neurons", "synapses", "bytes of synapses", "cores")
    return Table("Board resources", columns, rows)


def board(graph: Graph, target: Target) -> Table:
    """Each turn against the board."""
    rows: list[tuple[Cell, ...]] = []
    for turn, *used in totals(needs(graph, target)):
        for what, n, limit in zip(("cores", "bytes of synapses"), used, limits(target), strict=True):
            rows.append((turn, what, n, limit, 100 * n / limit))
    note = ESTIMATE.format(neurons=target["core.neurons"], name=target.name)
    return Table(f"Against {target.title}", ("turn", "what", "used", "limit", "%"), rows, (note,))


def span(array: np.ndarray) -> str:
    """The value, or the smallest and the largest."""
    low, high = float(array.min()), float(array.max())
    return f"{low:.6g}" if low == high else f"{low:.6g}..{high:.6g}"
