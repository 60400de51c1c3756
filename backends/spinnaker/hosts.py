"""The stages of the host around the turns of the chip, as plain data and as ONNX models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.stages import host_stages, is_host, stage_graph

FOLDER = "host"


def stages_of(graph: Graph) -> list[dict[str, Any]]:
    """What runs on the host, in order, as the netlist keeps it.

    ``number``: it runs before that turn of the chip; ``model``: its file; ``reads``: by the name of what it needs,
    its ``kind`` (``spikes``, all of a window [time, ...]; ``potential``, the last of a window; ``value``; ``series``,
    values for every step), its ``shape`` without time, and whether it is on the ``chip``; ``gives``: by the name of
    what others need of it, its shape, and whether it has ``steps``.
    """
    found = []
    for stage in host_stages(graph):
        reads = {
            read.name: {
                "kind": read.kind,
                "shape": list(graph[read.name].shape),
                "chip": not is_host(graph[read.name]),
            }
            for read in stage.reads
        }
        gives = {
            name: {"shape": list(node.shape), "steps": bool(node.type and node.type.coding.per_step)}
            for name in stage.gives
            for node in [graph[name]]
        }
        found.append({"number": stage.number, "model": f"{stage.name}.onnx", "reads": reads, "gives": gives})
    return found


def problems(graph: Graph) -> list[Finding]:
    """What of the host's stages has no form in ONNX, in which alone a bundle holds them (E0439)."""
    from hsnn_compiler.backends.host import onnx_export

    way_out = "compile for loihi2, where the ends of a program may stay in PyTorch"
    return [
        replace(finding, suggestion=finding.suggestion or way_out)
        for stage in host_stages(graph)
        for finding in onnx_export.problems(stage_graph(graph, stage))
    ]


def write_models(graph: Graph, directory: Path) -> None:
    """Write every stage as an ONNX model into ``host/``. E0439 where one cannot be."""
    from hsnn_compiler.backends.host.onnx_export import to_onnx

    folder = directory / FOLDER
    folder.mkdir()
    for stage in host_stages(graph):
        part = stage_graph(graph, stage)
        (folder / f"{stage.name}.onnx").write_bytes(to_onnx(part, part.name))
