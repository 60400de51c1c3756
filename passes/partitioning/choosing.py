"""Which nodes run on the chip: the solver's answer, its reasons, and what else could have been, measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import networkx as nx
import numpy as np

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.partitioning.alternatives import alternatives, comparison
from hsnn_compiler.passes.partitioning.costs import Prices
from hsnn_compiler.passes.partitioning.explain import placement_table, reasons, traffic_table
from hsnn_compiler.passes.partitioning.objectives import solve_for
from hsnn_compiler.passes.partitioning.work import Workload
from hsnn_compiler.registry import PIPELINES
from hsnn_compiler.report.table import Table

QUICK = "convert-activations,calibrate-thresholds{method=mse,correct=none}"
"""What an alternative of a network without time is measured after: thresholds that take no time to find."""
FIRST, LAST = "convert-activations", "quantise"
"""Of the default pipeline, what an alternative of a network with time steps is measured after: what it loses, it loses
in what the chip makes of codes and of weights."""
SAMPLES = 256
HELD_OUT = 4
"""One of so many samples is measured on, the others calibrate."""

Place = Callable[[Graph, Mapping[str, str]], Graph]
"""Places a graph, given why some nodes are on the host."""


@dataclass(frozen=True)
class Chosen:
    """What was chosen.

    Attributes:
        host: nodes on the host, each with its reason.
        tables: why, what crosses, and the alternatives.
    """

    host: dict[str, str]
    tables: tuple[Table, ...]


def choose(
    work: Workload, context: PassContext, objective: str, place: Place, chip: frozenset[str] | None = None
) -> Chosen:
    """Choose by an objective, and say why.

    Args:
        work: the workload.
        context: calibration data, and the limit of crossings.
        objective: one of `costs.OBJECTIVES`.
        place: makes a placed graph of an alternative, to be measured.
        chip: nodes on the chip, where that is known; by default the solver finds them.
    """
    if chip is None:
        chip = solve_for(work, objective, context.max_crossings)[1].chip
    chip = frozenset(name for name in chip if not work.works[name].only_host)
    prices = Prices(work)
    why = reasons(prices, objective, chip)
    measure = _Measure(work, context, place)
    rows = alternatives(work, context.max_crossings, measure)
    table = comparison(rows, work, chip)
    tables = (
        placement_table(prices, objective, chip, context.max_crossings),
        traffic_table(prices, chip),
        replace(table, notes=(*table.notes, measure.note)),
    )
    return Chosen({name: why[name] for name in work.works if name not in chip}, tables)


def weightless(work: Workload, chip: frozenset[str]) -> set[str]:
    """Nodes on the chip that hang together with no layer of weights there: they would cross for next to no work."""
    parts = nx.connected_components(nx.Graph(work.graph.nx.subgraph(chip)))
    return {name for part in parts if not any(work.graph[name].is_synapse for name in part) for name in part}


class _Measure:
    """Agreement of an alternative with the network itself, on samples held out from calibration.

    Args:
        work: the workload.
        context: of the compilation.
        place: see `Place`.

    Attributes:
        note: what is measured, in words.
    """

    def __init__(self, work: Workload, context: PassContext, place: Place) -> None:
        assert context.calibration is not None
        x = context.calibration[:SAMPLES]
        held = np.arange(len(x)) % HELD_OUT == HELD_OUT - 1
        self.graph, self.place = work.graph, place
        self.timed = work.graph.timesteps is not None
        self.held = x[held] if held.any() else x
        self.context = replace(context, calibration=x[~held], timesteps=work.profile.timesteps)
        self.own = _predictions(_run(work.graph, self.held))
        how = (
            "on the integers of the chip"
            if self.timed
            else "before quantisation, thresholds by least squares; calibration may choose better ones"
        )
        self.note = (
            f"Accuracy: agreement with the network's own predictions on {len(self.held)} samples held out, {how}."
        )

    def __call__(self, chip: frozenset[str]) -> float:
        """0 to 1; nothing on the chip is the network itself."""
        from hsnn_compiler.passes.pipeline import parse_pipeline, run_pipeline

        placed = self.place(self.graph, {node.name: "" for node in self.graph if node.name not in chip})
        if not any(node.on_chip for node in placed):
            return 1.0
        family = self.context.target.family
        passes = parse_pipeline(_to_the_chip(family) if self.timed else QUICK)
        try:
            graph = [stage.result.graph for stage in run_pipeline(placed, passes, self.context)][-1]
            found = _predictions(_run(graph, self.held, integers=self.timed and LAST in PIPELINES[family]))
        except HsnnError:
            return float("nan")  # said when it is compiled
        return float(np.mean(found == self.own))


def _to_the_chip(family: str) -> str:
    names = PIPELINES[family]
    last = LAST if LAST in names else names[-1]
    return ",".join(names[names.index(FIRST) : names.index(last) + 1])


def _run(graph: Graph, x: np.ndarray, integers: bool = False) -> Mapping[str, np.ndarray]:
    """Outputs [samples, ...] by name, in floating point or in the integers of the chip."""
    from hsnn_compiler.reference.float_executor import FloatExecutor
    from hsnn_compiler.reference.loihi_executor import LoihiExecutor

    return (LoihiExecutor(graph) if integers else FloatExecutor(graph)).run(x).outputs


def _predictions(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Classes [samples] of the first output; of one that is no vector, the place of its largest element."""
    first = next(iter(outputs.values()))
    return first.reshape(len(first), -1).argmax(1)
