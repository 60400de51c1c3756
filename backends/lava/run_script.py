"""``run.py`` of a bundle: the whole program on one computer, and ``host/stages.json``, which it reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from hsnn_compiler.backends.lava import host_stage, processes
from hsnn_compiler.backends.lava.program_writer import ProgramWriter
from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.quant import STATE_SHIFT, CurrentQuant, FirstSpikeQuant, NeuronQuant
from hsnn_compiler.ir.stages import HostStage, host_stages, is_host, stage_graph

RUN, STAGES = "run.py", "stages.json"
_WAY_OUT = "the bundle has no run.py; hsnn-compile simulate runs it, with PyTorch"


def problems(graph: Graph) -> list[Finding]:
    """What of the host's stages has no form in ONNX.

    An error (E0439) between turns of the chip, where nothing else runs it. At the ends PyTorch does, as long as the
    program is run by this compiler: a warning (W0476).
    """
    from hsnn_compiler.backends.host import onnx_export

    found = []
    for stage in host_stages(graph):
        here = onnx_export.problems(stage_graph(graph, stage))
        is_end = not (stage.number and stage.feeds_chip)
        found += [replace(finding, code="W0476", suggestion=_WAY_OUT) for finding in here] if is_end else here
    return found


def write_models(graph: Graph, directory: Path) -> bool:
    """Write every stage of the host as an ONNX model; returns whether all of them could be.

    Raises:
        HsnnError: E0439 where one between turns of the chip could not.
    """
    from hsnn_compiler.backends.host.onnx_export import to_onnx

    whole = True
    for stage in host_stages(graph):
        part = stage_graph(graph, stage)
        try:
            model = to_onnx(part, part.name)
        except HsnnError:
            if stage.number and stage.feeds_chip:
                raise
            whole = False
            continue
        (directory / f"{stage.name}.onnx").write_bytes(model)
    return whole


def describe(writer: ProgramWriter) -> dict[str, Any]:
    """What ``run.py`` has to know of the program, as plain data; adds the constants of biases to the arrays."""
    graph = writer.graph
    return {
        "inputs": {node.name: list(node.shape) for node in graph.of_kind("Input")},
        "stages": [_stage(graph, stage) for stage in host_stages(graph)],
        "biases": {node.name: _bias(writer, node.name) for node in writer.populations if writer.has_bias(node)},
        "spikes": {node.name: list(node.shape) for node in writer.sources},
        "values": host_stage.given(graph, writer.hosts),
        "outputs": {node.name: graph.predecessors(node.name)[0].name for node in graph.of_kind("Output")},
    }


def write(directory: Path, plain: dict[str, Any]) -> None:
    """Write both files."""
    folder = directory / host_stage.FOLDER
    (folder / STAGES).write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    (directory / RUN).write_text(SCRIPT, encoding="utf-8")


def _stage(graph: Graph, stage: HostStage) -> dict[str, Any]:
    reads = {}
    for read in stage.reads:
        node = graph[read.name]
        reads[read.name] = {"kind": read.kind, "shape": list(node.shape), "chip": not is_host(node)}
        if read.kind == "potential":
            assert isinstance(node.quant, NeuronQuant)
            reads[read.name]["unit"] = node.quant.scale * 2**STATE_SHIFT
    return {"model": f"{stage.name}.onnx", "reads": reads, "gives": list(stage.gives)}


def _bias(writer: ProgramWriter, name: str) -> dict[str, Any]:
    node = writer.graph[name]
    assert isinstance(node.quant, (NeuronQuant, FirstSpikeQuant))
    values = {}
    for encode in writer.graph.predecessors(name):
        if isinstance(encode.quant, CurrentQuant):
            (value,) = writer.graph.predecessors(encode.name)
            values[value.name] = [encode.quant.unit, encode.quant.low, encode.quant.high]
    constant = f"{name}.constant"
    writer.array(constant, processes.in_lava_order(node.quant.bias_mant, node.shape))
    return {"shape": list(node.shape), "values": values, "constant": constant}


SCRIPT = '''\
"""Runs the whole program on this computer: the host's part on onnxruntime, the chip's part on Lava.

    python run.py data.npz [--out results.npz] [--samples N] [--backend lava|reference]

