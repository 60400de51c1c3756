"""Write a quantised, scheduled graph as a Python module that builds Lava processes."""

from __future__ import annotations

import keyword
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hsnn_compiler.backends.lava.layout import conv_arguments, dense_weights, lava_shape, to_lava
from hsnn_compiler.backends.lava.template import FOOTER, HEADER
from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.quant import NeuronQuant, WeightQuant
from hsnn_compiler.ir.timing import waits
from hsnn_compiler.reference.loihi_executor import LoihiExecutor

NETWORK, ARRAYS, EXAMPLE, PROCESSES = "network.py", "arrays.npz", "example.npz", "hsnn_lava"


def check(graph: Graph) -> list[Finding]:
    """Everything about the chip's part that Lava cannot run; an empty list means it can be emitted."""
    findings = []
    for node in graph:
        if not node.on_chip:
            continue
        message = ""
        if node.kind == "Flatten" and len(node.shape) != 1:
            message = f"flattening to {list(node.shape)}"
        elif node.kind.startswith("Conv") and isinstance(node.quant, WeightQuant) and node.quant.exponent:
            message = "a weight exponent on a convolution, which Lava ignores"
        elif node.is_neuron and len(node.shape) > 3:
            message = f"a population of shape {list(node.shape)}"
        elif isinstance(node.quant, NeuronQuant) and node.quant.v_init and not _is_soft(node):
            message = "a potential other than zero at the start of a sample, except with reset by subtraction"
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
    writer = _Writer(graph)
    for node in graph.topological():
        if node.on_chip and node.is_neuron:
            writer.population(node)
    (directory / NETWORK).write_text(writer.text(title), encoding="utf-8")
    np.savez(directory / ARRAYS, **writer.arrays)  # type: ignore[arg-type]
    if example is not None:
        np.savez(directory / EXAMPLE, **_replay(graph, example))  # type: ignore[arg-type]
    shutil.copytree(
        Path(__file__).parent / PROCESSES,
        directory / PROCESSES,
        ignore=shutil.ignore_patterns("__pycache__"),
    )


def _is_soft(node: Node) -> bool:
    return node.is_spiking and node.dynamics is not None and node.dynamics.reset == "subtract"


def leaving(graph: Graph) -> list[Node]:
    """Populations whose spikes or potentials the host reads."""
    names = dict.fromkeys(edge.src for decode in graph.of_kind("Decode") for edge in graph.in_edges(decode.name))
    return [graph[name] for name in names]


def depth_of(graph: Graph) -> int:
    """Depth of the deepest population: steps between the start of a sample and its result, less T."""
    return max(node.schedule.depth for node in graph if node.schedule)


def _replay(graph: Graph, example: np.ndarray) -> dict[str, np.ndarray]:
    """Example samples as the chip sees them, and what the integer reference makes of them, in Lava's layout."""
    executor = LoihiExecutor(graph)
    arrays = {"x": example}
    for name, mantissas in executor.mantissas(example).items():
        arrays[f"in.{name}"] = to_lava(mantissas, graph[name].shape)
    record = [(node.name, "s" if node.is_spiking else "v") for node in leaving(graph)]
    for (name, variable), trace in executor.run(example, record).trace.items():
        result = trace.sum(1, dtype=np.int64) if variable == "s" else trace[:, -1]
        arrays[f"out.{name}"] = to_lava(result, graph[name].shape)
    return arrays


