"""From a scheduled graph to a netlist for SpiNNaker 2: int8 weights, convolutions kept, delays as relays."""

from __future__ import annotations

import numpy as np

from hsnn_compiler.backends.spinnaker.lower import TurnBuilder
from hsnn_compiler.backends.spinnaker.lower import lower as lower_with
from hsnn_compiler.backends.spinnaker.synapses import synapses_of
from hsnn_compiler.backends.spinnaker2.mac_array import mac_layers
from hsnn_compiler.backends.spinnaker2.netlist import Int8Projection, LifPopulation, Spinnaker2Netlist
from hsnn_compiler.ir.dynamics import per_neuron
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.stages import is_host
from hsnn_compiler.reference.spinnaker2_cells import (
    CONVOLUTION,
    LARGEST_WEIGHT,
    LIST,
    TO_VALUE,
    cell_of,
    convolution_of,
    input_scale,
    integers,
)
from hsnn_compiler.reference.spinnaker2_memory import neurons_per_core
from hsnn_compiler.targets import Target, load_target

TARGET = "spinnaker2"


def lower(graph: Graph) -> Spinnaker2Netlist:
    """The netlist of a graph that went through the passes for SpiNNaker 2.

    lif_no_delay has no delays: where spikes wait, populations of relays pass them on. What biases of deep populations
    a constant current cannot give is sent by clocks, see `hsnn_compiler.reference.spinnaker2_cells`.
    """
    return Spinnaker2Netlist(**vars(lower_with(graph, Int8Turn)), mac_array=mac_layers(graph))


class Int8Turn(TurnBuilder):
    """One turn of the chip as it is put together."""

    def add_population(self, node: Node) -> None:
        """See `TurnBuilder`."""
        graph, target = self.graph, load_target(TARGET)
        assert node.schedule is not None
        depth = node.schedule.depth - self.begins
        cell = cell_of(graph, node, depth)
        feeds = [source for source in graph.predecessors(node.name) if source.is_synapse]
        values = [source for source in graph.predecessors(node.name) if not source.is_synapse]
        for source in map(self.sender, feeds):
            if is_host(source):
                limit = min(target["core.neurons"], int(np.prod(source.shape)))
                part = LifPopulation(source.name, "source", source.shape, per_core=limit)
                self.populations.setdefault(source.name, part)
        kernel = 0
        for feed in feeds:
            arriving = self._arriving(feed, node, depth, cell.model)
            self.projections[feed.name] = arriving
            kernel += 0 if arriving.kernel is None else arriving.kernel.size
        if cell.clock.any():
            self._clock(node, cell.clock, depth)
        self.populations[node.name] = LifPopulation(
            name=node.name,
            kind="neurons" if node.is_spiking else "readout",
            shape=node.shape,
            depth=depth,
            beta=cell.alpha,
            threshold=cell.threshold,
            v_init=cell.v_init,
            bias=cell.i_offset,
            presented=graph.predecessors(values[0].name)[0].name if values else "",
            origin=node.source.module,
            model=cell.model,
            reset=cell.reset,
            scale=cell.scale,
            per_core=self._per_core(node.name, int(np.prod(node.shape)), kernel, target),
        )

    def _arriving(self, feed: Node, node: Node, depth: int, model: str) -> Int8Projection:
        """The synapses of an op; what they begin at fires one step before they are needed."""
        shape = self.graph.predecessors(feed.name)[0].shape
        scale = input_scale(self.graph, node)
        pre, post, real = synapses_of(feed.op, shape)
        weight = np.rint(real * per_neuron(scale, node.shape)[post]).astype(np.int8)
        source = self._relayed(self.sender(feed).name, depth - 1)
        part = Int8Projection(feed.name, source, node.name, pre, post, weight)
        if model != CONVOLUTION:
            return part
        kernel = np.ascontiguousarray(integers(feed.op, scale).swapaxes(0, 1))
        return Int8Projection(**{**vars(part), "convolution": convolution_of(feed.op, shape), "kernel": kernel})

    def _relayed(self, name: str, depth: int) -> str:
        """The population that fires the spikes of another one in steps depth + 1 ... depth + T."""
        source, before = self.populations[name], name
        for number, at in enumerate(range(source.depth + 1, depth + 1), start=1):
            relay = f"{name}.relay{number}"
            if relay not in self.populations:
                self._relay(relay, before, source.shape, at)
            before = relay
        return before

    def _relay(self, name: str, before: str, shape: tuple[int, ...], depth: int) -> None:
        """One neuron for each of another population that fires as it did, a step later."""
        size = int(np.prod(shape))
        ones, nothing, index = np.ones(size), np.zeros(size), np.arange(size, dtype=np.int32)
        link = f"{before}.to.{name}"
        self.projections[link] = Int8Projection(link, before, name, index, index, ones.astype(np.int8))
        self.populations[name] = LifPopulation(
            name, "relay", shape, depth, nothing, ones / 2, nothing, nothing,
            model=LIST, reset=TO_VALUE, scale=ones, per_core=self._per_core(name, size, 0, load_target(TARGET)),
        )  # fmt: skip

    def _clock(self, node: Node, weight: np.ndarray, depth: int) -> None:
        """Neurons that fire in every step of a window, as many as weights of 127 make up the largest bias."""
        count = -(-int(np.abs(weight).max()) // LARGEST_WEIGHT)
        name = f"{node.name}.clock"
        pre, post, parts = [], [], []
        rest = np.abs(weight)
        for neuron in range(count):
            share = np.minimum(rest, LARGEST_WEIGHT)
            rest = rest - share
            there = np.flatnonzero(share).astype(np.int32)
            pre.append(np.full_like(there, neuron))
            post.append(there)
            parts.append((share * np.sign(weight))[there].astype(np.int8))
        before, after, shares = (np.concatenate(part) for part in (pre, post, parts))
        self.populations[name] = LifPopulation(name, "clock", (count,), depth - 1, per_core=count)
        self.projections[name] = Int8Projection(name, name, node.name, before, after, shares)

    def _per_core(self, name: str, size: int, kernel: int, target: Target) -> int:
        arriving = [part for part in self.projections.values() if part.post_population == name]
        if kernel:
            return neurons_per_core(size, 0, 0, kernel, target)
        rows = sum(self.populations[part.pre_population].size for part in arriving)
        return neurons_per_core(size, rows, sum(len(part.pre) for part in arriving), 0, target)
