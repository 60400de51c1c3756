"""Count what the network needs on a SpiNNaker 2 chip, turn by turn; an estimate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.stages import depths, is_host, stages
from hsnn_compiler.passes.base import BOUNDED, Pass, PassContext, PassResult
from hsnn_compiler.passes.spinnaker.board import sender as sender_of
from hsnn_compiler.passes.usage import connections
from hsnn_compiler.reference.spinnaker2_cells import CONVOLUTION, LIST, cell_of, synapses
from hsnn_compiler.reference.spinnaker2_memory import neurons_per_core
from hsnn_compiler.targets import Target

WAY_OUT = "fewer channels, more pooling, or pin layers to the host: --layer NAME:place=host"


@dataclass(frozen=True)
class ChipNeed:
    """What one population, or one source of spikes, and the synapses into it take.

    Attributes:
        name: of the node.
        turn: of the chip.
        model: of py-spinnaker2.
        neurons: how many.
        synapses: in lists, that end there; 0 for a convolution.
        kernel: bytes of the kernels of a convolution.
        per_core: most neurons of it that a core holds, estimated.
        clock: neurons of a clock that sends its biases.
    """

    name: str
    turn: int
    model: str
    neurons: int
    synapses: int
    kernel: int
    per_core: int
    clock: int = 0

    @property
    def cores(self) -> int:
        """At least so many; populations do not share one."""
        return math.ceil(self.neurons / max(self.per_core, 1)) + (1 if self.clock else 0)


@dataclass(frozen=True)
class FitChip(Pass):
    """Estimate cores and their memory against the chip, turn by turn.

    How py-spinnaker2 lays out a core's memory is not published: synapses of 2 bytes in 44,928 bytes are assumptions,
    see the profile. A neuron whose synapses are more than a core holds is refused (E0575), as are more cores than
    there are (E0501).
    """

    name: ClassVar[str] = "fit-chip"
    contract: ClassVar[str] = BOUNDED
    requires: ClassVar[tuple[str, ...]] = ("lif-neurons", "int8-weights", "scheduled")

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        target, limit = context.target, context.target["chip.user_cores"]
        try:
            found = chip_needs(graph, target)
        except HsnnError as error:
            return PassResult(graph, findings=tuple(error.findings))
        findings, notes = [], []
        for need in found:
            if not need.per_core:
                text = f"the synapses of one neuron are more than a core holds ({target['core.data_bytes']:,} bytes)"
                source = graph[need.name].source
                supported = "about 20,000 synapses per neuron, from 10,000 neurons"
                findings.append(Finding("E0575", text, need.name, source, supported=supported, suggestion=WAY_OUT))
        turns = sorted({need.turn for need in found})
        for turn in turns:
            cores = cores_of(found, turn)
            if cores > limit and not findings:
                text = f"{cores:,} cores, the chip has {limit} for users"
                findings.append(Finding("E0501", text, supported=target.title, suggestion=WAY_OUT))
            notes.append(("" if len(turns) == 1 else f"turn {turn}: ") + f"about {cores:,} of {limit} cores")
        kept = [need.name for need in found if need.model == CONVOLUTION]
        listed = [
            need.name
            for need in found
            if need.model == LIST and any(feed.kind.startswith("Conv") for feed in synapses(graph, graph[need.name]))
        ]
        notes += [f"stay convolutions: {', '.join(kept)}"] if kept else []
        notes += [f"convolutions as lists of synapses: {', '.join(listed)}"] if listed else []
        return PassResult(graph, False, tuple(notes), tuple(findings))


def chip_needs(graph: Graph, target: Target) -> list[ChipNeed]:
    """What everything on the chip takes, in the order of the graph. E0573 where a population has no form there."""
    number = stages(graph)
    begins = depths(graph, number, graph.timesteps or 1)
    found: list[ChipNeed] = []
    problems: list[Finding] = []
    for node in graph.topological():
        if not (node.is_population and node.on_chip) or node.schedule is None:
            continue
        turn = number[node.name]
        for feed in synapses(graph, node):
            sender = sender_of(graph, feed)
            if is_host(sender) and not any((need.name, need.turn) == (sender.name, turn) for need in found):
                size = _size(sender)
                found.append(ChipNeed(sender.name, turn, "spike_list", size, 0, 0, min(size, target["core.neurons"])))
        try:
            found.append(_need(graph, node, turn, node.schedule.depth - begins[turn], target))
        except HsnnError as error:
            problems += error.findings
    if problems:
        raise HsnnError(problems)
    return found


def cores_of(found: Sequence[ChipNeed], turn: int) -> int:
    """Cores of a turn, which has the chip for itself."""
    return sum(need.cores for need in found if need.turn == turn)


def _need(graph: Graph, node: Node, turn: int, depth: int, target: Target) -> ChipNeed:
    cell, feeds, size = cell_of(graph, node, depth), synapses(graph, node), _size(node)
    rows = 0 if cell.model == CONVOLUTION else sum(_size(sender_of(graph, feed)) for feed in feeds)
    kernel = feeds[0].op.weight.size if cell.model == CONVOLUTION else 0
    lists = 0 if kernel else sum(connections(graph, feed) for feed in feeds) + int((cell.clock != 0).sum())
    clock = math.ceil(abs(cell.clock).max(initial=0) / 127)
    per_core = neurons_per_core(size, rows + clock, lists, kernel, target)
    return ChipNeed(node.name, turn, cell.model, size, lists, kernel, per_core, clock)


def _size(node: Node) -> int:
    return node.type.size if node.type else 0
