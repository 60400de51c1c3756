"""Say when each population works on which sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.quant import Schedule
from hsnn_compiler.ir.stages import is_host, middle_stages, stages
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

    A stage of the host between two turns of the chip (`hsnn_compiler.ir.stages`) has what it reads when the windows of
    all its sources are complete, and sends what comes of it in the window that begins then: it adds T, too.

    Samples are pipelined as a rule: sample k + 1 follows sample k after T steps, so that all layers and stages have
    work. With ``samples="serial"`` it follows when the result of sample k is there: the period is the whole latency
    instead of T. What is computed is the same.
    """

    name: ClassVar[str] = "schedule"
    requires: ClassVar[tuple[str, ...]] = ("quantised",)
    ensures: ClassVar[tuple[str, ...]] = ("scheduled",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        graph = graph.copy()
        steps = graph.timesteps or 1
        depth = chip_depths(graph, steps)
        latest = max((depth[node.name] for node in graph if node.is_population and node.on_chip), default=0) + steps
        period = latest if context.samples == "serial" else steps
        for node in graph:
            if node.is_population and node.on_chip:
                collects = [source.name for source in graph.predecessors(node.name) if source.kind == "Collect"]
                for name in (node.name, *collects):
                    graph.update(name, schedule=Schedule(depth[node.name], period))
        waiting = {name: steps for name, steps in waits(graph).items() if steps}
        findings = [
            too_long(graph[name], wait, context)
            for name, wait in waiting.items()
            if wait > context.target["formats.delay_steps"]
        ]
        findings += other_stages(graph)
        layers = {node.schedule.depth for node in graph if node.schedule}
        notes = [f"{len(layers)} layers of neurons: the first result after {latest} steps, then one every {period}"]
        between = middle_stages(graph)
        if between:
            notes.append(
                f"the host between turns of the chip: {', '.join(stage.name for stage in between)}, {steps} steps each"
            )
        if waiting:
            notes.append("delays: " + ", ".join(f"before {name} +{wait}" for name, wait in waiting.items()))
        if _resets_to_zero(graph) and period & (period - 1):
            findings.append(
                Finding(
                    "W0446",
                    f"{period} steps per sample: LIFReset on the chip resets at intervals that are powers of two",
                    suggestion=f"--timesteps {1 << steps.bit_length()} for hardware; simulation is not affected",
                )
            )
        return PassResult(graph, True, tuple(notes), tuple(findings))


def chip_depths(graph: Graph, steps: int) -> dict[str, int]:
    """Steps between a sample's first and that in which it reaches a node, by node."""
    number = stages(graph)
    depth: dict[str, int] = {}
    ready = dict.fromkeys(number.values(), 0)  # by stage of the host
    for node in sorted(graph.topological(), key=lambda node: (number[node.name], not is_host(node))):
        sources = graph.predecessors(node.name)
        if is_host(node):
            read = [depth[source.name] + steps for source in sources if not is_host(source)]
            here = number[node.name]
            ready[here] = max([ready[here], *read, *(ready[n] for n in ready if n < here)])
        else:
            feeds = [ready[number[n.name]] if is_host(n) else depth[n.name] for n in sources]
            depth[node.name] = max(feeds, default=0) + _takes(node, steps)
    return depth


def other_stages(graph: Graph) -> list[Finding]:
    """Populations that would get a bias from several stages of the host: it is written once per sample."""
    number = stages(graph)
    findings = []
    for node in graph:
        given = {number[source.name] for source in graph.predecessors(node.name) if source.kind == "Encode"}
        if len(given) > 1:
            message = f"values of {len(given)} stages of the host (behind {len(given)} turns of the chip) as its bias"
            way_out = "add them up on the host, before the encoder"
            findings.append(Finding("E0475", message, node=node.name, source=node.source, suggestion=way_out))
    return findings


def _takes(node: Node, steps: int) -> int:
    """Steps that a node on the chip adds."""
    return 1 if node.is_synapse else steps if node.kind == "Collect" else 0


def too_long(node: Node, wait: int, context: PassContext) -> Finding:
    """An error (E0447) for a synapse op before which spikes wait longer than the chip can delay them."""
    return Finding(
        "E0447",
        f"a spike would have to wait {wait} steps",
        node=node.name,
        source=node.source,
        supported=f"{context.target['formats.delay_steps']} steps",
    )


def _resets_to_zero(graph: Graph) -> bool:
    return any(n.dynamics is not None and n.dynamics.reset == "zero" for n in graph if n.is_spiking and n.on_chip)
