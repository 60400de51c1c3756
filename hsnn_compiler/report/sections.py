"""The tables that describe a compiled program: placement, passes, quantisation, resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.quant import CurrentQuant, NeuronQuant, WeightQuant
from hsnn_compiler.passes.place import totals, usages
from hsnn_compiler.report.table import Cell, Table
from hsnn_compiler.targets import Target, load_target

if TYPE_CHECKING:
    from hsnn_compiler.program import Program

SOFT_RESET = (
    "Reset by subtraction is not native to Loihi 2: its stock neuron resets to zero. On the chip these populations"
    " need custom neuron microcode."
)
RESET_ZERO = "--reset zero compiles converted activations to native neurons, at a cost in accuracy."
CAPACITY = "Cores are an estimate from public figures; each figure and its source: hsnn-compile targets loihi2."


def sections(program: Program) -> list[Table]:
    """All tables of a program."""
    target = load_target(program.target)
    return [
        placement(program.graph),
        passes(program),
        quantised_weights(program.graph, program.floating),
        quantised_neurons(program.graph),
        resources(program.graph, target),
        limits(program.graph, target),
    ]


def placement(graph: Graph) -> Table:
    """Where every node runs, and why."""
    rows: list[tuple[Cell, ...]] = [
        (
            node.name,
            node.kind,
            "x".join(map(str, node.shape)) if node.type else "",
            node.type.coding.value if node.type else "",
            node.placement.where if node.placement else "",
            node.placement.why if node.placement else "",
        )
        for node in graph
        if node.kind not in ("Input", "Output")
    ]
    soft = {n.kind for n in graph if n.on_chip and n.dynamics is not None and n.dynamics.reset == "subtract"}
    notes = ((SOFT_RESET,) if soft else ()) + ((RESET_ZERO,) if "IF" in soft else ())
    return Table("Host and chip", ("node", "op", "shape", "carries", "where", "why"), rows, notes)


def passes(program: Program) -> Table:
    """What each pass did."""
    rows: list[tuple[Cell, ...]] = [
        (stage.name, stage.contract if stage.modified else "", "; ".join(stage.notes) or "nothing to do")
        for stage in program.stages
    ]
    return Table("Passes", ("pass", "contract", "what it did"), rows)


def quantised_weights(graph: Graph, floating: Graph) -> Table:
    """Weights as integers, per synapse op."""
    rows: list[tuple[Cell, ...]] = []
    for node in graph:
        quant = node.quant
        if not isinstance(quant, WeightQuant):
            continue
        error = _relative_error(node, floating[node.name]) if node.name in floating else None
        rows.append(
            (
                node.name,
                quant.bits,
                quant.sign_mode,
                int(quant.integers.min()),
                int(quant.integers.max()),
                quant.exponent,
                quant.scale,
                error,
                quant.clipped,
            )
        )
    columns = (
        "synapses",
        "bits",
        "sign mode",
        "min",
        "max",
        "exponent",
        "units per 1.0",
        "error (rms, %)",
        "clipped",
    )
    return Table("Quantised weights", columns, rows)


def quantised_neurons(graph: Graph) -> Table:
    """Neuron parameters as integers, per population."""
    rows: list[tuple[Cell, ...]] = []
    for node in graph:
        quant = node.quant
        if not isinstance(quant, NeuronQuant):
            continue
        current = any(isinstance(source.quant, CurrentQuant) for source in graph.predecessors(node.name))
        reset = node.dynamics.reset if node.dynamics is not None and node.is_spiking else "none: integrates"
        rows.append(
            (
                node.name,
                reset,
                quant.du,
                quant.dv,
                quant.vth,
                quant.v_init,
                quant.bias_exp,
                "input current" if current else "constant",
            )
        )
    columns = ("population", "reset", "du", "dv", "vth", "v at start", "bias exponent", "bias")
    return Table("Quantised neurons", columns, rows)


def resources(graph: Graph, target: Target) -> Table:
    """What each population and its synapses take."""
    rows: list[tuple[Cell, ...]] = [
        (u.name, u.neurons, u.synapses, u.weight_bits, 100 * u.share, u.bound_by, u.cores)
        for u in usages(graph, target)
    ]
    return Table(
        "Chip resources",
        ("population", "neurons", "synapses", "weight bits", "% of one core", "filled by", "cores"),
        rows,
    )


def limits(graph: Graph, target: Target) -> Table:
    """The whole network against one chip."""
    rows: list[tuple[Cell, ...]] = [
        (what, used, limit, 100 * used / limit) for what, used, limit in totals(usages(graph, target), target)
    ]
    return Table(f"Against one {target.title} chip", ("what", "used", "limit", "%"), rows, (CAPACITY,))


def _relative_error(node: Node, original: Node) -> float:
    """Root mean square of the weight error, in percent of that of the weights."""
    before = np.asarray(original.op.weight, np.float64)
    size = float(np.sqrt((before**2).mean()))
    error = float(np.sqrt(((np.asarray(node.op.weight) - before) ** 2).mean()))
    return 100 * error / size if size else 0.0
