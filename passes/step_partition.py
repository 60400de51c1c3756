"""What of a graph with time steps runs on the chip, and what on the host between two of its turns.

The chip takes spikes, through synapses on the chip, and values that stay for all steps. So neurons whose currents the
chip cannot compute run on the host, and send their spikes: the host works on the whole window of T steps at once, when
all that it reads is there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.types import Coding
from hsnn_compiler.passes.base import count, listing
from hsnn_compiler.passes.direct import STATELESS, is_direct

PINNED = "pinned to the host"
CONSTANT = "its input is analog and the same in every step: once per sample"


@dataclass
class OnHost:
    """Nodes of the time domain that run on the host.

    Attributes:
        why: reasons by name.
        root: by name, the obstacle that took a node there; an obstacle itself has its own name.
    """

    why: dict[str, str] = field(default_factory=dict)
    root: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, why: str, root: str) -> bool:
        """Take a node; False if it was there before."""
        if name in self.why:
            return False
        self.why[name], self.root[name] = why, root
        return True


def has_steps(node: Node) -> bool:
    """Whether a node puts out something in every step."""
    return node.type is not None and node.type.coding.per_step


def constants(graph: Graph) -> set[str]:
    """Names of direct Encodes, and of ops without a state behind nothing else: the same in every step."""
    found: set[str] = set()
    for node in graph.topological():
        edges = graph.in_edges(node.name)
        same = node.kind in STATELESS and bool(edges) and all(e.src in found and not e.delay for e in edges)
        if is_direct(node) or (same and has_steps(node)):
            found.add(node.name)
    return found


def on_host(graph: Graph, obstacles: dict[str, str]) -> OnHost:
    """All that runs on the host because of some nodes that the chip cannot run.

    What feeds a host node with currents runs on the host, and so does what gets currents from one: synapses on the
    chip take spikes alone. Spikes may cross either way; what is constant feeds both. Where spikes of the host lead out
    of the network, with no neurons between, they stay there.

    Args:
        graph: typed.
        obstacles: nodes of the time domain by name, each with what is in the way; none that is constant.
    """
    host = OnHost()
    _take_with(graph, host, [name for name, why in obstacles.items() if host.add(name, why, name)])
    for decode in graph.of_kind("Decode"):
        region, sources = _behind(graph, decode.name)
        senders = [name for name in sources if name in host.why]
        if senders and all(graph[name].kind == "Encode" or name in host.why for name in sources):
            why = f"leads from {senders[0]}, which runs on the host, out of the network"
            _take_with(graph, host, [name for name in region if host.add(name, why, host.root[senders[0]])])
    return host


def _take_with(graph: Graph, host: OnHost, names: Iterable[str]) -> None:
    """Let currents be computed where they are needed, in `host`, given what is new there."""
    same = constants(graph)
    waiting = deque(names)
    while waiting:
        name = waiting.popleft()
        near = [(n, f"feeds {name}, which runs on the host") for n in graph.predecessors(name) if _must_follow(n)]
        if not _sends_spikes(graph[name]):
            behind = (n for n in graph.successors(name) if has_steps(n))
            near += [(n, f"its currents come from {name}, which runs on the host") for n in behind]
        for node, why in near:
            if node.name not in same and host.add(node.name, why, host.root[name]):
                waiting.append(node.name)


def _behind(graph: Graph, name: str) -> tuple[list[str], list[str]]:
    """Names of the ops between a node and what fires or encodes before it, and of those."""
    region: list[str] = []
    sources: list[str] = []
    waiting = deque([name])
    while waiting:
        for node in graph.predecessors(waiting.popleft()):
            if node.name not in (*region, *sources):
                (region if _must_follow(node) else sources).append(node.name)
                if _must_follow(node):
                    waiting.append(node.name)
    return region, sources


def unreadable_potentials(graph: Graph) -> dict[str, str]:
    """Neurons that never fire, of whose potentials more is needed than the last: names and reasons."""
    found = {}
    for node in graph:
        if not node.is_neuron or node.is_spiking:
            continue
        readers = graph.successors(node.name)
        if any(has_steps(reader) for reader in readers):
            found[node.name] = "its potential is used in every step"
        elif any(r.kind == "Decode" and r.op.kind != "last" and _comes_back(graph, r) for r in readers):
            found[node.name] = "its potential is read in every step"
    return found


def costs(graph: Graph, host: OnHost, obstacles: dict[str, str]) -> Iterator[Finding]:
    """A warning for each obstacle: what it takes to the host (W0434), and what that costs between spikes (W0431)."""
    chip = {n.name for n in graph if (n.is_population or (n.is_synapse and has_steps(n))) and n.name not in host.why}
    chip -= constants(graph)
    for name, why in obstacles.items():
        taken = [other for other, root in host.root.items() if root == name and other != name]
        layers = [other for other in taken if graph[other].is_synapse]
        neurons = [other for other in taken if graph[other].is_population]
        parts = [(layers, "weight layer"), (neurons, "population")]
        with_it = " and ".join(f"{count(len(names), what)} ({listing(names)})" for names, what in parts if names)
        where = "it runs on the host" + (f", with {with_it}" if with_it else "")
        if graph.ancestors(name) & chip and graph.descendants(name) & chip:
            price = f"one window of {graph.timesteps} steps more per result"
            yield _warning("W0431", graph[name], f"{why}, and it lies between spikes: {where}; {price}")
        elif layers and why != PINNED:
            yield _warning("W0434", graph[name], f"{why}: {where}")


def _warning(code: str, node: Node, message: str) -> Finding:
    return Finding(
        code,
        message,
        node=node.name,
        source=node.source,
        supported="neurons, convolutions, linear layers, average pooling, flatten and sums inside the time loop",
        suggestion="move it before the encoder or after the decoder, or replace it (average for max pooling)",
    )


def _sends_spikes(node: Node) -> bool:
    return node.type is not None and node.type.coding in (Coding.SPIKES, Coding.GRADED)


def _must_follow(node: Node) -> bool:
    """Whether what feeds a host node has to be on the host, too: ops between what fires and the node."""
    return has_steps(node) and not (node.is_population or node.kind in ("Input", "Encode"))


def _comes_back(graph: Graph, decode: Node) -> bool:
    return any(graph[name].kind == "Encode" for name in graph.descendants(decode.name))
