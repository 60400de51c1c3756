"""What of a program runs on the host in every step, before the chip: encodings by events, and neurons placed there.

The integer executor runs it with the float executor, so it is what the float executor makes of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.types import Coding
from hsnn_compiler.reference.batches import has_time
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.reference.result import Record, Result

_ENDS = ("Input", "Output", "Decode")
_TYPES = {Coding.SPIKES: torch.int8, Coding.GRADED: torch.int32}


class Front:
    """The nodes of `front_nodes`, and whatever feeds nothing else.

    Args:
        graph: a program.

    Attributes:
        inside: names of all nodes that are run here.
        sent: those whose signals something else needs.
    """

    def __init__(self, graph: Graph) -> None:
        front = front_nodes(graph)
        self.inside = set(front)
        for node in reversed(graph.topological()):
            consumers = graph.out_edges(node.name)
            if consumers and node.kind != "Input" and all(edge.dst in self.inside for edge in consumers):
                self.inside.add(node.name)
        self.sent = [name for name in front if any(edge.dst not in self.inside for edge in graph.out_edges(name))]
        part = graph.copy()
        needed = set(front).union(*(graph.ancestors(name) for name in front))
        for node in graph:
            if node.name not in needed:
                part.remove(node.name)
        self.graph = part
        self.executor = FloatExecutor(part)

    def run(self, inputs: Mapping[str, Tensor], record: Collection[Record]) -> tuple[dict[str, Tensor], Result]:
        """Run a batch.

        Args:
            inputs: by input node, [batch, ...]; [time, batch, ...] where it has time.
            record: signals to keep, of which those of other nodes are ignored.

        Returns:
            The signals of `sent`, [time, batch, ...], spikes as int8 and payloads as int32; and the float
            executor's result, with what is to be kept in its trace.
        """
        wanted = {key for key in record if key[0] in self.inside}
        arrays = {
            name: (inputs[name].transpose(0, 1) if has_time(self.graph[name]) else inputs[name]).numpy()
            for name in (node.name for node in self.graph.of_kind("Input"))
        }
        result = self.executor.run_batch(arrays, {*wanted, *((name, "s") for name in self.sent)})
        signals = {name: self._signal(name, result) for name in self.sent}
        result.trace = {key: result.trace[key] for key in wanted}
        return signals, result

    def _signal(self, name: str, result: Result) -> Tensor:
        value = torch.from_numpy(result.trace[name, "s"]).transpose(0, 1)
        node = self.graph[name]
        return value if node.type is None else value.to(_TYPES.get(node.type.coding, value.dtype))


def front_nodes(graph: Graph) -> list[str]:
    """Names of the nodes that put out something in every step on the host before the chip, in topological order."""
    front: list[str] = []
    behind: set[str] = set()
    for node in graph.topological():
        if any(edge.src in behind for edge in graph.in_edges(node.name)) or (node.on_chip and not node.is_event_source):
            behind.add(node.name)
        elif has_time(node) and node.kind not in _ENDS:
            front.append(node.name)
    return front


def spike_sources(graph: Graph) -> list[Node]:
    """Nodes of the host whose spikes the chip's synapses get, in topological order."""
    front = set(front_nodes(graph)) | {node.name for node in graph.of_kind("Input") if has_time(node)}
    return [
        node
        for node in graph.topological()
        if node.name in front and any(n.on_chip and n.name not in front for n in graph.successors(node.name))
    ]
