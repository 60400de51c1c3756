"""The ways on which signals reach a population or an Output: what lies between, and the biases that join it there.

Everything between is linear and the same in every step, so the delays of a way add up, wherever on it they are.
A bias comes from the op that holds it and only waits for what comes after that: an edge with a delay of n
delivers no bias before step n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.dynamics import delay_steps
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.ops import bias_of
from hsnn_compiler.passes.raw.folding import without_bias
from hsnn_compiler.reference.torch_ops import bind

LINEAR_OPS = ("Affine", "Linear", "Conv1d", "Conv2d", "Scale", "AvgPool2d", "SumPool2d")
ROUTING_OPS = ("Flatten", "Delay", "NoOp")


@dataclass(frozen=True)
class Way:
    """One way from a population or an input to a population or an Output.

    Attributes:
        source: name of where it begins.
        routing: what it passes before any weights: Flatten, and Delay with a delay of its own for each neuron.
        ops: the linear ops after that, with Flatten among them.
        delay: steps of all its edges, and of its other Delays.
    """

    source: str
    routing: tuple[Node, ...]
    ops: tuple[Node, ...]
    delay: int


@dataclass
class Arrivals:
    """All that arrives at a node.

    Attributes:
        ways: see `Way`.
        constants: by the step from which on they arrive, in the node's shape, float64.
    """

    ways: list[Way] = field(default_factory=list)
    constants: dict[int, np.ndarray] = field(default_factory=dict)


def arrivals(graph: Graph, sink: Node) -> Arrivals:
    """Everything that arrives at a population or an Output. Refused: E0434 weights on a loop without neurons, E0455."""
    found = Arrivals()
    for edge in graph.in_edges(sink.name):
        _go_back(graph, edge, (), 0, sink, found)
    return found


def _go_back(graph: Graph, edge: Edge, ops: tuple[Node, ...], delay: int, sink: Node, found: Arrivals) -> None:
    node, delay = graph[edge.src], delay + edge.delay
    if node.kind == "Input" or node.is_neuron:
        found.ways.append(_way(node, ops, delay))
        return
    if node in ops:
        raise refuse(
            "E0434",
            "weights on a loop without any neurons",
            node=node.name,
            source=node.source,
            supported="neurons in every loop",
        )
    bias = bias_of(node.op) if node.is_synapse else None
    if bias is not None and np.any(bias):
        value = _through(node, np.asarray(bias, np.float64), ops).reshape(sink.shape)
        wait = delay + sum(_uniform(op) or 0 for op in ops)
        found.constants[wait] = found.constants.get(wait, np.zeros(sink.shape)) + value
    for before in graph.in_edges(node.name):
        _go_back(graph, before, (node, *ops), delay, sink, found)


def _way(source: Node, ops: Sequence[Node], delay: int) -> Way:
    routing: list[Node] = []
    linear: list[Node] = []
    for node in ops:
        steps = _uniform(node)
        if steps is not None:
            delay += steps
        elif node.kind == "Delay" and linear:
            raise refuse(
                "E0455",
                "a Delay with several delays behind weights",
                node=node.name,
                source=node.source,
                supported="one delay for all of its neurons, or a Delay before the weights",
            )
        elif linear or node.kind in LINEAR_OPS:
            linear.append(node)
        else:
            routing.append(node)
    return Way(source.name, tuple(routing), tuple(linear), delay)


def _uniform(node: Node) -> int | None:
    """Steps that a node delays everything by; None where it does something else."""
    if node.kind == "NoOp":
        return 0
    if node.kind != "Delay" or node.dynamics is None:
        return None
    steps = delay_steps(node.op, node.dynamics)
    return int(steps.flat[0]) if np.all(steps == steps.flat[0]) else None


def _through(node: Node, bias: np.ndarray, ops: Sequence[Node]) -> np.ndarray:
    """What becomes of a bias on its way through the ops behind it."""
    wide = bias.reshape(-1, *[1] * (len(node.shape) - 1)) if node.op.weight.ndim > 2 else bias
    value = torch.from_numpy(np.broadcast_to(wide, node.shape).copy())[None]
    for op in ops:
        if _uniform(op) is None and op.kind != "Delay":
            value = bind(without_bias(op.op), torch.float64)(value)
    return value[0].numpy()
