"""Stages of a program: host and chip take turns, and each turn of the host is one graph of its own.

Stage 0 of the host sees the inputs alone. What a chip population does with it belongs to stage 0 of the chip, what
the host does with that to stage 1 of the host, and so on: the stage of a node is the largest number of times that a
way to it comes from the chip to the host. A stage of the host runs once per sample, when the window of T steps of
everything that it reads is complete; what it sends to the chip fills the next window.
"""

from __future__ import annotations

from dataclasses import dataclass

import nir
import numpy as np

from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.types import Coding, TensorType


@dataclass(frozen=True)
class Read:
    """What a stage of the host needs from elsewhere.

    Attributes:
        name: of the node that puts it out.
        kind: ``spikes``, all of a window, [time, ...]; ``potential``, that of neurons that never fire, as the window
            ends; ``value`` of a stage before, or of an input; ``series``, such values for every step.
    """

    name: str
    kind: str


@dataclass(frozen=True)
class HostStage:
    """The nodes of the host between two turns of the chip.

    Attributes:
        number: of the stage.
        nodes: names in topological order, without inputs and outputs.
        reads: what it gets, each once.
        gives: names of those of its nodes that the chip, a later stage or an output needs.
        feeds_chip: whether the chip needs anything of it.
    """

    number: int
    nodes: tuple[str, ...]
    reads: tuple[Read, ...]
    gives: tuple[str, ...]
    feeds_chip: bool

    @property
    def name(self) -> str:
        """Name of the stage."""
        return f"host{self.number}"


def is_host(node: Node) -> bool:
    """Whether the host runs a node: also an `Encode` that sends spikes to the chip."""
    return not node.on_chip or node.is_event_source


def stages(graph: Graph) -> dict[str, int]:
    """Stage of every node, see above; `graph` is placed, and has no loops."""
    found: dict[str, int] = {}
    for node in graph.topological():
        here = is_host(node)
        ways = [found[n.name] + (here and not is_host(n)) for n in graph.predecessors(node.name)]
        found[node.name] = max(ways, default=0)
    return found


def host_stages(graph: Graph) -> list[HostStage]:
    """All stages of the host that hold nodes, in order."""
    stage = stages(graph)
    ordered = [node for node in graph.topological() if is_host(node) and node.kind not in ("Input", "Output")]
    return [
        _host_stage(graph, stage, number, tuple(node.name for node in ordered if stage[node.name] == number))
        for number in sorted({stage[node.name] for node in ordered})
    ]


def middle_stages(graph: Graph) -> list[HostStage]:
    """The stages behind the chip that feed it again."""
    return [found for found in host_stages(graph) if found.number and found.feeds_chip]


def senders(graph: Graph) -> list[Node]:
    """Nodes of the host, and inputs, that send the chip something in every step."""
    return [
        node
        for node in graph.topological()
        if is_host(node)
        and node.type is not None
        and node.type.coding.per_step
        and any(not is_host(other) for other in graph.successors(node.name))
    ]


def is_potential(node: Node) -> bool:
    """Whether what the host reads of a population is its potential at the end: it never fires."""
    return node.is_neuron and not node.is_spiking


def stage_graph(graph: Graph, stage: HostStage) -> Graph:
    """A stage of the host as a graph of its own, on real numbers.

    Its inputs are named as the nodes that it reads, its outputs as those that it gives, with ``.out`` behind. A
    ``Decode(last)`` of potentials is a `Scale` here, as these are given for the last step alone.
    """
    part = Graph(f"{graph.name}.{stage.name}", graph.timesteps)
    potentials = {read.name for read in stage.reads if read.kind == "potential"}
    for read in stage.reads:
        node = graph[read.name]
        coding = Coding.VALUE if read.kind == "potential" or node.type is None else node.type.coding
        part.add(Node(read.name, nir.Input(np.array(node.shape)), TensorType(node.shape, coding)))
    for name in stage.nodes:
        node = graph[name].with_(quant=None, schedule=None)
        if node.kind == "Decode" and {edge.src for edge in graph.in_edges(name)} <= potentials:
            node = node.with_(op=nir.Scale(np.full((1,) * len(node.shape), node.op.gain)))
        part.add(node)
    inside = set(stage.nodes)
    for name in stage.nodes:
        for edge in graph.in_edges(name):
            part.connect(edge)
    for name in stage.gives:
        kind = graph[name].type
        end = part.add(Node(f"{name}.out", nir.Output(np.array(graph[name].shape)), kind))
        part.connect(Edge(name, end.name))
    assert all(edge.src in inside or edge.src in {read.name for read in stage.reads} for edge in part.edges)
    return infer_types(part)


def depths(graph: Graph, stage: dict[str, int], period: int) -> dict[int, int]:
    """Steps after which each stage of the host has what it reads: those of its slowest source, and T of the window.

    Args:
        graph: scheduled, as far as the populations that the stages read are concerned.
        stage: as `stages` finds them.
        period: T.
    """
    found: dict[int, int] = {0: 0}
    for number in range(1, max(stage.values(), default=0) + 1):
        read = [
            source.schedule.depth + period
            for node in graph
            if stage[node.name] == number and is_host(node)
            for source in graph.predecessors(node.name)
            if not is_host(source) and source.schedule is not None
        ]
        found[number] = max([found[number - 1], *read])
    return found


def _host_stage(graph: Graph, stage: dict[str, int], number: int, nodes: tuple[str, ...]) -> HostStage:
    inside = set(nodes)
    reads: dict[str, Read] = {}
    for name in nodes:
        for source in graph.predecessors(name):
            if source.name not in inside:
                reads.setdefault(source.name, Read(source.name, _kind(source)))
    outside = [(name, node) for name in nodes for node in graph.successors(name) if node.name not in inside]
    gives = tuple(dict.fromkeys(name for name, _ in outside))
    return HostStage(
        number, nodes, tuple(reads.values()), gives, any(_leads_to_chip(graph, node) for _, node in outside)
    )


def _kind(node: Node) -> str:
    if is_potential(node):
        return "potential"
    coding = Coding.VALUE if node.type is None else node.type.coding
    return "spikes" if coding in (Coding.SPIKES, Coding.GRADED) else "series" if coding.per_step else "value"


def _leads_to_chip(graph: Graph, node: Node) -> bool:
    """Whether the chip needs a node: it is there, or leads there by way of later stages of the host."""
    return node.on_chip or any(other.on_chip for name in graph.descendants(node.name) for other in [graph[name]])
