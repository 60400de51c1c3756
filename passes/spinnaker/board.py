"""Count what the network needs on a board, turn by turn, before sPyNNaker maps it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.stages import is_host, stages
from hsnn_compiler.passes.base import BOUNDED, Pass, PassContext, PassResult
from hsnn_compiler.passes.usage import connections
from hsnn_compiler.targets import Target

WAY_OUT = "fewer channels, more pooling, or pin layers to the host: --layer NAME:place=host"
SYNAPSE_BYTES = 4


@dataclass(frozen=True)
class Need:
    """What one population, or one source of spikes, and the synapses into it take.

    Attributes:
        name: of the node.
        turn: of the chip.
        kind: ``neurons`` or ``spikes from the host``.
        neurons: how many.
        synapses: that end there, each once: convolutions are expanded.
        cores: at least so many; populations do not share one.
    """

    name: str
    turn: int
    kind: str
    neurons: int
    synapses: int
    cores: int

    @property
    def memory(self) -> int:
        """Bytes of SDRAM for the synapses, without the heads of rows and tables."""
        return SYNAPSE_BYTES * self.synapses


@dataclass(frozen=True)
class FitBoard(Pass):
    """Estimate cores and memory against the board, turn by turn.

    An estimate from below: neurons per core decide, and 4 bytes per synapse; sPyNNaker also needs cores for delays and
    for gathering what is recorded. What it really does with the network: ``--map``.
    """

    name: ClassVar[str] = "fit-board"
    contract: ClassVar[str] = BOUNDED
    requires: ClassVar[tuple[str, ...]] = ("scheduled",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        needed = needs(graph, context.target)
        board = limits(context.target)
        findings, notes = [], []
        for turn, cores, memory in totals(needed):
            over = [
                f"{n:,} {what}, the board has {limit:,}"
                for n, what, limit in ((cores, "cores", board[0]), (memory, "bytes for synapses", board[1]))
                if n > limit
            ]
            findings += [Finding("E0501", text, supported=context.target.title, suggestion=WAY_OUT) for text in over]
            which = "" if len(totals(needed)) == 1 else f"turn {turn}: "
            notes.append(f"{which}about {cores:,} of {board[0]:,} cores, {memory:,} bytes of synapses")
        return PassResult(graph, False, tuple(notes), tuple(findings))


def needs(graph: Graph, target: Target) -> list[Need]:
    """What everything on the chip takes, in the order of the graph."""
    number = stages(graph)
    found, seen = [], set()
    for node in graph.topological():
        if not (node.is_population and node.on_chip):
            continue
        turn = number[node.name]
        feeds = [source for source in graph.predecessors(node.name) if source.is_synapse]
        for source in (sender(graph, feed) for feed in feeds):
            if is_host(source) and (source.name, turn) not in seen:
                seen.add((source.name, turn))
                found.append(_need(source, turn, "spikes from the host", 0, target))
        found.append(_need(node, turn, "neurons", sum(connections(graph, feed) for feed in feeds), target))
    return found


def limits(target: Target) -> tuple[int, int]:
    """Cores for neurons, and bytes of SDRAM, of all chips."""
    return target.chips * target["chip.neuron_cores"], target.chips * target["chip.sdram_bytes"]


def totals(needed: Sequence[Need]) -> list[tuple[int, int, int]]:
    """(turn, cores, bytes) of each turn: it has the board for itself."""
    turns = sorted({need.turn for need in needed})
    return [
        (turn, sum(n.cores for n in needed if n.turn == turn), sum(n.memory for n in needed if n.turn == turn))
        for turn in turns
    ]


def _need(node: Node, turn: int, kind: str, synapses: int, target: Target) -> Need:
    assert node.type is not None
    cores = math.ceil(node.type.size / target["core.neurons"])
    return Need(node.name, turn, kind, node.type.size, synapses, cores)


def sender(graph: Graph, synapse: Node) -> Node:
    """What a synapse op gets its spikes from, perhaps behind a Flatten."""
    source = graph.predecessors(synapse.name)[0]
    while source.on_chip and source.kind == "Flatten":
        source = graph.predecessors(source.name)[0]
    return source
