"""The integer graph, node by node: every way becomes synapses, every population the chip's."""

from __future__ import annotations

from dataclasses import dataclass, replace

import nir
import numpy as np

from hsnn_compiler.diagnostics import Finding, refuse
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.payloads import fires_once
from hsnn_compiler.ir.types import Coding, Placement, TensorType
from hsnn_compiler.passes.batchnorm import scale_rows, with_weights
from hsnn_compiler.passes.one_to_one import is_per_channel
from hsnn_compiler.passes.quantise import coarse
from hsnn_compiler.passes.raw.folding import fold
from hsnn_compiler.passes.raw.neurons import Rule
from hsnn_compiler.passes.raw.peaks import Peak
from hsnn_compiler.passes.raw.populations import costs, in_real_numbers, integers_of
from hsnn_compiler.passes.raw.scales import Feed, choose_scale, scale_without_threshold
from hsnn_compiler.passes.raw.ways import Arrivals, Way

CHIP, HOST = Placement("chip"), Placement("host")
OUTPUT_MAX = 2.0**20
"""Largest bias of weights that lead to an Output, in units."""


@dataclass
class Builder:
    """Collects the integer graph.

    Attributes:
        real: the graph in real numbers.
        units: of each input, payload units per real unit; 0 for spikes.
        graph: what is built; it begins with inputs and populations not yet quantised, so that edges can be added.
        constants: of inputs that carry biases, payloads in every step.
        findings: what it cost.
    """

    real: Graph
    units: dict[str, float]

    def __post_init__(self) -> None:
        self.graph = Graph(self.real.name, origin=self.real.origin)
        self.constants: dict[str, np.ndarray] = {}
        self.findings: list[Finding] = []
        for node in self.real:
            if node.kind == "Input":
                coding = Coding.GRADED if self.units[node.name] else Coding.SPIKES
                self.graph.add(node.with_(type=TensorType(node.shape, coding), placement=HOST))
            elif node.is_neuron:
                self.graph.add(node.with_(placement=CHIP))
            elif node.kind == "Output":
                self.graph.add(node.with_(placement=HOST))

    def population(self, node: Node, rule: Rule, arriving: Arrivals, peak: Peak) -> None:
        """Give a population its integers, and the synapses into it."""
        feeds = [(self._feed(way, node, rule.gain), way) for way in arriving.ways]
        bias = rule.bias
        currents = {0: rule.current_bias} if np.any(rule.current_bias) else {}
        for wait, value in arriving.constants.items():
            if rule.current_decay is None and wait == 0:
                bias = bias + rule.gain * value
            else:
                currents[wait] = currents.get(wait, 0.0) + rule.gain * value
        rule = replace(rule, bias=bias)
        scale, vth = choose_scale(node, rule, [feed for feed, _ in feeds], peak)
        worst = max([self._synapse(feed, way, node, scale) for feed, way in feeds], default=0.0)
        for wait, value in currents.items():
            self._constant(node, value * scale, wait)
        integers = integers_of(node, rule, scale, vth)
        op, dynamics = in_real_numbers(node, rule, integers.quant)
        changed = self.graph.update(node.name, op=op, dynamics=dynamics, quant=integers.quant)
        self.findings += [
            *coarse(changed, "look for one huge weight"),
            *costs(node, rule, integers, worst, has_input=bool(currents)),
        ]

    def output(self, node: Node, arriving: Arrivals) -> None:
        """Connect an Output; what reaches it through weights is in units of one scale."""
        through = [way for way in arriving.ways if way.ops]
        sources = [self.real[way.source] for way in arriving.ways]
        real = [source for source in sources if not self._is_spikes(source)]
        partly = (through or arriving.constants) and len(through) < len(arriving.ways)
        if partly or (real and len(sources) > 1 and not len(through) == len(sources)):
            raise refuse(
                "E0455",
                "signals of different units add up in an output",
                node=node.name,
                source=node.source,
                supported="spikes alone, one potential or input alone, or all through weights",
                suggestion="give each an Output of its own",
            )
        for way in arriving.ways:
            if not way.ops:
                self._connect(way, node.name)
        if not through:
            return
        feeds = [(self._feed(way, node, np.ones(node.shape)), way) for way in through]
        largest = max((float(np.abs(value).max(initial=0.0)) for value in arriving.constants.values()), default=0.0)
        bound = min([feed.fits for feed, _ in feeds] + ([OUTPUT_MAX / largest] if largest else []))
        scale = scale_without_threshold([feed for feed, _ in feeds], bound)
        worst = max(self._synapse(feed, way, node, scale) for feed, way in feeds)
        for wait, value in arriving.constants.items():
            self._constant(node, value * scale, wait)
        text = f"1 is {scale:.5g} units; weights off by at most {100 * worst:.2g}% of the largest"
        self.findings.append(Finding("I0457", text, node=node.name, source=node.source))

    # -- synapses -------------------------------------------------------------------------------

    def _is_spikes(self, source: Node) -> bool:
        return source.is_spiking or (source.kind == "Input" and not self.units[source.name])

    def _feed(self, way: Way, node: Node, gain: np.ndarray) -> Feed:
        source = self.real[way.source]
        if source.is_neuron and not source.is_spiking:
            raise refuse(
                "E0455",
                f"the potential of {source.name} goes on to {node.name}",
                node=source.name,
                source=source.source,
                supported="potentials that go to an Output; spikes between populations",
                suggestion="the float backend runs it",
            )
        shape = way.routing[-1].shape if way.routing else source.shape
        op = fold(way.ops, shape, node.shape)
        unit = self.units.get(source.name) or 1.0
        if op.weight.ndim > 2 and not is_per_channel(_reduced(gain)):
            raise refuse(
                "E0445",
                "gain or threshold differs between the pixels of a channel, which one kernel serves",
                node=node.name,
                source=node.source,
                supported="one value per channel",
                suggestion="train with one value per channel",
            )
        factor = (
            gain.reshape(-1) if op.weight.ndim == 2 else np.broadcast_to(_reduced(gain).reshape(-1), node.shape[:1])
        )
        weight = scale_rows(np.asarray(op.weight, np.float64), factor) / unit
        synapses = [before.name for before in way.ops if before.is_synapse]
        name = synapses[0] if len(synapses) == 1 else f"{source.name}.to.{node.name}"
        name = name if name not in self.graph else self.graph.unique(f"{name}.to.{node.name}")
        graded = not (self._is_spikes(source) and fires_once(source))
        return Feed(self.graph.add(Node(name, op, placement=CHIP, source=node.source)).name, op, weight, graded)

    def _synapse(self, feed: Feed, way: Way, node: Node, scale: float) -> float:
        """Give synapses their integers and connect them; returns the largest error of a weight."""
        quant, error = feed.quantise(scale)
        weight = quant.integers * 2.0**quant.exponent / scale
        op = nir.Linear(weight) if weight.ndim == 2 else with_weights(feed.op, weight, np.zeros(len(weight)))
        self.graph.update(feed.name, op=op, quant=quant)
        self._connect(way, feed.name)
        self.graph.connect(Edge(feed.name, node.name))
        return error

    def _connect(self, way: Way, name: str) -> None:
        """Lead a way to a node; all of its delay is where it begins."""
        before, delay = way.source, way.delay
        routing = list(way.routing)
        shape = routing[-1].shape if routing else self.real[way.source].shape
        node = self.graph[name]
        if len(shape) > 1 and node.is_synapse and node.op.weight.ndim == 2:
            flatten = nir.Flatten({"input": np.array(shape)}, 0, -1)
            routing.append(Node(f"{way.source}.flatten", flatten, type=TensorType((int(np.prod(shape)),))))
        for passed in routing:
            copy = passed.with_(
                name=passed.name if passed.name not in self.graph else self.graph.unique(f"{passed.name}.to.{name}"),
                placement=CHIP,
            )
            self.graph.add(copy, Edge(before, copy.name, delay=delay))
            before, delay = copy.name, 0
        self.graph.connect(Edge(before, name, delay=delay))

    def _constant(self, node: Node, value: np.ndarray, wait: int) -> None:
        """A current in every step from `wait` on: payloads of an input that is always the same."""
        name = self.graph.unique(f"{node.name}.bias")
        self.constants[name] = np.rint(value).astype(np.int32)
        self.graph.add(
            Node(name, nir.Input(np.array(node.shape)), TensorType(node.shape, Coding.GRADED), placement=HOST)
        )
        self.graph.connect(Edge(name, node.name, delay=wait))


def _reduced(gain: np.ndarray) -> np.ndarray:
    """A factor per neuron as one per channel, [channels, 1, ...], where all pixels of a channel share it."""
    first = gain[(slice(None), *[slice(0, 1)] * (gain.ndim - 1))]
    return first if np.array_equal(np.broadcast_to(first, gain.shape), gain) else gain