@dataclass
class _Writer:
    """Collects the lines and arrays of one module."""

    graph: Graph
    lines: list[str] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    processes: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.waits = waits(self.graph)

    def population(self, node: Node) -> None:
        """One population, the synapses into it, and the connections."""
        assert isinstance(node.quant, NeuronQuant)
        assert node.dynamics is not None
        assert node.schedule is not None
        sources = self.graph.predecessors(node.name)
        synapses = [source for source in sources if source.is_synapse]
        has_input = any(source.kind == "Encode" for source in sources)
        origin = node.source.module
        self.lines += [
            "",
            f"# {node.name}: {_size(node.shape)} neurons" + (f", from {origin}" if origin else ""),
        ]
        for synapse in synapses:
            self._synapse(synapse)
        self._neuron(node, node.quant, has_input)
        for synapse in synapses:
            self._connect(synapse, node)

    def text(self, title: str) -> str:
        """The whole module."""
        inputs = [
            n.name
            for n in self.graph
            if n.is_neuron and any(s.kind == "Encode" for s in self.graph.predecessors(n.name))
        ]
        body = "\n".join(f"        {line}" if line else "" for line in self.lines)
        table = {node.name: node for node in self.graph if node.is_neuron and node.on_chip}
        return (
            HEADER.format(
                title=title,
                timesteps=self.graph.timesteps,
                depth=depth_of(self.graph),
                inputs="\n".join(f"            ``{name}``: [samples{_dims(table[name].shape)}]" for name in inputs),
                first=repr(inputs[0]),
                imports="\n".join(_IMPORTS[name] for name in sorted(self.processes & _IMPORTS.keys())),
                ours=", ".join(sorted({*(self.processes & _OURS), "SampleBias", "simulate"})),
            )
            + body
            + FOOTER.format(
                neurons="\n".join(f"            {name!r}: self.{self._identifier(name)}," for name in table),
                depths="\n".join(f"    {n.name!r}: {n.schedule.depth}," for n in table.values() if n.schedule),
                outputs="\n".join(
                    f"    {node.name!r}: {'s' if node.is_spiking else 'v'!r}," for node in leaving(self.graph)
                ),
            )
        )

    # -- processes ----------------------------------------------------------------------------

    def _neuron(self, node: Node, quant: NeuronQuant, has_input: bool) -> None:
        soft = _is_soft(node)
        identifier = self._identifier(node.name)
        assert node.schedule is not None
        if has_input:
            bias = f"inputs[{node.name!r}][0]"
        else:
            bias = self._array(f"{node.name}.bias_mant", _in_lava_order(quant.bias_mant, node.shape))
        arguments: dict[str, Any] = {
            "shape": lava_shape(node.shape),
            "du": quant.du,
            "dv": quant.dv,
            "vth": quant.vth,
            "bias_mant": _Raw(bias),
            "bias_exp": quant.bias_exp,
            **({"v_init": quant.v_init} if soft else {}),
            "reset_interval": _Raw("TIMESTEPS"),
            "reset_offset": node.schedule.depth + 1,
        }
        self._process("SoftResetLIF" if soft else "LIFReset", identifier, node.name, arguments)
        if has_input:
            self.lines += [
                f"self.{identifier}_bias = SampleBias("
                f"data=inputs[{node.name!r}], interval=TIMESTEPS, offset={node.schedule.depth})",
                f"self.{identifier}_bias.connect_var(self.{identifier}.bias_mant)",
            ]

    def _synapse(self, node: Node) -> None:
        assert isinstance(node.quant, WeightQuant)
        identifier = self._identifier(node.name)
        if node.kind.startswith("Conv"):
            arguments = conv_arguments(node.op, node.quant.integers)
            arguments["weight"] = _Raw(self._array(f"{node.name}.weight", arguments["weight"]))
            arguments["input_shape"] = lava_shape(self._source_shape(node))
            arguments = {key: value for key, value in arguments.items() if _CONV_DEFAULTS.get(key) != value}
            self._process("Conv", identifier, node.name, arguments)
            return
        weights = dense_weights(node.quant.integers, self._source_shape(node))
        arguments = {"weights": _Raw(self._array(f"{node.name}.weight", weights))}
        if node.quant.exponent:
            arguments["weight_exp"] = node.quant.exponent
        if node.quant.bits != 8:
            arguments["num_weight_bits"] = node.quant.bits
        self._process("Dense", identifier, node.name, arguments)

    def _connect(self, synapse: Node, node: Node) -> None:
        path = self._path_to(synapse)
        source = f"self.{self._identifier(path[0].src)}"
        delay = self.waits[synapse.name]
        identifier = self._identifier(synapse.name)
        if delay:
            self.processes.add("AxonDelay")
            shape = lava_shape(self.graph[path[0].src].shape)
            self.lines.append(
                f"self.{identifier}_delay = AxonDelay(shape={shape}, delay={delay}, name={synapse.name + '.delay'!r})"
            )
            self.lines.append(f"{source}.s_out.connect(self.{identifier}_delay.s_in)")
            source = f"self.{identifier}_delay"
        flatten = ".flatten()" if len(path) > 1 and len(self.graph[path[0].src].shape) > 1 else ""
        self.lines.append(f"{source}.s_out{flatten}.connect(self.{identifier}.s_in)")
        self.lines.append(f"self.{identifier}.a_out.connect(self.{self._identifier(node.name)}.a_in)")

    def _process(self, kind: str, identifier: str, name: str, arguments: dict[str, Any]) -> None:
        self.processes.add(kind)
        self.lines.append(f"self.{identifier} = {kind}(")
        self.lines += [f"    {key}={value!r}," for key, value in {"name": name, **arguments}.items()]
        self.lines.append(")")

    # -- small things ---------------------------------------------------------------------------

    def _path_to(self, synapse: Node) -> list[Edge]:
        """Edges from the population that feeds a synapse op: one, or two with a Flatten between."""
        path = [self.graph.in_edges(synapse.name)[0]]
        while not self.graph[path[0].src].is_neuron:
            path.insert(0, self.graph.in_edges(path[0].src)[0])
        return path

    def _source_shape(self, synapse: Node) -> tuple[int, ...]:
        return self.graph[self._path_to(synapse)[0].src].shape

    def _array(self, name: str, array: np.ndarray) -> str:
        self.arrays[name] = array
        return f"arrays[{name!r}]"

    def _identifier(self, name: str) -> str:
        if name not in self.names:
            text = re.sub(r"\W", "_", name)
            text = f"_{text}" if text[0].isdigit() or keyword.iskeyword(text) or text in _RESERVED else text
            taken = set(self.names.values())
            while text in taken:
                text += "_"
            self.names[name] = text
        return self.names[name]


class _Raw:
    """A piece of source code among arguments that are printed with repr."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __repr__(self) -> str:
        return self.code


_IMPORTS = {
    "Conv": "from lava.proc.conv.process import Conv",
    "Dense": "from lava.proc.dense.process import Dense",
    "LIFReset": "from lava.proc.lif.process import LIFReset",
}
_CONV_DEFAULTS = {"padding": (0, 0), "stride": (1, 1), "dilation": (1, 1), "groups": 1}
_OURS = {"SoftResetLIF", "AxonDelay"}
_RESERVED = {"neurons", "steps"}


def _in_lava_order(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return to_lava(np.broadcast_to(array, shape), shape).astype(np.int32)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _dims(shape: tuple[int, ...]) -> str:
    return "".join(f", {n}" for n in lava_shape(shape))
