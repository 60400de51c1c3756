"""Write a compiled graph as a folder for py-spinnaker2."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hsnn_compiler.backends.spinnaker import hosts
from hsnn_compiler.backends.spinnaker.emit import EXAMPLE
from hsnn_compiler.backends.spinnaker2.executor import Spinnaker2Executor
from hsnn_compiler.backends.spinnaker2.lower import lower
from hsnn_compiler.backends.spinnaker2.mac_array import mac_layers
from hsnn_compiler.backends.spinnaker2.netlist import UNTESTED
from hsnn_compiler.backends.spinnaker2.script import write_script
from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph


def check(graph: Graph) -> list[Finding]:
    """What onnxruntime on the host would not do, and what is to be said of every program."""
    text = f"network.py and the arithmetic of the reference are {UNTESTED}"
    findings = [*hosts.problems(graph), Finding("W0579", text, suggestion="compare a few samples on a chip first")]
    layers = mac_layers(graph)
    if layers:
        names = ", ".join(layer["node"] for layer in layers)
        macs = sum(layer["macs"] for layer in layers)
        text = f"layers for the chip's multiply-accumulate arrays, here on the host: {names}; {macs:,} MACs a sample"
        findings.append(Finding("I0578", text))
    return findings


def emit(graph: Graph, directory: Path, title: str, example: np.ndarray | None = None) -> None:
    """Write the netlist, ``network.py``, the host's models and an example into a folder.

    Args:
        graph: scheduled, with int8 weights, see `lower`.
        directory: an existing folder.
        title: first line of the script's docstring.
        example: inputs [samples, ...] that the script runs, and compares with what the reference makes of them.
    """
    netlist = lower(graph)
    netlist.save(directory)
    write_script(netlist, directory, title)
    hosts.write_models(graph, directory)
    if example is not None:
        outputs = Spinnaker2Executor(graph).run(example).outputs
        arrays = {f"out.{name}": array for name, array in outputs.items()}
        np.savez(directory / EXAMPLE, x=example, **arrays)  # type: ignore[arg-type]
