"""Remove what does nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.passes.base import Pass, PassContext, PassResult, count


@dataclass(frozen=True)
class RemoveNoOps(Pass):
    """Remove dropout in eval mode, identities, and flattening of what is flat."""

    name: ClassVar[str] = "remove-noops"
    requires: ClassVar[tuple[str, ...]] = ("typed",)
    ensures: ClassVar[tuple[str, ...]] = ("no-noops",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        graph = graph.copy()
        idle = [
            node.name
            for node in graph
            if node.kind == "NoOp" or (node.kind == "Flatten" and graph.predecessors(node.name)[0].shape == node.shape)
        ]
        for name in idle:
            graph.bypass(name)
        notes = (f"removed {count(len(idle), 'node')}",) if idle else ()
        return PassResult(graph, bool(idle), notes)
