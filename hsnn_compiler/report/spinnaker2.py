"""The tables that describe what a program needs on SpiNNaker 2: estimates, and the parameters of its neurons."""

from __future__ import annotations

import numpy as np

from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.stages import depths, stages
from hsnn_compiler.passes.spinnaker2.chip import chip_needs, cores_of
from hsnn_compiler.reference.spinnaker2_cells import cell_of
from hsnn_compiler.report.spinnaker import span
from hsnn_compiler.report.table import Cell, Table
from hsnn_compiler.targets import Target

UNTESTED = (
    "Not yet tested against py-spinnaker2, nor on a chip. Potentials, thresholds and offsets are in units of weights;"
    " assumed: exact sums of int8 weights, float32 for the rest, a spike where V is above the threshold."
)
ESTIMATE = "An estimate: each figure and its source, hsnn-compile targets {name}."


def spinnaker2_tables(graph: Graph, target: Target) -> list[Table]:
    """Neurons, and what they take."""
    needs = chip_needs(graph, target)
    rows: list[tuple[Cell, ...]] = [
        (n.name, n.turn, n.model, n.neurons, n.synapses, n.kernel, n.clock, n.per_core, n.cores) for n in needs
    ]
    columns = (
        "population", "turn", "model", "neurons", "synapses", "bytes of kernels", "clock", "neurons per core", "cores",
    )  # fmt: skip
    limit = target["chip.user_cores"]
    totals: list[tuple[Cell, ...]] = []
    for turn in sorted({need.turn for need in needs}):
        cores = cores_of(needs, turn)
        totals.append((turn, "cores", cores, limit, 100 * cores / limit))
    note = ESTIMATE.format(name=target.name)
    return [
        neurons(graph),
        Table("Chip resources", columns, rows),
        Table(f"Against the {target.title}", ("turn", "what", "used", "limit", "%"), totals, (note,)),
    ]


def neurons(graph: Graph) -> Table:
    """The parameters of every population, as py-spinnaker2 gets them."""
    begins, number = depths(graph, stages(graph), graph.timesteps or 1), stages(graph)
    rows: list[tuple[Cell, ...]] = []
    for node in graph:
        if node.on_chip and node.is_neuron and node.schedule is not None:
            depth = node.schedule.depth - begins[number[node.name]]
            cell = cell_of(graph, node, depth)
            threshold = "never" if cell.threshold is None else f"V > {span(cell.threshold)}"
            offset = span(cell.i_offset) if np.any(cell.i_offset) else "0"
            values = span(cell.alpha), threshold, cell.reset, offset, span(cell.v_init)
            rows.append((node.name, depth, cell.model, *values))
    columns = ("population", "depth", "model", "alpha_decay", "fires", "reset", "i_offset", "V at start")
    return Table("Neurons", columns, rows, (UNTESTED,) if rows else ())
