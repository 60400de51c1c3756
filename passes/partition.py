"""Decide what runs on the chip and what on the host, and say why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.ops import ACTIVATIONS
from hsnn_compiler.ir.spec import runs_on
from hsnn_compiler.ir.stages import middle_stages
from hsnn_compiler.ir.types import Placement
from hsnn_compiler.passes.base import Pass, PassContext, PassResult, listing
from hsnn_compiler.passes.direct import LINEAR
from hsnn_compiler.passes.partitioning.choosing import Chosen, choose, weightless
from hsnn_compiler.passes.partitioning.objectives import solve_for
from hsnn_compiler.passes.partitioning.profile import profile
from hsnn_compiler.passes.partitioning.work import workload
from hsnn_compiler.passes.step_partition import CONSTANT, PINNED, constants, costs, on_host, unreadable_potentials
from hsnn_compiler.passes.trained import trained_timesteps
from hsnn_compiler.report.table import Table

DEFAULT_TIMESTEPS = 16
"""Of converted networks, where neither the user nor trained levels say."""
ALONE = "neurons that would be on the chip without any weights: not worth a turn"
_CROSSINGS = ("Input", "Output", "Encode", "Decode")


@dataclass(frozen=True)
class Partition(Pass):
    """Put every node on the host or the chip, as much on the chip as it can run, or what costs least.

    Nodes have a cost on either side, crossings cost too, and the cheapest assignment is a minimum cut between host and
    chip (Stone 1977; `partitioning`). An op the chip cannot run is on the host at any price. The objective ``auto``
    is ``chip``, as much as can be on the chip: then host and chip take turns around what has to be on the host, and
    every turn of the host costs a window of T steps.
    Where the graph has time, values are on the host; of what happens in every step, the host gets what the chip cannot
    run, what feeds that with currents and what gets currents from it, neurons included (`step_partition`).
    ``--layer NAME:place=host`` (or ``chip``) pins a node.
    """

    name: ClassVar[str] = "partition"
    requires: ClassVar[tuple[str, ...]] = ("typed", "no-noops")
    ensures: ClassVar[tuple[str, ...]] = ("placed",)
    layer_options: ClassVar[tuple[str, ...]] = ("place",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        target = context.target.family
        timed = graph.timesteps is not None
        blockers = {node.name: why for node in graph if (why := _obstacle(graph, node, context, target))}
        tables: tuple[Table, ...] = ()
        late = _late_edges(graph)
        findings: list[Finding] = []
        if timed:
            host, findings = _with_steps(graph, blockers)
            if _wants_choice(context):
                chosen = self._chosen(graph, context, host, None)
            elif not late and middle_stages(_placed(graph, host)):
                chip = frozenset(node.name for node in graph if node.name not in host and not _is_value(node))
                chosen = self._chosen(graph, context, host, chip)
            else:
                chosen = Chosen(host, ())
            host, tables = chosen.host | host, chosen.tables
        elif blockers or _wants_choice(context):
            chosen = self._chosen(graph, context, blockers, None)
            host, tables = chosen.host | blockers, chosen.tables
            findings = _turns(graph, host, blockers, context)
        else:
            host = {}
        findings += _obstacles_to_pins(context, blockers)
        findings += late
        active = {n.name for n in graph if _becomes_neurons(n, timed)} - host.keys()
        if not active and not any(finding.is_error for finding in findings):
            findings.append(_nothing_for_the_chip(blockers))
        placed = _placed(graph, host)
        return PassResult(placed, True, _notes(placed), tuple(findings), tables)

    def _chosen(
        self, graph: Graph, context: PassContext, obstacles: Mapping[str, str], chip: frozenset[str] | None
    ) -> Chosen:
        """By the objective, with everything that has to be on the host there."""
        pinned = frozenset(n for n, o in context.layers.items() if o.get("place") == "chip" and n not in obstacles)
        converted = (n.op for n in graph.of_kind(*ACTIVATIONS) if n.name not in obstacles)
        trained = None if graph.timesteps else trained_timesteps(converted, context.max_spikes)
        steps = graph.timesteps or context.timesteps or trained or DEFAULT_TIMESTEPS
        known = profile(graph, context, steps)
        work = workload(graph, known, context.target, obstacles, pinned)
        if context.objective == "auto" and chip is None:
            alone = weightless(work, solve_for(work, "chip", context.max_crossings)[1].chip) - pinned
            rest = workload(graph, known, context.target, {**dict.fromkeys(alone, ALONE), **obstacles}, pinned)
            if alone and solve_for(rest, "chip", context.max_crossings)[1].chip:
                work = rest
        objective = "chip" if context.objective == "auto" else context.objective
        return choose(work, context, objective, _placed, chip)


def _wants_choice(context: PassContext) -> bool:
    """Whether the user asks for more than as much on the chip as can be."""
    return context.objective != "auto" or context.max_crossings is not None


def _is_value(node: Node) -> bool:
    return node.type is not None and not node.type.coding.per_step


def _placed(graph: Graph, host: Mapping[str, str]) -> Graph:
    """The graph with these nodes on the host, each for its reason."""
    placed = graph.copy()
    for node in graph:
        placed.update(node.name, placement=_place(node, host, graph.timesteps is not None))
    return placed


def _turns(graph: Graph, host: Mapping[str, str], blockers: Mapping[str, str], context: PassContext) -> list[Finding]:
    """Say so where an obstacle lies between two turns of the chip, or keeps layers of weights from it."""
    chip = {node.name for node in graph if node.name not in host and node.kind in ACTIVATIONS}
    findings = []
    before = {name for name in blockers if graph.descendants(name) & chip and not graph.ancestors(name) & chip}
    for name in blockers:
        if context.layer(name, "place", "") == "host":
            continue
        if graph.ancestors(name) & chip and graph.descendants(name) & chip:
            message = f"{_called(graph[name])} lies between neurons: the host takes a turn, one window of T steps more"
            findings.append(_of_obstacle(graph[name], "W0431", message))
        elif graph.descendants(name) & chip and not graph.descendants(name) & before:  # the last of a chain
            findings += _left_on_the_host(graph, graph[name], host)
    return findings


def _with_steps(graph: Graph, blockers: dict[str, str]) -> tuple[dict[str, str], list[Finding]]:
    """What of the time domain runs on the host, each with its reason; and what that costs."""
    same = constants(graph)
    obstacles = {name: why for name, why in blockers.items() if name not in same} | unreadable_potentials(graph)
    host = on_host(graph, obstacles)
    once = {name: CONSTANT for name in same if graph[name].kind not in ("Encode", *LINEAR)}
    return host | once, list(costs(graph, host, obstacles))


def neuron_reason(reset: str) -> str:
    """What to say about neurons on the chip."""
    if reset == "subtract":
        return "neurons, reset by subtraction: custom microcode on the chip"
    return "neurons, native to the chip" if reset in ("zero", "none") else f"neurons, reset {reset}"


def _becomes_neurons(node: Node, timed: bool) -> bool:
    return node.is_neuron or (node.kind in ACTIVATIONS and not timed)


def _obstacle(graph: Graph, node: Node, context: PassContext, target: str) -> str:
    """Why a node cannot be on the chip, or an empty string."""
    if node.kind in _CROSSINGS:
        return ""
    if context.layer(node.name, "place", "") == "host":
        return PINNED
    value = node.type is not None and not node.type.coding.per_step
    if graph.timesteps is not None and value:
        return ""  # outside the time domain: on the host anyway
    how = runs_on(node.kind, target)
    if node.kind == "HostCall":
        return f"{node.op.function} has no spiking form"
    if how == "host" or node.kind in ("BatchNorm", "MaxPool2d"):  # passes before this one left them
        return f"{node.kind} does not run on {target}"
    if node.kind in ACTIVATIONS and not value:
        return f"{node.kind} inside the time loop is not a neuron"
    if node.kind == "Clip" and node.op.low != 0:
        return "a clipping that lets negative values through does not become a spike rate"
    if node.kind in ("Affine", "Linear") and len(node.shape) != 1:
        return f"a linear layer on the last of {len(node.shape)} axes is not a layer of synapses"
    return ""


def _place(node: Node, host: Mapping[str, str], timed: bool) -> Placement:
    if node.kind in ("Input", "Output", "Decode"):
        return Placement("host", "the network's ends are on the host")
    if node.name in host:
        return Placement("host", host[node.name])
    value = node.type is not None and not node.type.coding.per_step
    if timed and value and node.kind != "Encode":
        return Placement("host", "runs once per sample, outside the time loop")
    if node.dynamics is not None:
        return Placement("chip", neuron_reason(node.dynamics.reset))
    if node.kind in ACTIVATIONS:
        return Placement("chip", "an activation that becomes integrate-and-fire neurons")
    if node.kind == "Encode":
        sends = node.is_event_source
        return Placement("chip", "the host sends its spikes" if sends else "the value is presented at every step")
    if node.is_synapse:
        return Placement("chip", "synapses")
    if node.kind == "Flatten":
        return Placement("chip", "wiring only")
    return Placement("chip", "linear, folded into its neighbours")


def _left_on_the_host(graph: Graph, node: Node, host: Mapping[str, str]) -> list[Finding]:
    """Say so when an obstacle keeps weight layers before it on the host."""
    layers = [other for other in graph if other.is_synapse]
    taken = [layer.name for layer in layers if layer.name in graph.ancestors(node.name) and layer.name in host]
    if not taken:
        return []
    message = f"{_called(node)} keeps {len(taken)} of {len(layers)} weight layers on the host: {listing(taken)}"
    return [_of_obstacle(node, "W0434", message)]


def _of_obstacle(node: Node, code: str, message: str) -> Finding:
    way_out = f"move {node.name} to the end of the model; or --max-crossings 2 for one turn of the chip"
    suggestion = f"AvgPool2d runs on the chip; or {way_out}" if node.kind == "MaxPool2d" else way_out
    return Finding(code, message, node=node.name, source=node.source, suggestion=suggestion)


def _called(node: Node) -> str:
    return str(node.op.function) if node.kind == "HostCall" else node.kind


def _nothing_for_the_chip(blockers: dict[str, str]) -> Finding:
    because = f"; on the host: {listing(f'{n} ({why})' for n, why in blockers.items())}" if blockers else ""
    return Finding(
        "E0430",
        f"no neurons, and no activations that could become neurons, are left for the chip{because}",
        supported="ReLU, ReLU6, QCFS, IF and LIF neurons between convolutions and linear layers",
        suggestion="use ReLU activations, and keep ops the chip cannot run at the start or the end of the model",
    )


def _obstacles_to_pins(context: PassContext, blockers: dict[str, str]) -> list[Finding]:
    return [
        Finding("E0432", f"pinned to the chip, but {blockers[name]}", node=name)
        for name, options in context.layers.items()
        if options.get("place") == "chip" and name in blockers
    ]


def _late_edges(graph: Graph) -> list[Finding]:
    """Spikes of one step that act in a later one: they would reach into the next sample, which follows at once."""
    return [
        Finding(
            "E0438",
            f"what {edge.src} puts out in one step acts on {edge.dst} in a later one",
            node=edge.dst,
            source=graph[edge.dst].source,
            supported="feed-forward connections; recurrent ones in graphs: hsnn-compile simulate",
        )
        for edge in graph.edges
        if edge.delay
    ]


def _notes(graph: Graph) -> tuple[str, ...]:
    chip = [node.name for node in graph if node.on_chip]
    host = [n for n in graph if not n.on_chip and n.kind not in _CROSSINGS]
    notes = [f"chip: {listing(chip)}"]
    notes += [f"host: {node.name} - {node.placement.why}" for node in host if node.placement]
    return tuple(notes)
