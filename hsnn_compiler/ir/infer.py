"""Shape and coding inference: fill in `Node.type` from the table of `spec`."""

from __future__ import annotations

from collections import deque

from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.shapes import ShapeError
from hsnn_compiler.ir.spec import output_type
from hsnn_compiler.ir.types import TensorType


def infer_types(graph: Graph) -> Graph:
    """A copy in topological order in which every node has its type. Misfits are refused together (E0421).

    In a loop a node gets its type from those of its inputs that are known by then, and is
    checked against the others once they are. A Concat needs them all; one that waits for itself gets
    the type it has already, if any, and is checked in the same way.
    """
    graph = graph.sorted()
    types: dict[str, TensorType] = {}
    findings: dict[str, str] = {}
    partly: list[str] = []
    _settle(graph, [node.name for node in graph], types, findings, partly)
    for node in graph.of_kind("Concat"):
        if node.name not in types and node.type is not None:
            types[node.name] = node.type
            partly.append(node.name)
            _settle(graph, [edge.dst for edge in graph.out_edges(node.name)], types, findings, partly)
    for name in partly:
        known = [types[source.name] for source in graph.predecessors(name) if source.name in types]
        try:
            if output_type(graph[name], known) != types[name]:
                findings[name] = "its inputs, some of which come from a loop, do not fit together"
        except ShapeError as error:
            findings[name] = str(error)
    if not findings:
        lost = [node.name for node in graph if node.name not in types]
        findings = dict.fromkeys(lost, "nothing from outside feeds the loop it lies on, so its shape is not known")
    if findings:
        raise HsnnError(
            [Finding("E0421", text, node=name, source=graph[name].source) for name, text in findings.items()]
        )
    for name, tensor in types.items():
        graph.update(name, type=tensor)
    return graph


def _settle(
    graph: Graph, names: list[str], types: dict[str, TensorType], findings: dict[str, str], partly: list[str]
) -> None:
    """Type these nodes, and everything that can be typed in consequence."""
    waiting = deque(names)
    while waiting:
        name = waiting.popleft()
        sources = graph.predecessors(name)
        known = [types[source.name] for source in sources if source.name in types]
        needed = len(sources) if graph[name].kind == "Concat" else min(1, len(sources))
        if name in types or name in findings or len(known) < needed:
            continue  # done already, or comes again as soon as something that feeds it is known
        if any(source.name in findings for source in sources):
            continue  # what is wrong there was said
        missing = len(sources) - len(known) if needed == 1 else 0
        try:  # what is still to come counts as an input, of which only the number is known
            types[name] = output_type(graph[name], known + known[:1] * missing)
        except ShapeError as error:
            findings[name] = str(error)
            continue
        if len(known) < len(sources):
            partly.append(name)
        waiting.extend(edge.dst for edge in graph.out_edges(name) if edge.dst not in types)
