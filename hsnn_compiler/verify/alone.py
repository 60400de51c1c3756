"""What one stage costs by itself, or one layer in one stage: its change alone, in a network that is exact otherwise.

A converted network is exact where its neurons are activations again: `as_values` puts them back, at any stage, in the
units of that stage. *Conversion of one layer alone* leaves that layer a population of neurons and lets everything else
be values. *Quantisation of one layer alone* takes weights, bias and neuron parameters of that layer from the quantised
graph. A network that brought its own neurons is exact as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import nir
import numpy as np

from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Decode, Encode, NoOp
from hsnn_compiler.ir.types import Placement
from hsnn_compiler.passes.base import BOUNDED, EXACT, LOSSY
from hsnn_compiler.reference.codes import worth_of_one
from hsnn_compiler.verify.replay import Outcome, batch_size
from hsnn_compiler.verify.runner import Runner
from hsnn_compiler.verify.stages import Stage, completes


@dataclass(frozen=True)
class Alone:
    """What one change costs in an otherwise exact network.

    Attributes:
        stage: whose change.
        layer: the population; empty for all of them together.
        accuracy, agreement: shares; None without labels, or without classes.
        error: relative root mean square error of the outputs.
    """

    stage: str
    layer: str
    accuracy: float | None
    agreement: float | None
    error: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def variants(stages: list[Stage], only: str | None = None) -> dict[tuple[str, str], Graph]:
    """By stage and layer, the graph in which this change stands alone. Stages that have none are not in it.

    Args:
        stages: of one compilation.
        only: name of the one stage wanted, None for all.
    """
    found: dict[tuple[str, str], Graph] = {}
    for before, stage, after in zip(stages, stages[1:], [*stages[2:], None], strict=False):
        if only is not None and stage.name != only:
            continue
        if stage.contract == LOSSY and (after is None or not completes(after.name)):
            for name in stage.scales:
                made = as_values(stage, stage.graph, keep=name)
                if made is not None:
                    found[stage.name, name] = made
        if stage.contract == BOUNDED and not stage.integers:
            found |= _quantised(before, stage)
    return found


def measure(
    graphs: Mapping[tuple[str, str], Graph],
    x: np.ndarray,
    y: np.ndarray | None,
    source: Callable[[np.ndarray], np.ndarray],
    progress: Callable[[str, int, int], None],
) -> list[Alone]:
    """Run the variants on all samples; `source` gives the outputs [samples, classes] of the source."""
    stages = [Stage(name, LOSSY, graph) for (name, _), graph in graphs.items()]
    if not stages:
        return []
    runners = [Runner(stage, ()) for stage in stages]
    outcomes = [Outcome(stage.name, stage.contract) for stage in stages]
    size = batch_size(stages)
    for first in range(0, len(x), size):
        batch = x[first : first + size]
        truth, labels = source(batch), None if y is None else y[first : first + size]
        for runner, outcome in zip(runners, outcomes, strict=True):
            outcome.count(runner.run(batch).outputs, truth, labels)
        progress("alone", first + len(batch), len(x))
    return [
        Alone(stage, layer, done.accuracy, done.agreement, done.output.error)
        for (stage, layer), done in zip(graphs, outcomes, strict=True)
    ]


def first_loss(stages: list[Stage], outcomes: list[Outcome]) -> list[Alone]:
    """Of the first stages that lose: nothing was lost before them, so what they cost is what they cost alone."""
    for i, (stage, outcome) in enumerate(zip(stages, outcomes, strict=True)):
        if stage.contract != EXACT and (i + 1 == len(stages) or not completes(stages[i + 1].name)):
            if stage.contract != LOSSY:
                return []  # measured as a variant
            return [Alone(stage.name, "", outcome.accuracy, outcome.agreement, outcome.output.error)]
    return []


def as_values(stage: Stage, graph: Graph, keep: str | None = None) -> Graph | None:
    """The network with activations in the place of converted neurons, except for one layer.

    Args:
        stage: knows what spikes and thresholds of its layers stand for.
        graph: its graph, or one with the same layers.
        keep: a layer that stays a population, driven by a constant and read as a rate.

    Returns:
        None where some neuron was not converted, or spikes count by when they come.
    """
    if graph.of_kind("Collect", "FirstSpike") or any(node.is_event_source for node in graph):
        return None
    neurons = [node for node in graph if node.is_neuron]
    if not stage.scales or not all(_returns(node, stage) for node in neurons):
        return None
    steps = graph.timesteps or 1
    twin = graph.copy()
    twin.timesteps = steps if keep else None
    for node in graph.of_kind("Encode", "Decode"):
        factor = _factor(graph, node, steps)
        twin.update(
            node.name, op=NoOp(node.kind) if factor == 1 else nir.Scale(np.full((1,) * len(node.shape), factor))
        )
    for node in neurons:
        if not node.is_spiking:
            twin.update(node.name, op=NoOp("readout"), dynamics=None)
        elif node.name == keep:
            _between(twin, node.name, Encode("direct"), Decode("mean"))
        else:
            unit = stage.thresholds[node.name] / np.asarray(node.op.v_threshold, np.float64)
            _between(twin, node.name, nir.Scale(unit), nir.Scale(1 / stage.scales[node.name]))
            twin.update(node.name, op=node.was, was=None, dynamics=None)
    return infer_types(twin)


def _quantised(before: Stage, stage: Stage) -> dict[tuple[str, str], Graph]:
    found: dict[tuple[str, str], Graph] = {}
    converted = bool(stage.scales)
    whole = as_values(stage, stage.graph) if converted else stage.graph
    if whole is not None:
        found[stage.name, ""] = whole
    for node in stage.graph:
        synapses = [source.name for source in stage.graph.predecessors(node.name) if source.is_synapse]
        names = [node.name, *synapses]
        if not node.is_neuron or not node.on_chip or not synapses or not all(name in before.graph for name in names):
            continue
        swapped = before.graph.copy()
        for name in names:
            swapped.update(name, op=stage.graph[name].op, dynamics=stage.graph[name].dynamics)
        made = as_values(stage, swapped) if converted else swapped
        if made is not None:
            found[stage.name, node.name] = made
    return found


def _returns(node: Node, stage: Stage) -> bool:
    """Whether a neuron can be a value again: it was an activation, or it only adds up."""
    if node.is_spiking:
        return node.was is not None and node.name in stage.scales and node.name in stage.thresholds
    return node.dynamics is not None and node.dynamics.reset == "none" and node.dynamics.decay in (0.0, 1.0)


def _factor(graph: Graph, node: Node, steps: int) -> float:
    """What an Encode or Decode multiplies a value by that is the same in every step."""
    if node.kind == "Encode":
        return 1.0
    source = graph.predecessors(node.name)[0]
    if node.op.kind == "last" and source.is_neuron and source.dynamics is not None and source.dynamics.decay == 1.0:
        return float(node.op.gain) * steps  # an integrator read at the end
    return worth_of_one(node.op, steps)


def _between(graph: Graph, name: str, before: Any, after: Any) -> None:
    """Put one op on everything that arrives at a node, and one behind it."""
    where = Placement("host", "measured alone")
    inner = Node(graph.unique(f"{name}.before"), before, placement=where)
    graph.add(inner)
    for edge in graph.in_edges(name):
        graph.disconnect(edge)
        graph.connect(edge._replace(dst=inner.name))
    graph.connect(Edge(inner.name, name))
    graph.insert_after(name, Node(graph.unique(f"{name}.after"), after, placement=where))
