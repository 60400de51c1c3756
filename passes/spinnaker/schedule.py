"""Say in which steps of a run each population works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.quant import Schedule
from hsnn_compiler.ir.stages import depths, stages
from hsnn_compiler.ir.timing import waits
from hsnn_compiler.passes.base import Pass, PassContext, PassResult, count
from hsnn_compiler.passes.direct import is_direct
from hsnn_compiler.passes.schedule import chip_depths, other_stages, too_long


@dataclass(frozen=True)
class ScheduleTurns(Pass):
    """Give each population its T steps in a run of the machine, and match delays.

    Every synapse takes a step, so a population at depth L (the largest number of synapse ops on a way to it) works in
    steps L + 1 ... L + T, and a connection from depth d has a delay of L - d. A sample is one run per turn of the chip,
    from potentials at their start: nothing is pipelined, and nothing of a sample is left for the next. A stage of
    the host between two turns has what it reads when the run is over; depths count on through all turns.
    """

    name: ClassVar[str] = "schedule-turns"
    requires: ClassVar[tuple[str, ...]] = ("neurons-and-synapses", "single-source")
    ensures: ClassVar[tuple[str, ...]] = ("scheduled",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        graph = graph.copy()
        steps = graph.timesteps or 1
        depth = chip_depths(graph, steps)
        populations = [node for node in graph if node.is_population and node.on_chip]
        latest = max((depth[node.name] for node in populations), default=0) + steps
        for node in populations:
            graph.update(node.name, schedule=Schedule(depth[node.name], latest))
        number = stages(graph)
        begins = depths(graph, number, steps)
        waiting = {name: wait for name, wait in waits(graph).items() if wait}
        longest = context.target["formats.delay_steps"] - 1  # the synapse's own step is part of its delay
        findings = [too_long(graph[name], wait, context) for name, wait in waiting.items() if wait > longest]
        findings += other_stages(graph)
        findings += [
            _late_value(node)
            for node in populations
            if depth[node.name] > begins[number[node.name]] and any(map(is_direct, graph.predecessors(node.name)))
        ]
        turns = len({number[node.name] for node in populations})
        layers = len({depth[node.name] for node in populations})
        notes = [f"{layers} layers of neurons in {count(turns, 'turn')} of the chip: a result after {latest} steps"]
        if waiting:
            notes.append("delays: " + ", ".join(f"before {name} +{wait}" for name, wait in waiting.items()))
        return PassResult(graph, True, tuple(notes), tuple(findings))


def _late_value(node: Node) -> Finding:
    return Finding(
        "E0513",
        "an analog input and spikes reach the same neurons: a current would act before the first spike is there",
        node=node.name,
        source=node.source,
        supported="analog inputs of neurons that get no spikes",
        suggestion="--encode host, or events: --encode bitplane, rate or delta",
    )
