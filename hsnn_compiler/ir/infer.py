"""Shape and coding inference: fill in `Node.type` from the table of `spec`."""

from __future__ import annotations

from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.shapes import ShapeError
from hsnn_compiler.ir.spec import output_type


def infer_types(graph: Graph) -> Graph:
    """A copy in topological order in which every node has its type. Misfits are refused together (E0421)."""
    graph = graph.sorted()
    findings = []
    for node in graph:
        inputs = [source.type for source in graph.predecessors(node.name)]
        known = [tensor for tensor in inputs if tensor is not None]
        if len(known) < len(inputs):
            continue  # a predecessor was refused already
        try:
            graph.update(node.name, type=output_type(node, known))
        except ShapeError as error:
            graph.update(node.name, type=None)
            findings.append(Finding("E0421", str(error), node=node.name, source=node.source))
    if findings:
        raise HsnnError(findings)
    return graph
