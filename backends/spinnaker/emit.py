"""Write a compiled graph as a folder that SpiNNaker, or NEST, can run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from hsnn_compiler.backends.spinnaker import hosts, traps
from hsnn_compiler.backends.spinnaker.lower import lower
from hsnn_compiler.backends.spinnaker.script import write_script
from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.targets import Target

EXAMPLE = "example.npz"


def check(graph: Graph, target: Target) -> list[Finding]:
    """Everything that the machine, or onnxruntime on the host, would not do; without errors it can be emitted."""
    return [*hosts.problems(graph), *traps.check(lower(graph), target)]


def emit(graph: Graph, directory: Path, title: str, example: np.ndarray | None = None) -> None:
    """Write the netlist, ``network.py``, the host's models and an example into a folder.

    Args:
        graph: scheduled, see `lower`.
        directory: an existing folder.
        title: first line of the script's docstring.
        example: inputs [samples, ...] that the script runs, and compares with what the reference makes of them.
    """
    netlist = lower(graph)
    netlist.save(directory)
    write_script(netlist, directory, title)
    hosts.write_models(graph, directory)
    if example is not None:
        outputs = FloatExecutor(graph, torch.float64).run(example).outputs
        arrays = {f"out.{name}": array for name, array in outputs.items()}
        np.savez(directory / EXAMPLE, x=example, **arrays)  # type: ignore[arg-type]
