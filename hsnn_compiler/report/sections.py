"""The tables that describe a compiled program: placement, passes, quantisation, resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hsnn_compiler import families
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.payloads import fires_once
from hsnn_compiler.ir.quant import CollectQuant, CurrentQuant, FirstSpikeQuant, NeuronQuant, WeightQuant
from hsnn_compiler.passes.chips import Layout
from hsnn_compiler.passes.place import fit
from hsnn_compiler.passes.usage import Usage, totals, usages
from hsnn_compiler.report.spinnaker import spinnaker_tables
from hsnn_compiler.report.spinnaker2 import spinnaker2_tables
from hsnn_compiler.report.sweep_table import choice_table
from hsnn_compiler.report.table import Cell, Table
from hsnn_compiler.targets import Target, load_target

if TYPE_CHECKING:
    from hsnn_compiler.program import Program

SOFT_RESET = (
    "Reset by subtraction is not native to Loihi 2: its stock neuron resets to zero. On the chip these populations"
    " need custom neuron microcode."
)
GRADED = "Several spikes of one step go as one graded spike, whose payload is their number: custom microcode as well."
OWN_DECAYS = (
    "Populations with ranges of du or dv are custom-parameter populations: decays per neuron are native to Loihi 2, but"
    " Lava's LIF process takes one for all, so these are processes of this compiler's own."
)
RESET_ZERO = "--reset zero compiles converted activations to native neurons, at a cost in accuracy."
WINDOWS = (
    "What is collected during one window of T steps is presented in the next, while the next sample is collected. On"
    " the chip this is custom neuron microcode, as are neurons that fire once."
)
CAPACITY = "Cores are an estimate from public figures; each figure and its source: hsnn-compile targets {name}."
CROSSINGS = (
    "An estimate: neurons of a connection's source, each once for every other chip on which it reaches the target."
    " What the host sends is not counted, and no public figure limits it."
)


def sections(program: Program) -> list[Table]:
    """All tables of a program."""
    target = load_target(program.target)
    if program.family == families.SPINNAKER:
        return [
            *([] if program.choice is None else [choice_table(program.choice, target)]),
            placement(program.graph),
            passes(program),
            *(table for stage in program.stages for table in stage.tables),
            *spinnaker_tables(program.graph, target),
            *families.mapping_tables(program.mapping, program.target),
        ]
    if program.family == families.SPINNAKER2:
        return [
            *([] if program.choice is None else [choice_table(program.choice, target)]),
            placement(program.graph, microcode=False),
            passes(program),
            *(table for stage in program.stages for table in stage.tables),
            *spinnaker2_tables(program.graph, target),
        ]
    used = usages(program.graph, target)
    layout = fit(program.graph, used, target)[0] if target.chips > 1 else None
    return [
        *([] if program.choice is None else [choice_table(program.choice, target)]),
        placement(program.graph),
        passes(program),
        *(table for stage in program.stages for table in stage.tables),
        quantised_weights(program.graph, program.floating),
        quantised_neurons(program.graph),
        quantised_windows(program.graph),
        resources(used),
        limits(used, target),
        chips(layout, target),
        crossings(layout),
    ]


def placement(graph: Graph, microcode: bool = True) -> Table:
    """Where every node runs, and why; `microcode`: whether resets by subtraction need some of one's own."""
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
    notes = ((SOFT_RESET,) if soft else ()) + ((RESET_ZERO,) if "IF" in soft else ()) if microcode else ()
    notes += (GRADED,) if any(n.on_chip and n.is_spiking and not fires_once(n) for n in graph) else ()
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
        if node.is_spiking and node.dynamics is not None and node.dynamics.max_spikes != 1:
            reset += f", up to {node.dynamics.max_spikes} spikes per step"
        rows.append(
            (
                node.name,
                reset,
                _range(quant.du),
                _range(quant.dv),
                quant.vth,
                _range(quant.v_init),
                quant.bias_exp,
                "input current" if current else "constant",
            )
        )
    columns = ("population", "reset", "du", "dv", "vth", "v at start", "bias exponent", "bias")
    own = any(isinstance(node.quant, NeuronQuant) and node.quant.has_own_decays for node in graph)
    return Table("Quantised neurons", columns, rows, (OWN_DECAYS,) if own else ())


def _range(value: int | np.ndarray) -> Cell:
    return f"{value.min()}..{value.max()}" if isinstance(value, np.ndarray) else value


def quantised_windows(graph: Graph) -> Table:
    """What adds up over a window of steps, and neurons that fire once in one."""
    rows: list[tuple[Cell, ...]] = []
    for node in graph:
        if isinstance(node.quant, CollectQuant):
            rows.append((node.name, f"collects {node.op.code}", 2.0**-node.quant.shift, None))
        elif isinstance(node.quant, FirstSpikeQuant):
            rows.append((node.name, "fires once", None, node.quant.ramp))
    columns = ("node", "what", "units of v per synaptic unit and step value", "threshold / T (units of v)")
    return Table("Windows", columns, rows, (WINDOWS,) if rows else ())


def resources(used: list[Usage]) -> Table:
    """What each population and its synapses take."""
    rows: list[tuple[Cell, ...]] = [
        (u.name, u.neurons, u.synapses, u.weight_bits, 100 * u.share, u.bound_by, u.cores) for u in used
    ]
    return Table(
        "Chip resources",
        ("population", "neurons", "synapses", "weight bits", "% of one core", "filled by", "cores"),
        rows,
    )


def limits(used: list[Usage], target: Target) -> Table:
    """The whole network against the chip, or all chips of the board."""
    rows: list[tuple[Cell, ...]] = [(what, n, limit, 100 * n / limit) for what, n, limit in totals(used, target)]
    columns = ("what", "used", "limit", "%")
    whole = f"one {target.title} chip" if target.chips == 1 else target.title
    return Table(f"Against {whole}", columns, rows, (CAPACITY.format(name=target.name),))


def chips(layout: Layout | None, target: Target) -> Table:
    """What is on each chip of a board; empty for a single chip."""
    rows: list[tuple[Cell, ...]] = [
        (
            number,
            sum(part.cores for part in parts),
            sum(part.neurons for part in parts),
            sum(part.synapses for part in parts),
            sum(part.axons for part in parts),
            ", ".join(map(str, parts)),
        )
        for number, parts in enumerate(layout.chips if layout else ())
    ]
    columns = ("chip", "cores", "neurons", "synapses", "input axons", "populations")
    return Table("Chips", columns, rows, (f"{len(rows):,} of {target.chips:,} chips are used.",) if rows else ())


def crossings(layout: Layout | None) -> Table:
    """Connections that lead from chip to chip."""
    rows: list[tuple[Cell, ...]] = [
        (crossing.source, crossing.target, crossing.axons) for crossing in (layout.crossings if layout else ())
    ]
    return Table("Between chips", ("from", "to", "axons"), rows, (CROSSINGS,) if rows else ())


def _relative_error(node: Node, original: Node) -> float:
    """Root mean square of the weight error, in percent of that of the weights."""
    before = np.asarray(original.op.weight, np.float64)
    size = float(np.sqrt((before**2).mean()))
    error = float(np.sqrt(((np.asarray(node.op.weight) - before) ** 2).mean()))
    return 100 * error / size if size else 0.0
