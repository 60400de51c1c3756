"""From a scheduled graph to a netlist: populations, lists of synapses, biases on a clock, one turn after the other."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from hsnn_compiler.backends.spinnaker.hosts import stages_of
from hsnn_compiler.backends.spinnaker.netlist import Netlist, Population, Projection, Turn
from hsnn_compiler.backends.spinnaker.synapses import synapses_of
from hsnn_compiler.ir.dynamics import StepCoefficients, discretize, per_neuron
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.ops import bias_of
from hsnn_compiler.ir.stages import depths, host_stages, is_host, stages

LONGEST_DELAY = 64
"""Steps from one neuron to many that sPyNNaker writes rightly (`traps`); clocks for deeper populations begin later."""
LARGEST_START = 2.0**14
"""A potential to begin with that is larger is given by a spike instead: s16.15 ends at 2^16."""


def lower(graph: Graph, builder: type[TurnBuilder] | None = None) -> Netlist:
    """The netlist of a graph that went through the passes for SpiNNaker.

    A bias at depth 0 is a constant current. Deeper, it would act before the window begins, so a clock sends it. A
    start potential of a population at depth d only leaks until its window begins: it is v_init / beta^d before, or,
    where that would fire or does not fit, it comes as one spike of weight beta v_init.

    Args:
        graph: neurons and synapses on the chip, scheduled; each population with a step of
            `hsnn_compiler.passes.spinnaker.neurons`.
        builder: what puts turns together, where it is not SpiNNaker 1's.
    """
    steps = graph.timesteps or 1
    stage = stages(graph)
    populations = [node for node in graph.topological() if node.on_chip and node.is_population]
    turns = [
        (builder or TurnBuilder)(graph, number, depths(graph, stage, steps)[number]).build(
            [node for node in populations if stage[node.name] == number]
        )
        for number in sorted({stage[node.name] for node in populations})
    ]
    reads = [read for part in host_stages(graph) for read in part.reads if not is_host(graph[read.name])]
    return Netlist(
        name=graph.name,
        timesteps=steps,
        turns=tuple(turns),
        recorded={read.name: read.kind for read in reads},
        stages=stages_of(graph),
        inputs={node.name: list(node.shape) for node in graph.of_kind("Input")},
        outputs={node.name: graph.predecessors(node.name)[0].name for node in graph.of_kind("Output")},
    )


class TurnBuilder:
    """One turn of the chip as it is put together.

    Args:
        graph: the whole program.
        number: of the turn.
        begins: depth in the graph's schedule at which it begins.
    """

    def __init__(self, graph: Graph, number: int, begins: int) -> None:
        self.graph, self.number, self.begins = graph, number, begins
        self.steps = graph.timesteps or 1
        self.populations: dict[str, Population] = {}
        self.projections: dict[str, Projection] = {}

    def build(self, nodes: Iterable[Node]) -> Turn:
        """The turn with these populations."""
        for node in nodes:
            self.add_population(node)
        last = max(population.depth for population in self.populations.values()) + self.steps
        return Turn(self.number, last, self.populations, self.projections)

    def add_population(self, node: Node) -> None:
        """Add a population, the synapses into it, and the sources that they begin at."""
        graph = self.graph
        assert node.dynamics is not None
        assert node.schedule is not None
        depth = node.schedule.depth - self.begins
        step = discretize(node.op, node.dynamics)
        gain, bias, beta, start = (per_neuron(a, node.shape) for a in (step.gain, step.leak, step.decay, step.v_init))
        presented = ""
        synapses = [source for source in graph.predecessors(node.name) if source.is_synapse]
        for source in graph.predecessors(node.name):
            if source.is_synapse:
                constant = bias_of(source.op)
                if constant is not None:
                    image = source.kind.startswith("Conv")  # [channels, ...]; a matrix acts on the last axis
                    own = np.reshape(constant, (-1, *[1] * (len(node.shape) - 1))) if image else constant
                    bias = bias + gain * per_neuron(own, node.shape)
            else:
                presented = graph.predecessors(source.name)[0].name
        for source in map(self.sender, synapses):
            if is_host(source):
                self.populations.setdefault(source.name, Population(source.name, "source", source.shape))
        begin = bias if depth == 0 else np.zeros_like(bias)
        before, kick = _start(start, beta, depth, _threshold(step, node))
        self.populations[node.name] = Population(
            name=node.name,
            kind="neurons" if node.is_spiking else "readout",
            shape=node.shape,
            depth=depth,
            beta=beta,
            threshold=_threshold(step, node),
            v_init=before,
            bias=begin,
            presented=presented,
            origin=node.source.module,
        )
        for synapse in synapses:
            sender = self.sender(synapse)
            pre, post, weight = synapses_of(synapse.op, graph.predecessors(synapse.name)[0].shape)
            delay = depth - self.populations[sender.name].depth
            weight = weight * gain[post]
            self._project(synapse.name, sender.name, node.name, pre, post, weight, delay)
        if depth:
            self._generate("clock", node.name, bias, depth)
            self._generate("start", node.name, kick, depth)

    def sender(self, synapse: Node) -> Node:
        """What a synapse op gets its spikes from: a population or a node of the host, perhaps behind a Flatten."""
        source = self.graph.predecessors(synapse.name)[0]
        while source.on_chip and source.kind == "Flatten":
            source = self.graph.predecessors(source.name)[0]
        return source

    def _generate(self, kind: str, target: str, weight: np.ndarray, depth: int) -> None:
        """Synapses from a clock or a start to the neurons whose weight is not zero."""
        post = np.flatnonzero(weight).astype(np.int32)
        if not len(post):
            return
        at = (depth - 1) // LONGEST_DELAY * LONGEST_DELAY
        name = self.graph.unique(f"{kind}{self.number}" if not at else f"{kind}{self.number}.{at}")
        self.populations.setdefault(name, Population(name, kind, (1,), at))
        self._project(f"{name}.to.{target}", name, target, np.zeros_like(post), post, weight[post], depth - at)

    def _project(
        self, name: str, before: str, after: str, pre: np.ndarray, post: np.ndarray, weight: np.ndarray, delay: int
    ) -> None:
        keep = weight != 0
        self.projections[name] = Projection(name, before, after, pre[keep], post[keep], weight[keep], delay)


def _threshold(step: StepCoefficients, node: Node) -> np.ndarray | None:
    """V >= threshold is the test: where the model fires only above it, the next number."""
    if step.threshold is None:
        return None
    threshold = per_neuron(step.threshold, node.shape)
    return threshold if step.inclusive else np.nextafter(threshold, np.inf)


def _start(
    start: np.ndarray, beta: np.ndarray, depth: int, threshold: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Potentials before the run, and what a spike in the first step of the window adds, each [size]."""
    nothing = np.zeros_like(start)
    if depth == 0:
        return np.where(beta > 0, start, 0.0), nothing
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        before = np.where((beta > 0) & (start != 0), start / beta**depth, 0.0)
    limit = np.full_like(start, LARGEST_START) if threshold is None else np.minimum(threshold, LARGEST_START)
    fits = (before < limit) & (before > -LARGEST_START)
    return np.where(fits, before, nothing), np.where(fits, nothing, beta * start)
