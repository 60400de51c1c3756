"""Bring every connection on the chip to the form neuron - synapses - neuron."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import nir
import numpy as np

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.dynamics import discretize
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.ops import FirstSpike, bias_of, threshold_of
from hsnn_compiler.ir.types import Placement
from hsnn_compiler.passes.base import Pass, PassContext, PassResult, count
from hsnn_compiler.passes.batchnorm import scale_rows, with_weights
from hsnn_compiler.passes.one_to_one import is_per_channel, one_to_one
from hsnn_compiler.passes.properties import ends_synapses, sends_spikes
from hsnn_compiler.passes.synapse_chains import merge_chains


@dataclass(frozen=True)
class LowerConnections(Pass):
    """Give every pair of connected populations synapses of its own.

    A synapse op with several inputs is split, one per input (only the first keeps the bias); one with
    several outputs is copied per output; neurons that feed neurons directly get one-to-one synapses
    of weight 1; layers of weights without neurons between become one. Thresholds and input gains that differ within
    a population are put into the incoming weights and biases, because the chip has one threshold per population, and
    no gains: theta -> 1, gain -> 1, W -> W gain / theta.
    """

    name: ClassVar[str] = "lower-connections"
    requires: ClassVar[tuple[str, ...]] = ("direct",)
    ensures: ClassVar[tuple[str, ...]] = ("neurons-and-synapses", "single-source")

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        graph = graph.copy()
        changed = _direct_connections(graph) + _several_inputs(graph) + _several_outputs(graph)
        graph, merged = merge_chains(graph)
        stuck = [node for node in graph if node.is_synapse and node.on_chip and _feeds_no_neuron(graph, node)]
        findings = tuple(_two_synapses_in_a_row(node) for node in stuck)
        neurons = [] if stuck else [n for n in graph if n.is_population and n.on_chip]
        equalised = [n.name for n in neurons if equalise(graph, n)]
        notes = []
        if changed:
            notes.append(f"{count(changed, 'connection')} given synapses of their own")
        if merged:
            notes.append(f"{count(merged, 'layer')} of weights merged into the next, with no neurons between")
        if equalised:
            populations = count(len(equalised), "population")
            notes.append(f"thresholds or gains that differ put into the weights of {populations}")
        return PassResult(graph, bool(notes), tuple(notes), findings)


def split_input(graph: Graph, edge: Edge) -> str:
    """Give one input of a linear op a copy of that op, without its bias; the results add up downstream."""
    node = graph[edge.dst]
    bias = bias_of(node.op)
    op = node.op if bias is None else with_weights(node.op, node.op.weight, 0 * bias)
    copy = node.with_(name=graph.unique(f"{node.name}.from.{edge.src}"), op=op)
    graph.disconnect(edge)
    graph.add(copy, edge._replace(dst=copy.name))
    for out in graph.out_edges(node.name):
        graph.connect(out._replace(src=copy.name))
    return copy.name


def _direct_connections(graph: Graph) -> int:
    """Neuron (or Flatten of neurons) to neuron: insert one-to-one synapses."""
    ends = [node.name for node in graph if ends_synapses(node) and node.on_chip]  # the host adds up without synapses
    edges = [edge for name in ends for edge in graph.in_edges(name) if _gives_spikes(graph[edge.src])]
    for edge in edges:
        name = graph.unique(f"{edge.src}.to.{edge.dst}")
        node = graph[edge.src]
        synapse = Node(
            name,
            one_to_one(np.ones(()), node.shape),
            type=node.type,
            placement=Placement("chip", "synapses"),
            source=node.source,
        )
        graph.insert_on(edge, synapse)
    return len(edges)


def _gives_spikes(node: Node) -> bool:
    return sends_spikes(node) or node.kind == "Flatten"


def _several_inputs(graph: Graph) -> int:
    extra = [edge for node in graph if node.is_synapse and node.on_chip for edge in graph.in_edges(node.name)[1:]]
    for edge in extra:
        split_input(graph, edge)
    return len(extra)


def _several_outputs(graph: Graph) -> int:
    extra = [edge for node in graph if node.is_synapse and node.on_chip for edge in graph.out_edges(node.name)[1:]]
    for edge in extra:
        node = graph[edge.src]
        copy = node.with_(name=graph.unique(f"{node.name}.to.{edge.dst}"))
        graph.disconnect(edge)
        source = graph.in_edges(node.name)[0]
        graph.add(copy, source._replace(dst=copy.name))
        graph.connect(edge._replace(src=copy.name))
    return len(extra)


def equalise(graph: Graph, node: Node) -> bool:
    """Put thresholds and gains that differ within a population into everything that arrives; True if they did."""
    dynamics = node.dynamics
    step = None if dynamics is None else discretize(node.op, dynamics)
    theta = threshold_of(node.op) if node.is_spiking else np.ones(1)
    gain = np.ones(1) if step is None else step.gain * (1.0 if step.w_in is None else step.w_in)
    theta, gain = (array if np.any(array != array.flat[0]) else np.ones(1) for array in (theta, gain))
    if theta.size == gain.size == 1:
        return False
    factor = gain / theta
    if not is_per_channel(factor) and _behind_synapses(graph, node):
        return False  # weights of a convolution are the same at every pixel; quantise refuses
    for edge in graph.in_edges(node.name):
        _multiply(graph, edge, factor)
    if dynamics is None or step is None:
        graph.update(node.name, op=FirstSpike(np.ones_like(theta)))
        return True
    fields = {name: getattr(node.op, name) / theta for name in ("v_reset", "v_leak") if hasattr(node.op, name)}
    if theta.size > 1:
        fields["v_threshold"] = np.ones_like(theta)
    changes: dict[str, Any] = {"v_init": dynamics.v_init / theta}
    if dynamics.leak is not None:
        changes["leak"] = dynamics.leak / theta
    if gain.size > 1:  # v is what it was, over theta; the contract's u becomes what gain u was
        changes |= {"gain": 1.0, "current_gain": None if step.w_in is None else 1.0}
    graph.update(node.name, op=type(node.op)(**{**vars_of(node.op), **fields}), dynamics=replace(dynamics, **changes))
    return True


def _behind_synapses(graph: Graph, node: Node) -> bool:
    sources = graph.predecessors(node.name)
    return any(source.is_synapse or source.kind == "Collect" for source in sources)


def _multiply(graph: Graph, edge: Edge, factor: np.ndarray) -> None:
    """Multiply what comes along an edge on the chip: weights, what is collected, or what the host presents."""
    source, rows = graph[edge.src], factor.reshape(-1)
    if source.is_synapse:
        bias = bias_of(source.op)
        weight = scale_rows(np.asarray(source.op.weight, np.float64), rows)
        op = nir.Linear(weight) if bias is None else with_weights(source.op, weight, bias * rows)
        graph.update(source.name, op=op)
    elif source.kind == "Collect":
        graph.update(source.name, op=replace(source.op, bias=source.op.bias * factor))
        for feed in graph.in_edges(source.name):
            _multiply(graph, feed, factor)
    elif source.kind == "Encode":
        if len(graph.out_edges(source.name)) > 1:  # the others take the input as it is
            own = source.with_(name=graph.unique(f"{source.name}.{edge.dst}"))
            graph.disconnect(edge)
            graph.add(own, graph.in_edges(source.name)[0].src)
            graph.connect(edge._replace(src=own.name))
            source = own
        scale = Node(
            graph.unique(f"{edge.dst}.normalise"),
            nir.Scale(factor),
            source=graph[edge.dst].source,
            placement=Placement("host", "thresholds or gains differ: put into the input"),
        )
        graph.insert_on(graph.in_edges(source.name)[0], scale)


def vars_of(op: Any) -> dict[str, Any]:
    """Constructor arguments of a NIR neuron."""
    return {key: value for key, value in vars(op).items() if key not in ("input_type", "output_type", "metadata")}


def _feeds_no_neuron(graph: Graph, node: Node) -> bool:
    return not all(ends_synapses(consumer) for consumer in graph.successors(node.name))


def _two_synapses_in_a_row(node: Node) -> Finding:
    return Finding(
        "E0434",
        "weights that feed no neuron: on the chip, every layer of synapses ends at a layer of neurons",
        node=node.name,
        source=node.source,
        supported="a ReLU or a spiking neuron after every convolution and linear layer",
        suggestion="put an activation behind it, or merge it with the next layer",
    )
