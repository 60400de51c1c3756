"""A graph as a table, as JSON and as a drawing for Graphviz."""

from __future__ import annotations

import json

import numpy as np

from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.records import NODE_FIELDS, to_record
from hsnn_compiler.report.steps import describe_step
from hsnn_compiler.report.table import Cell, Table

_COLOURS = {"chip": "#cfe8d5", "host": "#dde3f0", "": "#f2f2f2"}


def to_table(graph: Graph) -> Table:
    """One row per node: what it is, what it carries, where it runs, where it came from."""
    rows: list[tuple[Cell, ...]] = []
    for node in graph:
        feeds = ", ".join(edge.src + (f" +{edge.delay}" if edge.delay else "") for edge in graph.in_edges(node.name))
        rows.append(
            (
                node.name,
                node.kind,
                str(node.type or ""),
                parameters(node),
                describe_step(node),
                feeds,
                node.placement.where if node.placement else "",
                str(node.source),
            )
        )
    has_time = any(node.type is not None and node.type.coding.per_step for node in graph.of_kind("Input"))
    steps = "time comes with the data" if has_time else "no time yet"
    steps = steps if graph.timesteps is None else f"T = {graph.timesteps}"
    title = f"{graph.name}: {len(graph)} nodes, {sum(parameters(n) or 0 for n in graph):,} parameters, {steps}"
    return Table(title, ("node", "op", "yields", "parameters", "step", "from", "where", "source"), rows)


def parameters(node: Node) -> int | None:
    """Number of weights and biases of a node, None where it has none."""
    arrays = [getattr(node.op, name, None) for name in ("weight", "bias")]
    sizes = [np.size(array) for array in arrays if array is not None]
    return sum(sizes) if sizes else None


def to_json(graph: Graph) -> str:
    """Everything but the numbers in large arrays, of which shape and type are given."""
    nodes = []
    for node in graph:
        kind, record = to_record(node.op)
        entry: dict[str, object] = {
            "name": node.name,
            "op": kind,
            "parameters": {k: _plain(v) for k, v in record.items()},
        }
        for field in NODE_FIELDS:
            value = getattr(node, field)
            entry[field] = None if value is None else {k: _plain(v) for k, v in to_record(value)[1].items()}
        nodes.append(entry)
    edges = [edge._asdict() for edge in graph.edges]
    return json.dumps({"name": graph.name, "timesteps": graph.timesteps, "nodes": nodes, "edges": edges}, indent=1)


def to_dot(graph: Graph) -> str:
    """A drawing for Graphviz: ``hsnn-compile inspect X --format dot | dot -Tsvg > x.svg``."""
    lines = [
        f"digraph {json.dumps(graph.name)} {{",
        '  rankdir=TB; node [shape=box, style="filled,rounded", fontname=Helvetica];',
    ]
    for node in graph:
        where = node.placement.where if node.placement else ""
        label = f"{node.name}\\n{node.kind} {node.type or ''}"
        lines.append(f'  {json.dumps(node.name)} [label="{label}", fillcolor="{_COLOURS[where]}"];')
    for edge in graph.edges:
        label = f' [label="+{edge.delay}"]' if edge.delay else ""
        lines.append(f"  {json.dumps(edge.src)} -> {json.dumps(edge.dst)}{label};")
    return "\n".join([*lines, "}"]) + "\n"


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist() if value.size <= 16 else {"shape": list(value.shape), "dtype": str(value.dtype)}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        return list(value)
    return value
