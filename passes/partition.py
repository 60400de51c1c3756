"""Decide what runs on the chip and what on the host, and say why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.ops import ACTIVATIONS
from hsnn_compiler.ir.spec import runs_on
from hsnn_compiler.ir.types import Placement
from hsnn_compiler.passes.base import Pass, PassContext, PassResult, listing
from hsnn_compiler.passes.direct import LINEAR
from hsnn_compiler.passes.step_partition import CONSTANT, PINNED, constants, costs, on_host, unreadable_potentials

_CROSSINGS = ("Input", "Output", "Encode", "Decode")


@dataclass(frozen=True)
class Partition(Pass):
    """Put every node on the host or the chip.

    An op the chip cannot run goes to the host. If activations that become neurons follow it, everything before it
    goes to the host too; otherwise everything after it does: one chip segment between two host segments.
    Where the graph has time, values are on the host; of what happens in every step, the host gets what the chip cannot
    run, what feeds that with currents and what gets currents from it, neurons included (`step_partition`): host and
    chip take turns, and every turn of the host costs a window. ``--layer NAME:place=host`` pins a node.
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
        host, findings = _with_steps(graph, blockers) if timed else _values(graph, blockers, context)
        findings += _obstacles_to_pins(context, blockers)
        findings += _late_edges(graph)
        active = {n.name for n in graph if _becomes_neurons(n, timed)} - host.keys()
        if not active and not any(finding.is_error for finding in findings):
            findings.append(_nothing_for_the_chip(blockers))
        placed = graph.copy()
        for node in graph:
            placed.update(node.name, placement=_place(node, host, timed))
        return PassResult(placed, True, _notes(placed), tuple(findings))


def _values(graph: Graph, blockers: dict[str, str], context: PassContext) -> tuple[dict[str, str], list[Finding]]:
    """What of a graph without time runs on the host, each with its reason."""
    active = {n.name for n in graph if n.kind in ACTIVATIONS and n.name not in blockers}
    host: dict[str, str] = {}
    findings: list[Finding] = []
    before = {name for name in blockers if graph.descendants(name) & active}
    for name, why in blockers.items():
        host[name] = why
        others = graph.ancestors(name) if name in before else graph.descendants(name)
        for other in others:
            host.setdefault(other, f"{'before' if name in before else 'after'} {name}, which runs on the host")
        if name in before and not graph.descendants(name) & before:  # the last of a chain takes them all
            findings += _left_on_the_host(graph, graph[name], context)
    return host, findings


def _with_steps(graph: Graph, blockers: dict[str, str]) -> tuple[dict[str, str], list[Finding]]:
    """What of the time domain runs on the host, each with its reason; and what that costs."""
    same = constants(graph)
    obstacles = {name: why for name, why in blockers.items() if name not in same} | unreadable_potentials(graph)
    host = on_host(graph, obstacles)
    once = {name: CONSTANT for name in same if graph[name].kind not in ("Encode", *LINEAR)}
    return host.why | once, list(costs(graph, host, obstacles))


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


def _place(node: Node, host: dict[str, str], timed: bool) -> Placement:
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
        return Placement("chip", "the value is presented at every step")
    if node.is_synapse:
        return Placement("chip", "synapses")
    if node.kind == "Flatten":
        return Placement("chip", "wiring only")
    return Placement("chip", "linear, folded into its neighbours")


def _left_on_the_host(graph: Graph, node: Node, context: PassContext) -> list[Finding]:
    """Say so when an obstacle takes weight layers with it that could have been on the chip."""
    layers = [other for other in graph if other.is_synapse]
    taken = [layer.name for layer in layers if layer.name in graph.ancestors(node.name)]
    if not taken or context.layer(node.name, "place", "") == "host":
        return []
    way_out = "AvgPool2d runs on the chip" if node.kind == "MaxPool2d" else "ReLU runs on the chip"
    return [
        Finding(
            "W0434",
            f"{_called(node)} keeps {len(taken)} of {len(layers)} weight layers on the host: {listing(taken)}",
            node=node.name,
            source=node.source,
            suggestion=f"{way_out}; or move {node.name} to the end of the model",
        )
    ]


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
