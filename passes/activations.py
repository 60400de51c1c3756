"""Turn activations into integrate-and-fire neurons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import nir
import numpy as np

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.crossings import wrong_code
from hsnn_compiler.ir.dynamics import Dynamics
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import ACTIVATIONS, Decode, Encode, FirstSpike, NoOp
from hsnn_compiler.ir.types import Placement
from hsnn_compiler.passes.base import LOSSY, Pass, PassContext, PassResult, count, listing
from hsnn_compiler.passes.partition import DEFAULT_TIMESTEPS, neuron_reason
from hsnn_compiler.passes.trained import other_levels, trained_end, trained_timesteps
from hsnn_compiler.passes.ttfs import WHY_FIRST_SPIKE, collect_first_spikes, values_instead_of_windows

SCALE_SUFFIX = ".scale"


@dataclass(frozen=True)
class ConvertActivations(Pass):
    """Replace ReLU by integrate-and-fire neurons with soft reset, and put time into the graph.

    An IF neuron with threshold theta, reset by subtraction and v_0 = theta/2, driven for T steps by a
    mean current x, fires clip(floor(x T / theta + 1/2), 0, T) times: theta/T times that is ReLU(x),
    clipped at theta and rounded to T levels (Rueckauer 2017; Bu 2022 for theta/2). Each neuron is
    followed by its own `Scale` by theta, so that downstream weights see activations. Thresholds
    are 1 here; `calibrate-thresholds` sets them. With reset to zero, v_0 = 0.

    With up to N spikes per step, sent as one graded spike, it fires clip(floor(x T / theta + 1/2), 0, N T) times:
    clipped at N theta and rounded to N T levels.

    With the ttfs coding, `FirstSpike` neurons instead: the same clipped, rounded ReLU, told by when the one spike of
    a sample comes. What spikes reach is collected for a window (`Collect`), so each layer takes T steps.

    A `Quantised` activation ends at its trained threshold, and its neurons get theirs from that: with rate coding and
    T steps of at most N spikes, theta = threshold / N. Where T N are its levels, a constant current gives exactly its
    value, and first spikes give it in every layer; that is the default T where all quantised activations agree.
    """

    name: ClassVar[str] = "convert-activations"
    contract: ClassVar[str] = LOSSY
    requires: ClassVar[tuple[str, ...]] = ("placed",)
    ensures: ClassVar[tuple[str, ...]] = ("timed",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        if graph.timesteps is not None:
            return _already_timed(graph, context)
        if context.max_spikes > 1 and (context.reset != "subtract" or context.coding == "ttfs"):
            return PassResult(graph, findings=(_nothing_kept(context),))
        graph = graph.copy()
        converted = [node for node in graph.of_kind(*ACTIVATIONS) if node.on_chip]
        trained = trained_timesteps((node.op for node in converted), context.max_spikes)
        graph.timesteps = context.timesteps or trained or DEFAULT_TIMESTEPS
        for node in converted:
            _convert(graph, node, context)
        crossings = _insert_crossings(graph)
        if context.coding == "ttfs":
            findings = other_levels(converted, graph.timesteps)
            graph = collect_first_spikes(graph)
            became = f"{count(len(converted), 'activation')} became neurons that fire once, T = {graph.timesteps}"
            return PassResult(graph, True, (became, *crossings), findings)
        per_step = f", up to {context.max_spikes} spikes per step as one graded spike" if context.max_spikes > 1 else ""
        notes = (
            f"{count(len(converted), 'activation')} became integrate-and-fire neurons"
            f" (reset {context.reset}{per_step}), T = {graph.timesteps}",
            *crossings,
        )
        return PassResult(graph, True, notes)


def converted_neurons(graph: Graph) -> list[Node]:
    """Neurons that this pass made: those followed by their own Scale."""
    kinds = ("IF", "FirstSpike")
    return [node for node in graph.of_kind(*kinds) if node.was is not None and node.name + SCALE_SUFFIX in graph]


def channel_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a per-channel parameter that broadcasts against `shape`."""
    return (shape[0], *[1] * (len(shape) - 1))


def integrate_and_fire(threshold: np.ndarray, reset: str, max_spikes: int = 1) -> tuple[nir.IF, Dynamics]:
    """An IF neuron with this threshold (any shape, float64), unit gain, and v_0 = theta/2 where reset subtracts.

    `max_spikes` is how often it may fire in one step, which it sends as one graded spike.
    """
    op = nir.IF(r=np.ones_like(threshold), v_threshold=threshold, v_reset=np.zeros_like(threshold))
    v_init = threshold / 2 if reset == "subtract" else np.zeros_like(threshold)
    return op, Dynamics(integrator="none", reset=reset, v_init=v_init, max_spikes=max_spikes)


