"""Say when each population works on which sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.quant import Schedule
from hsnn_compiler.ir.timing import waits
from hsnn_compiler.passes.base import Pass, PassContext, PassResult


@dataclass(frozen=True)
class SchedulePass(Pass):
    """Give each population the steps in which it works on a sample, and match delays.

    Every synapse op adds one step, so a population at depth L (the largest number of synapse ops on a
    way to it) works on sample k in steps k T + L + 1 ... k T + L + T, and is reset as the first of
    them begins: it never sees the sample before. A connection that skips layers waits: a spike
    from depth d to depth L is delayed by L - d - 1 steps.

    A `Collect` collects for a window of T steps before the one in which it presents, which is that of its
    population: it adds T to the depth, and then adds up sample k + 1 while the population works on sample k.
    """

    name: ClassVar[str] = "schedule"
    requires: ClassVar[tuple[str, ...]] = ("quantised",)
    ensures: ClassVar[tuple[str, ...]] = ("scheduled",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        graph = graph.copy()
        steps = graph.timesteps or 1
        depth: dict[str, int] = {}
        for node in graph.topological():
            feeds = [depth[edge.src] for edge in graph.in_edges(node.name)]
            depth[node.name] = max(feeds, default=0) + (_takes(node, steps) if node.on_chip else 0)
            if node.is_population and node.on_chip:
                collects = [source.name for source in graph.predecessors(node.name) if source.kind == "Collect"]
                for name in (node.name, *collects):
                    graph.update(name, schedule=Schedule(depth[node.name], steps))
        waiting = {name: steps for name, steps in waits(graph).items() if steps}
        findings = [
            _too_long(graph[name], wait, context)
            for name, wait in waiting.items()
            if wait > context.target["formats.delay_steps"]
        ]
        depths = {node.schedule.depth for node in graph if node.schedule} or {0}
        last = max(depths)
        notes = [
            f"{len(depths)} layers of neurons: the first result after {last + steps} steps, then one every {steps}"
        ]
        if waiting:
            notes.append("delays: " + ", ".join(f"before {name} +{wait}" for name, wait in waiting.items()))
        if _resets_to_zero(graph) and steps & (steps - 1):
            findings.append(
                Finding(
                    "W0446",
                    f"{steps} steps per sample: LIFReset on the chip resets at intervals that are powers of two",
                    suggestion=f"--timesteps {1 << steps.bit_length()} for hardware; simulation is not affected",
                )
            )
        return PassResult(graph, True, tuple(notes), tuple(findings))


def _takes(node: Node, steps: int) -> int:
    """Steps that a node on the chip adds."""
    return 1 if node.is_synapse else steps if node.kind == "Collect" else 0


def _too_long(node: Node, wait: int, context: PassContext) -> Finding:
    return Finding(
        "E0447",
        f"a spike would have to wait {wait} steps",
        node=node.name,
        source=node.source,
        supported=f"{context.target['formats.delay_steps']} steps",
    )


def _resets_to_zero(graph: Graph) -> bool:
    return any(n.dynamics is not None and n.dynamics.reset == "zero" for n in graph if n.is_spiking and n.on_chip)
