"""What of a graph with time steps runs on the chip, and what on the host between two of its turns.

The chip takes spikes, through synapses on the chip, and values that stay for all steps. So neurons whose currents the
chip cannot compute run on the host, and send their spikes: the host works on the whole window of T steps at once, when
all that it reads is there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import networkx as nx

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.types import Coding
from hsnn_compiler.passes.base import count, listing
from hsnn_compiler.passes.direct import STATELESS, is_direct

PINNED = "pinned to the host"
CONSTANT = "its input is analog and the same in every step: once per sample"


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


def on_host(graph: Graph, obstacles: dict[str, str]) -> dict[str, str]:
    """All that runs on the host because of some nodes that the chip cannot run: names and reasons.

    What feeds a host node with currents runs on the host, and so does what gets currents from one: synapses on the
    chip take spikes alone. Spikes may cross either way; what is constant feeds both. Where spikes of the host lead out
    of the network, with no neurons between, they stay there.

    Args:
        graph: typed.
        obstacles: nodes of the time domain by name, each with what is in the way; none that is constant.
    """
    host = dict(obstacles)
    _take_with(graph, host, obstacles)
    for decode in graph.of_kind("Decode"):
        region, sources = _behind(graph, decode.name)
        senders = [name for name in sources if name in host]
        if senders and all(graph[name].kind == "Encode" or name in host for name in sources):
            why = f"leads from {senders[0]}, which runs on the host, out of the network"
            new = [name for name in region if name not in host]
            host.update(dict.fromkeys(new, why))
            _take_with(graph, host, new)
    return host


def _take_with(graph: Graph, host: dict[str, str], names: Iterable[str]) -> None:
    """Let currents be computed where they are needed, in `host`, given what is new there."""
    same = constants(graph)
    waiting = deque(names)
    while waiting:
        name = waiting.popleft()
        near = [(n.name, f"feeds {name}, which runs on the host") for n in graph.predecessors(name) if _must_follow(n)]
        if not _sends_spikes(graph[name]):
            why = f"its currents come from {name}, which runs on the host"
            near += [(n.name, why) for n in graph.successors(name) if has_steps(n)]
        for other, why in near:
            if other not in same and other not in host:
                host[other] = why
                waiting.append(other)


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


def costs(graph: Graph, host: dict[str, str], obstacles: dict[str, str]) -> Iterator[Finding]:
    """A warning for each part of the graph that the chip cannot run, and whatever it takes to the host with it.

    W0431 where the part lies between spikes of the chip, and so costs a window; W0434 where it takes weights.
    """
    chip = {n.name for n in graph if (n.is_population or (n.is_synapse and has_steps(n))) and n.name not in host}
    chip -= constants(graph)
    for part in nx.weakly_connected_components(graph.nx.subgraph(host)):
        first, *others = (name for name in obstacles if name in part)
        why = obstacles[first] + (f" (nor {count(len(others), 'op')} beside it: {listing(others)})" if others else "")
        taken = [node for node in graph if node.name in part and node.name not in obstacles]
        layers = [node.name for node in taken if node.is_synapse]
        neurons = [node.name for node in taken if node.is_population]
        kinds = [(layers, "weight layer"), (neurons, "population")]
        with_it = " and ".join(f"{count(len(names), what)} ({listing(names)})" for names, what in kinds if names)
        where = "it runs on the host" + (f", with {with_it}" if with_it else "")
        before = set[str]().union(*map(graph.ancestors, part))
        behind = set[str]().union(*map(graph.descendants, part))
        if before & chip and behind & chip:
            price = f"one window of {graph.timesteps} steps more per result"
            yield _warning("W0431", graph[first], f"{why}, and it lies between spikes: {where}; {price}")
        elif layers and PINNED not in (obstacles[name] for name in (first, *others)):
            yield _warning("W0434", graph[first], f"{why}: {where}")


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