def analog_twin(graph: Graph) -> Graph:
    """The network before conversion, rebuilt from the converted one: what each converted neuron was.

    Its value nodes carry the same names, so activations can be compared layer by layer.
    """
    twin = graph.copy()
    twin.timesteps = None
    for node in converted_neurons(graph):
        twin.update(node.name, op=node.was, was=None, dynamics=None)
        twin.update(node.name + SCALE_SUFFIX, op=NoOp("Scale"))
    for node in graph.of_kind("Encode", "Decode"):
        twin.update(node.name, op=NoOp(node.kind))
    values_instead_of_windows(twin)
    return infer_types(twin)


def _convert(graph: Graph, node: Node, context: PassContext) -> None:
    # A clipping's upper end needs no op of its own: the neuron saturates at one spike per step (or max_spikes), and
    # calibration never puts what that stands for above the largest activation of the layer.
    end = trained_end(node.op)
    theta = np.ones(channel_shape(node.shape)) if end is None else np.broadcast_to(end, channel_shape(node.shape))
    theta = theta if end is None else theta / context.max_spikes
    op, dynamics = integrate_and_fire(theta, context.reset, context.max_spikes)
    why = neuron_reason(context.reset) + (", graded spikes" if context.max_spikes > 1 else "")
    if context.coding == "ttfs":
        graph.update(node.name, op=FirstSpike(theta), was=node.op, placement=Placement("chip", WHY_FIRST_SPIKE))
    else:
        graph.update(node.name, op=op, was=node.op, dynamics=dynamics, placement=Placement("chip", why))
    scale = Node(
        node.name + SCALE_SUFFIX,
        nir.Scale(theta),
        placement=Placement("chip", "folded into the next synapses"),
        source=node.source,
    )
    graph.insert_after(node.name, scale)


def _insert_crossings(graph: Graph) -> list[str]:
    """Put one Encode after each host node that feeds the chip, one Decode after each chip node that feeds the host."""
    notes = []
    for node in list(graph):
        across = [edge for edge in graph.out_edges(node.name) if graph[edge.dst].on_chip != node.on_chip]
        if not across:
            continue
        if node.on_chip:
            crossing = Node(
                graph.unique(f"{node.name}.decode"),
                Decode("mean"),
                source=node.source,
                placement=Placement("host", "counts what leaves the chip"),
            )
        else:
            crossing = Node(
                graph.unique(f"{node.name}.encode"),
                Encode("direct"),
                source=node.source,
                placement=Placement("chip", "the value is presented at every step"),
            )
        graph.add(crossing)
        for edge in across:
            graph.disconnect(edge)
            graph.connect(edge._replace(src=crossing.name))
        graph.connect(Edge(node.name, crossing.name))
        notes.append(f"{crossing.kind} after {node.name}")
    return notes


def _nothing_kept(context: PassContext) -> Finding:
    """Several spikes in a step need what is left above the threshold, which a reset to zero throws away."""
    instead = "neurons that fire once" if context.coding == "ttfs" else f"reset to {context.reset}"
    return Finding(
        "E0467",
        f"--max-spikes {context.max_spikes} with {instead}",
        supported="several spikes per step with rate coding and reset by subtraction; one with reset to zero",
        suggestion="--reset subtract, or leave out --max-spikes",
    )


def _already_timed(graph: Graph, context: PassContext) -> PassResult:
    """A spiking model brings its own time and its own resets; only the number of steps can change."""
    findings = []
    soft = [n.name for n in graph if n.is_spiking and n.dynamics is not None and n.dynamics.reset == "subtract"]
    if context.reset == "zero" and soft:
        findings.append(
            Finding(
                "W0448",
                f"--reset zero is for converted activations; the model's own neurons keep their reset: {listing(soft)}",
                suggestion='train with reset="zero" for neurons that are native to the chip',
            )
        )
    if context.max_spikes > 1:
        findings.append(
            Finding(
                "W0448",
                f"--max-spikes {context.max_spikes} is for converted activations; the model's own neurons fire as often"
                " as they were trained to",
                suggestion="leave out --max-spikes",
            )
        )
    if context.coding != "rate":
        findings.append(
            Finding(
                "W0448",
                f"--coding {context.coding} is for converted activations; the model's own neurons keep their code",
                suggestion="leave out --coding",
            )
        )
    trained, wanted = graph.timesteps, context.timesteps
    if wanted is None or wanted == trained:
        return PassResult(graph, findings=tuple(findings))
    findings += [
        Finding("E0471", wrong, node=node.name, source=node.source, suggestion=f"--timesteps {trained}, as trained")
        for node in graph.of_kind("Encode", "Decode")
        if (wrong := wrong_code(node.op, wanted))
    ]
    findings.append(
        Finding(
            "W0440",
            f"the model was trained with {trained} steps and is compiled for {wanted}",
            suggestion="leave out --timesteps to keep the model's own",
        )
    )
    graph = graph.copy()
    graph.timesteps = wanted
    return PassResult(graph, True, (f"T = {wanted} instead of {trained}",), tuple(findings))
