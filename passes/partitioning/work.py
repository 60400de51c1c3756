"""What there is to do at every node, on either side, and what goes along the edges; no prices yet.

Activations, neurons, layers of weights and the linear ops between them are decided one by one, not as layers: the cut
between a first convolution on the host and its neurons on the chip, fed by a bias current, is the one that costs
least of all, and the same holds for a last linear layer, whose result is read from integrators. An op that costs the
same on both sides goes with its neighbours by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import networkx as nx
import numpy as np
import torch
from nir import SumPool2d

from hsnn_compiler.ir.fan_out import fan_out
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.ops import ACTIVATIONS
from hsnn_compiler.ir.shapes import pair
from hsnn_compiler.ir.spec import runs_on
from hsnn_compiler.passes.direct import LINEAR
from hsnn_compiler.passes.partitioning.profile import Profile
from hsnn_compiler.passes.pooling import POOLS, WEIGHTLESS
from hsnn_compiler.passes.step_partition import CONSTANT, constants
from hsnn_compiler.reference.batches import has_time
from hsnn_compiler.reference.torch_ops import bind
from hsnn_compiler.targets import Target

WIRING = (*WEIGHTLESS, "Add", "NoOp", "Spread")
"""Linear ops that the chip has no work with: passes fold them into synapses."""


@dataclass(frozen=True)
class Traffic:
    """What goes over a crossing per inference.

    Attributes:
        what: ``events``, ``bias currents`` or ``potentials``.
        count: how many.
        values: how many values they stand for, if sent as such.
        integrators: neurons that the chip needs to have something to be read, updated in each step.
        operations: multiplications that the host does besides, because it has its own copy of a layer.
    """

    what: str
    count: float
    values: int
    integrators: int = 0
    operations: int = 0


class Flow(NamedTuple):
    """A signal and those who take it; None for a way that cannot be, see `problem.Crossing` for who pays."""

    src: str
    dsts: tuple[str, ...]
    to_chip: Traffic | None
    to_host: Traffic | None


NOTHING = Traffic("nothing", 0, 0)


@dataclass(frozen=True)
class Work:
    """What a node has to do per inference.

    Attributes:
        operations: on the host, multiplications and additions, dense, in all its steps; 0 if they are not known.
        synaptic: synaptic operations on the chip: events that arrive, each times the synapses it reaches.
        neurons: on the chip, updated once per step.
        weight_bits: synapse memory, 8 bits per weight; convolution kernels once.
        axons: input axons.
        only_host: why it cannot be on the chip; empty where it can.
    """

    operations: int
    synaptic: float = 0.0
    neurons: int = 0
    weight_bits: int = 0
    axons: int = 0
    only_host: str = ""


@dataclass(frozen=True, eq=False)
class Workload:
    """All that costs depend on.

    Attributes:
        graph: what it is about.
        target: the chip.
        profile: what calibration data said.
        works: by node, in topological order.
        flows: along the edges.
        on_chip: nodes that must be on the chip.
    """

    graph: Graph
    target: Target
    profile: Profile
    works: dict[str, Work]
    flows: tuple[Flow, ...]
    on_chip: frozenset[str] = field(default_factory=frozenset)


def workload(
    graph: Graph,
    profile: Profile,
    target: Target,
    obstacles: Mapping[str, str] | None = None,
    on_chip: frozenset[str] = frozenset(),
) -> Workload:
    """Work and traffic of a typed graph.

    On the host, without time:   multiplications of a layer of weights: all its connections, borders taken off
    On the chip:                 sum over inputs of (events * fan-out) synaptic operations, N * T membrane updates
    host -> activation on the chip:  N bias currents, once; a layer of weights cannot take values
    activation on the chip -> host:  N * T * r events
    layer of weights -> host:        N integrators on the chip, their potentials read once

    With time, values stay on the host, and so do linear ops that only `Encode(direct)` feeds (once per sample) and
    Encodes. Spikes of the host may feed what is on the chip, as events; its currents cannot. Loops are not cut.

    Args:
        graph: typed; before conversion (`timesteps` is None), or with time.
        profile: of this graph, see `profile.profile`.
        target: the chip.
        obstacles: by node, why it has to be on the host: pins, ops without a form on the chip.
        on_chip: nodes pinned to the chip.
    """
    counter = _Counter(graph, profile, target, obstacles or {})
    order = graph.topological()
    works = {node.name: counter.work(node) for node in order}
    flows = [flow for node in order for flow in counter.flows(node)]
    return Workload(graph, target, profile, works, tuple(flows), on_chip)


class _Counter:
    """Goes through the nodes in topological order."""

    def __init__(self, graph: Graph, profile: Profile, target: Target, obstacles: Mapping[str, str]) -> None:
        self.graph, self.profile, self.target, self.obstacles = graph, profile, target, obstacles
        self.timed = any(has_time(node) for node in graph)
        self.events: dict[str, np.ndarray] = {}  # that a node's output stands for, per element
        self.analog = constants(graph) if self.timed else set()
        self.behind: dict[str, frozenset[str]] = {}  # by node that puts out spikes, added up or not, who fires them
        self.adding: dict[str, bool] = {}
        loops = [members for members in nx.strongly_connected_components(graph.nx) if len(members) > 1]
        self.loop = {name: i for i, members in enumerate(loops) for name in members}

    def work(self, node: Node) -> Work:
        """Work of a node, after all that feed it."""
        sources = self.graph.predecessors(node.name)
        if self._fires(node):
            self.behind[node.name] = frozenset([node.name])
        elif node.kind in WIRING and sources and all(source.name in self.behind for source in sources):
            self.behind[node.name] = frozenset[str]().union(*(self.behind[source.name] for source in sources))
        alike = sources if len({source.shape for source in sources}) == 1 else []  # not where a Concat joins them
        arriving = sum((self._sent(source) for source in alike), start=np.zeros(()))
        steps = self.profile.timesteps if has_time(node) and node.name not in self.analog else 1
        only_host = self._only_host(node)
        dense, synaptic, bits, axons = _operations(node, sources), 0.0, 0, 0
        if node.is_synapse:
            shape = sources[0].shape
            reached = fan_out(node.op, node.op.weight, shape)
            synaptic = float((np.broadcast_to(arriving, shape) * reached).sum())
            bits, axons = 8 * int(np.count_nonzero(node.op.weight)), sum(math.prod(source.shape) for source in sources)
        elif self._fires(node) or node.is_population:
            direct = [source for source in sources if source.name in self.behind]  # synapses of weight 1
            synaptic = float(sum(np.sum(np.broadcast_to(self._sent(n), n.shape)) for n in direct))
        self.events[node.name] = self._put_out(node, sources, arriving, synaptic)
        neurons = node.type.size if node.type and (self._fires(node) or node.is_population) else 0
        return Work(dense * steps, synaptic, neurons, bits, axons, only_host)

    def flows(self, node: Node) -> list[Flow]:
        """All that leaves a node."""
        takers = list({taker.name: taker for taker in self.graph.successors(node.name)}.values())
        found = [
            Flow(node.name, (taker.name,), None, None)
            for taker in takers
            if taker.name != node.name and self.loop.get(taker.name, -1) == self.loop.get(node.name, -2)
        ]
        if len(takers) == 1:
            (taker,) = takers
            return [*found, Flow(node.name, (taker.name,), self._to_chip(node, taker), self._to_host(node, taker))]
        events: list[str] = []
        read: dict[Traffic | None, list[str]] = {}
        for taker in takers:
            there = self._to_chip(node, taker)
            if there is not None and there.what == "events":
                events.append(taker.name)
            elif there != NOTHING:  # bias currents are each population's own
                found.append(Flow(node.name, (taker.name,), there, NOTHING))
            read.setdefault(self._to_host(node, taker), []).append(taker.name)
        if events:
            found.append(Flow(node.name, tuple(events), self._sends_events(node), NOTHING))
        return found + [Flow(node.name, tuple(names), NOTHING, traffic) for traffic, names in read.items()]

    def _fires(self, node: Node) -> bool:
        """Whether spikes come into being at a node, or would."""
        return node.is_spiking or node.is_event_source or (node.kind in ACTIVATIONS and not self.timed)

    def _sent(self, node: Node) -> np.ndarray:
        return self.events.get(node.name, np.zeros(()))

    def _put_out(self, node: Node, sources: list[Node], arriving: np.ndarray, synaptic: float) -> np.ndarray:
        """Events that each element of an output stands for: what a layer of synapses behind it is driven by."""
        if node.name in self.profile.events:
            return np.broadcast_to(self.profile.events[node.name], node.shape)
        if not sources or node.kind == "Decode" or node.is_population or node.name in self.analog:
            return np.zeros(())
        arriving = np.broadcast_to(arriving, sources[0].shape)
        if node.kind == "Flatten":
            return arriving.reshape(node.shape)
        if node.kind in POOLS:
            op = node.op
            total = SumPool2d(*(np.array(pair(size)) for size in (op.kernel_size, op.stride, op.padding)))
            found: np.ndarray = bind(total, torch.float64)(torch.from_numpy(arriving[None].astype(np.float64)))[
                0
            ].numpy()
            return found
        if arriving.shape == node.shape and not node.is_synapse and node.kind != "Concat":
            return arriving
        size = node.type.size if node.type else 1
        total = synaptic if node.is_synapse else sum(float(self._sent(n).sum()) for n in sources)
        return np.full(node.shape, total / max(size, 1))

    def _only_host(self, node: Node) -> str:
        """Why a node has to be on the host."""
        if node.name in self.obstacles:
            return self.obstacles[node.name]
        if node.kind in ("Input", "Output", "Decode"):
            return "the network's ends are on the host"
        if node.kind == "Encode":
            return "what is presented, or sent, to the chip comes from the host"
        if self.timed and not has_time(node):
            return "runs once per sample, outside the time loop"
        if node.name in self.analog:
            return CONSTANT
        if self._fires(node) or node.is_population or node.is_synapse or node.kind in (*WIRING, "Collect"):
            how = runs_on(node.kind, self.target.family)
            return "" if how != "host" else f"{node.kind} does not run on {self.target.family}"
        return f"{node.kind} does not run on {self.target.family}"

    def _to_chip(self, node: Node, taker: Node) -> Traffic | None:
        """What a node on the host sends to one on the chip."""
        size = taker.type.size if taker.type else 0
        currents = Traffic("bias currents", size, size)
        if not self.timed:
            return currents if self._takes_currents(taker) else None
        if node.name in self.analog:
            if self._fires(taker) or taker.is_population:
                return currents
            if taker.kind in LINEAR and taker.name not in self.analog:  # a copy on the host for what is analog
                return replace(currents, operations=_operations(taker, [node]) if taker.is_synapse else 0)
            return None
        if not has_time(node):
            return NOTHING if taker.kind == "Encode" else None
        return self._sends_events(node)

    def _takes_currents(self, node: Node) -> bool:
        """Whether what arrives is added up by neurons, without weights of its own on the way."""
        if node.kind != "Add":
            return self._fires(node)
        if node.name not in self.adding:
            takers = self.graph.successors(node.name)
            self.adding[node.name] = bool(takers) and all(map(self._takes_currents, takers))
        return self.adding[node.name]

    def _sends_events(self, node: Node) -> Traffic | None:
        """Events of a node whose steps are spikes; None where they are currents."""
        if node.type is None or node.type.coding.value not in ("spikes", "graded"):
            return None
        return Traffic("events", float(self._sent(node).sum()), node.type.size)

    def _to_host(self, node: Node, taker: Node) -> Traffic | None:
        """What a node on the chip sends to one on the host."""
        size = node.type.size if node.type else 0
        if self.timed and taker.kind != "Decode" and not self._fires(node):
            return None  # in every step, the host reads what fires, and nothing else
        if node.name in self.behind:  # sums and pooling are the host's wherever they end a turn of the chip
            fired = [self.graph[name] for name in sorted(self.behind[node.name])]
            return Traffic("events", sum(map(self.profile.total, fired)), sum(math.prod(n.shape) for n in fired))
        if node.is_population:  # potentials of neurons that do not fire
            count = size if taker.op.kind == "last" else size * self.profile.timesteps
            return Traffic("potentials", count, count)
        return Traffic("potentials", size, size, integrators=size)


def _operations(node: Node, sources: list[Node]) -> int:
    """Multiplications and additions of one evaluation, dense."""
    size = node.type.size if node.type else 0
    if node.is_synapse:
        return int(fan_out(node.op, np.ones(node.op.weight.shape, np.bool_), sources[0].shape).sum())
    if node.kind in ("Input", "Output", "Flatten", "NoOp", "HostCall", "Spread", "Concat", "Encode"):
        return 0
    if node.kind in (*POOLS, "MaxPool2d"):
        height, width = pair(node.op.kernel_size)
        return size * height * width
    return max([size, *(source.type.size for source in sources if source.type)])
