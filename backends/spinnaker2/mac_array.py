"""Layers of the host that a SpiNNaker 2 chip could compute itself, in the multiply-accumulate arrays of its cores."""

from __future__ import annotations

from typing import Any

import numpy as np

from hsnn_compiler.ir.fan_out import fan_out
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.stages import host_stages


def mac_layers(graph: Graph) -> list[dict[str, Any]]:
    """Matrices and convolutions of values on the host, in order: ``stage``, ``node``, ``op``, ``macs``, ``int8_bytes``.

    ``macs`` counts multiply-accumulates of one call, ``int8_bytes`` what the weights take with 8 bits each.
    """
    found = []
    for stage in host_stages(graph):
        for name in stage.nodes:
            node = graph[name]
            if not node.is_synapse:
                continue
            shape = graph.predecessors(name)[0].shape
            macs = int(fan_out(node.op, np.ones(node.op.weight.shape, np.bool_), shape).sum())
            weights = int(node.op.weight.size)
            found.append({"stage": stage.name, "node": name, "op": node.kind, "macs": macs, "int8_bytes": weights})
    return found
