"""Write a quantised, scheduled graph as a Python module that builds Lava processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from hsnn_compiler.backends.host.runner import onnx_runner
from hsnn_compiler.backends.lava import host_stage, run_script
from hsnn_compiler.backends.lava.layout import to_lava
from hsnn_compiler.backends.lava.processes import is_ours
from hsnn_compiler.backends.lava.program_writer import ProgramWriter
from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.quant import NeuronQuant, WeightQuant
from hsnn_compiler.ir.stages import host_stages, is_host, middle_stages
from hsnn_compiler.reference.batches import Inputs
from hsnn_compiler.reference.loihi_ends import mantissas, spike_trains, values
from hsnn_compiler.reference.loihi_executor import LoihiExecutor

NETWORK, ARRAYS, EXAMPLE, PROCESSES = "network.py", "arrays.npz", "example.npz", "hsnn_lava"


def check(graph: Graph) -> list[Finding]:
    """Everything that Lava and onnxruntime cannot run; without errors it can be emitted."""
    findings = run_script.problems(graph)
    for node in graph:
        if not node.on_chip:
            continue
        message = ""
        if node.kind == "Flatten" and len(node.shape) != 1:
            message = f"flattening to {list(node.shape)}"
        elif node.kind.startswith("Conv") and isinstance(node.quant, WeightQuant) and node.quant.exponent:
            message = "a weight exponent on a convolution, which Lava ignores"
        elif node.is_population and len(node.shape) > 3:
            message = f"a population of shape {list(node.shape)}"
        elif isinstance(node.quant, NeuronQuant) and np.any(node.quant.v_init) and not is_ours(node):
            message = "a start potential other than zero, except with reset by subtraction or decays per neuron"
        if message:
            findings.append(
                Finding(
                    "E0450",
                    f"Lava has no process for {message}",
                    node=node.name,
                    source=node.source,
                    supported="populations of shape [neurons], [channels, length] or [channels, height, width]",
                )
            )
    return findings


def emit(graph: Graph, directory: Path, title: str, example: np.ndarray | None = None) -> None:
    """Write ``network.py``, its arrays, and our own Lava processes into `directory`.

    Args:
        graph: quantised and scheduled.
        directory: an existing folder.
        title: first line of the module's docstring.
        example: inputs [samples, ...] that ``python network.py`` replays.
    """
    writer = ProgramWriter(graph)
    writer.write()
    (directory / NETWORK).write_text(writer.text(title, depth_of(graph), leaving(graph)), encoding="utf-8")
    plain = run_script.describe(writer)
    np.savez(directory / ARRAYS, **writer.arrays)  # type: ignore[arg-type]
    if example is not None:
        np.savez(directory / EXAMPLE, **_replay(graph, example))  # type: ignore[arg-type]
    (directory / host_stage.FOLDER).mkdir()
    if run_script.write_models(graph, directory / host_stage.FOLDER):
        run_script.write(directory, plain)
    copy_processes(directory)


def copy_processes(directory: Path) -> None:
    """Put our own Lava processes beside a network that needs them."""
    shutil.copytree(
        Path(__file__).parent / PROCESSES,
        directory / PROCESSES,
        ignore=shutil.ignore_patterns("__pycache__"),
    )


def leaving(graph: Graph) -> list[Node]:
    """Populations whose spikes or potentials the host reads."""
    reads = (read.name for stage in host_stages(graph) for read in stage.reads)
    return [graph[name] for name in dict.fromkeys(reads) if not is_host(graph[name])]


def depth_of(graph: Graph) -> int:
    """Depth of the deepest population: steps between the start of a sample and its result, less T."""
    return max(node.schedule.depth for node in graph if node.schedule)


def chip_inputs(executor: LoihiExecutor, inputs: Inputs) -> dict[str, np.ndarray]:
    """What the host gives the chip, by node, in Lava's layout: biases [samples, ...], spikes [samples, time, ...]."""
    graph = executor.graph
    given = {**mantissas(executor, inputs), **spike_trains(executor, inputs)}
    known = values(executor, inputs, host_stage.given(graph, middle_stages(graph)))
    return {
        **{name: to_lava(array, graph[name].shape) for name, array in given.items()},
        **{host_stage.GIVEN + name: array for name, array in known.items()},
    }


def _replay(graph: Graph, example: np.ndarray) -> dict[str, np.ndarray]:
    """Example samples as the chip sees them, and what the integer reference makes of them, in Lava's layout."""
    executor = LoihiExecutor(graph, hosts=onnx_runner)
    arrays = {"x": example}
    arrays |= {f"in.{name}": array for name, array in chip_inputs(executor, example).items()}
    record = [(node.name, "s" if node.is_spiking else "v") for node in leaving(graph)]
    for (name, variable), trace in executor.run(example, record).trace.items():
        result = trace.sum(1, dtype=np.int64) if variable == "s" else trace[:, -1]
        arrays[f"out.{name}"] = to_lava(result, graph[name].shape)
    return arrays