Takes the inputs from the first array of the file, or the one named x, [samples, ...]. Needs numpy, onnxruntime and
lava-nc, and no PyTorch. With --backend reference the chip's part runs on the compiler's integers instead, the same
numbers, far faster; that needs hsnn-compiler.
"""

import argparse
import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
PROGRAM = json.loads((HERE / "host" / "stages.json").read_text())


def run_on_lava(inputs):
    """Results of the program, by output, [samples, ...], for inputs [samples, ...] by name."""
    import network
    from hsnn_lava import Bias, from_lava, mantissas, session, simulate, to_lava

    def run_stage(stage, values, read):
        """One stage of the host, one sample after the other; adds what it gives to the values."""
        model = session(str(HERE / "host" / stage["model"]))
        arrays = {name: read(name, how) for name, how in stage["reads"].items()}
        names = [output.name for output in model.get_outputs()]
        samples = len(next(iter(arrays.values())))
        each = [model.run(names, {name: a[k : k + 1] for name, a in arrays.items()}) for k in range(samples)]
        for name, parts in zip(names, zip(*each)):
            values[name.removesuffix(".out")] = np.concatenate(parts)

    # 1. What needs only the inputs.
    values = {name: np.asarray(array, np.float32) for name, array in inputs.items()}
    ready = [stage for stage in PROGRAM["stages"] if not any(how["chip"] for how in stage["reads"].values())]
    for stage in ready[:1]:
        run_stage(stage, values, lambda name, how: values[name])

    # 2. What the chip is given: biases and spikes, and values for stages of the host in between.
    arrays = np.load(HERE / "arrays.npz")
    given = {}
    for name, bias in PROGRAM["biases"].items():
        given[name] = mantissas(Bias(tuple(bias["shape"]), 0, bias["values"], arrays[bias["constant"]]), values)
    for name, shape in PROGRAM["spikes"].items():
        given[name] = to_lava(values[name].astype(np.int32), tuple(shape))
    for name in PROGRAM["values"]:
        given["value." + name] = values[name]

    # 3. The chip, and the stages of the host between its turns.
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        record = {name: [signal] for name, signal in network.OUTPUTS.items()}
        recorded = simulate(network.Network(given), record, directory=directory)
        left = {name: network.windows(np.array(array), name) for (name, _), array in recorded.items()}

    # 4. The other stages once more, in order, to the outputs: the same numbers as in between.
    def read(name, how):
        if not how["chip"]:
            return values[name]
        window = from_lava(left[name], tuple(how["shape"]))
        if how["kind"] == "potential":
            return np.ascontiguousarray(window[:, -1].astype(np.float32) / np.float32(how["unit"]))
        return np.ascontiguousarray(window, np.float32)

    for stage in PROGRAM["stages"]:
        if stage not in ready[:1]:
            run_stage(stage, values, read)
    return {output: values[source] for output, source in PROGRAM["outputs"].items()}


def run_on_integers(inputs):
    """The same on the compiler's integers."""
    import hsnn_compiler

    return hsnn_compiler.load(HERE).simulate(inputs).outputs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, help="write the results here, .npz")
    parser.add_argument("--samples", type=int, help="only so many, from the first on")
    parser.add_argument("--backend", choices=["lava", "reference"], default="lava")
    options = parser.parse_args()
    data = np.load(options.data)
    if not isinstance(data, np.ndarray):
        names = list(PROGRAM["inputs"])
        data = {name: data[name if name in data else "x" if "x" in data else data.files[0]] for name in names}
    else:
        data = {name: data for name in PROGRAM["inputs"]}
    data = {name: array[: options.samples] for name, array in data.items()}
    results = (run_on_lava if options.backend == "lava" else run_on_integers)(data)
    for name, result in results.items():
        print(name, result.shape)
        print(result)
    if options.out:
        np.savez(options.out, **results)
'''
