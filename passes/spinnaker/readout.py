"""Read spikes where they are fired: linear layers behind the last neurons are the host's, once per sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.dynamics import discretize
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.ops import Decode, bias_of
from hsnn_compiler.ir.stages import is_potential
from hsnn_compiler.ir.types import Placement
from hsnn_compiler.passes.base import Pass, PassContext, PassResult, listing
from hsnn_compiler.passes.batchnorm import with_weights
from hsnn_compiler.passes.decodes import add_to, is_read
from hsnn_compiler.passes.one_to_one import is_per_channel, one_to_one
from hsnn_compiler.passes.pooling import WEIGHTLESS
from hsnn_compiler.reference.codes import worth_of_one

WHY = "linear, behind the last neurons: computed from their spikes, once per sample"


@dataclass(frozen=True)
class ReadOnHost(Pass):
    """Move every Decode in front of the linear ops that lie between it and neurons, and those to the host.

    Each kind of `Decode` is linear in the steps: decode(W s + b) = W decode(s) + b decode(1), with decode(1) what it
    makes of a 1 in every step. So the layer runs once per sample, on counts of spikes, in the host's own precision; the
    chip needs no neurons that only add up. Those of the model itself - integrators that never fire and keep all,
    read at the end - go, too: v_T = v_0 + sum_t (g I_t + l).
    """

    name: ClassVar[str] = "read-on-host"
    requires: ClassVar[tuple[str, ...]] = ("direct",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        graph = graph.copy()
        moved: list[str] = []
        waiting = [decode.name for decode in graph.of_kind("Decode")]
        while waiting:
            decode = graph[waiting.pop()]
            values = []
            for edge in graph.in_edges(decode.name):
                op = _op_on_host(graph, decode, edge)
                if op is not None:
                    value, ahead = _move(graph, decode, edge, *op)
                    values.append(value)
                    waiting.append(ahead)
                    moved.append(edge.src)
            if values:
                add_to(graph, decode, values)
        findings = [finding for decode in graph.of_kind("Decode") for finding in _unread(graph, decode)]
        notes = (f"on the host, from spikes: {listing(dict.fromkeys(reversed(moved)))}",) if moved else ()
        return PassResult(graph, bool(moved), notes, tuple(findings))


def _op_on_host(graph: Graph, decode: Node, edge: Edge) -> tuple[Any, Decode] | None:
    """What the host runs in place of what an edge comes from, and the Decode in front of it; None if it stays."""
    node = graph[edge.src]
    if edge.delay or any(before.delay for before in graph.in_edges(node.name)) or not node.on_chip:
        return None
    if is_potential(node):
        return _integrator(graph, node, decode.op)
    if node.kind in WEIGHTLESS:
        return node.op, decode.op
    if not node.is_synapse:
        return None
    bias = bias_of(node.op)
    if bias is None:
        return node.op, decode.op
    worth = worth_of_one(decode.op, graph.timesteps or 1)
    return with_weights(node.op, node.op.weight, np.asarray(bias, np.float64) * worth), decode.op


def _integrator(graph: Graph, node: Node, decode: Decode) -> tuple[Any, Decode] | None:
    """An integrator that forgets nothing, read at the end: the sum of what it gets, times its gain, and a constant."""
    assert node.dynamics is not None
    step = discretize(node.op, node.dynamics)
    if decode.kind != "last" or not step.is_basic or step.current_decay is not None or np.any(step.decay != 1):
        return None
    constant = decode.gain * (step.v_init + (graph.timesteps or 1) * step.leak)
    gain = np.asarray(step.gain)
    if not (len(node.shape) == 1 or (len(node.shape) in (2, 3) and is_per_channel(gain) and is_per_channel(constant))):
        return None
    op = one_to_one(gain.reshape(()) if gain.size == 1 else gain, node.shape)
    size = node.shape[:1]
    flat = np.broadcast_to(constant.reshape(-1), size)
    return with_weights(op, op.weight, flat.copy()), Decode("sum", decode.gain)


def _move(graph: Graph, decode: Node, edge: Edge, op: Any, ahead: Decode) -> tuple[str, str]:
    """Put an op behind a Decode of its own; the names of the op on the host and of that Decode."""
    node = graph[edge.src]
    name = graph.unique(f"{node.name}.decode")
    graph.add(decode.with_(name=name, op=ahead, type=None), *(e._replace(dst=name) for e in graph.in_edges(node.name)))
    graph.disconnect(edge)
    host = Node(f"{node.name}.host", op, placement=Placement("host", WHY), source=node.source)
    if graph.out_edges(node.name):
        host = host.with_(name=graph.unique(host.name))
    else:
        graph.remove(node.name)
        host = host.with_(name=node.name)
    graph.add(host, name)
    return host.name, name


def _unread(graph: Graph, decode: Node) -> list[Finding]:
    """What a Decode reads that the host cannot have from the chip."""
    found = []
    for edge in graph.in_edges(decode.name):
        node = graph[edge.src]
        text = ""
        if edge.delay or not is_read(node):
            text = f"a result behind {node.kind}, which is neither neurons nor linear"
        elif is_potential(node) and decode.op.kind != "last":
            text = f"a potential read in every step (Decode {decode.op.kind})"
        if text:
            supported = "spikes of neurons, linear layers behind them, the potential of a leaky integrator at the end"
            found.append(Finding("E0512", text, node=node.name, source=node.source, supported=supported))
    return found
