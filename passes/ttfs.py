"""Converted activations as neurons that fire once, the earlier the larger the activation."""

from __future__ import annotations

import numpy as np

from hsnn_compiler.ir.graph import Edge, Graph
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import HostCall, NoOp
from hsnn_compiler.passes.events.regions import SPIKES, arriving, insert_collects, separate
from hsnn_compiler.passes.readout import move_decode_up

WHY_FIRST_SPIKE = "neurons that fire once, the earlier the larger the activation: custom microcode on the chip"


def collect_first_spikes(graph: Graph) -> Graph:
    """Put a `Collect` in front of all that spikes reach: first-spike neurons, and what leaves the chip.

    A spike at step t stands for (T - t)/T thresholds, so what arrives is known once the window is over:
    each layer works a window of T steps after the one before. A constant current from a
    direct Encode needs no window. Ops without weights at the chip's end move to the host with the result.
    """
    graph = graph.copy()
    for decode in graph.of_kind("Decode"):
        move_decode_up(graph, decode.name)
    graph = infer_types(graph)
    separate(graph)
    ends = graph.of_kind("FirstSpike", "Decode")
    wanted = {node.name: edges for node in ends if (edges := arriving(graph, node.name, SPIKES))}
    return insert_collects(infer_types(graph), wanted, "ttfs")


def values_instead_of_windows(graph: Graph) -> None:
    """In a graph without time, in place: a `Collect` is nothing but the bias it adds."""
    for node in graph.of_kind("Collect"):
        graph.update(node.name, op=NoOp("Collect"))
        if np.any(node.op.bias):
            call = HostCall("torch.add", "x0, c0", node.shape, {"c0": np.asarray(node.op.bias, np.float32)})
            added = node.with_(name=graph.unique(f"{node.name}.bias"), op=call)
            graph.add(added)
            for edge in graph.out_edges(node.name):
                graph.disconnect(edge)
                graph.connect(edge._replace(src=added.name))
            graph.connect(Edge(node.name, added.name, "0"))
