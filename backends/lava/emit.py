"""Write a quantised, scheduled graph as a Python module that builds Lava processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from hsnn_compiler.backends.lava import processes
from hsnn_compiler.backends.lava.layout import lava_shape, to_lava
from hsnn_compiler.backends.lava.processes import is_soft
from hsnn_compiler.backends.lava.template import FOOTER, HEADER
from hsnn_compiler.backends.lava.writer import Code, Writer
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
        elif isinstance(node.quant, NeuronQuant) and node.quant.v_init and not is_soft(node):
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
    writer = _ProgramWriter(graph)
    for node in graph.topological():
        if node.on_chip and node.is_neuron:
            writer.population(node)
    (directory / NETWORK).write_text(writer.text(title), encoding="utf-8")
    np.savez(directory / ARRAYS, **writer.arrays)  # type: ignore[arg-type]
    if example is not None:
        np.savez(directory / EXAMPLE, **_replay(graph, example))  # type: ignore[arg-type]
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


class _ProgramWriter(Writer):
    """Collects the lines and arrays of one compiled program."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.waits = waits(graph)

    def population(self, node: Node) -> None:
        """One population, the synapses into it, and the connections."""
        assert isinstance(node.quant, NeuronQuant)
        assert node.schedule is not None
        sources = self.graph.predecessors(node.name)
        synapses = [source for source in sources if source.is_synapse]
        has_input = any(source.kind == "Encode" for source in sources)
        origin = node.source.module
        self.lines += [
            "",
            f"# {node.name}: {processes.size(node.shape)} neurons" + (f", from {origin}" if origin else ""),
        ]
        for synapse in synapses:
            processes.synapse(self, synapse, self.graph[self._path_to(synapse)[0].src].shape)
        depth = node.schedule.depth
        bias = Code(f"inputs[{node.name!r}][0]") if has_input else None
        variable = processes.lif(self, node, interval=Code("TIMESTEPS"), offset=depth + 1, bias=bias)
        if has_input:
            self.used.add("SampleBias")
            self.lines += [
                f"{variable}_bias = SampleBias(data=inputs[{node.name!r}], interval=TIMESTEPS, offset={depth})",
                f"{variable}_bias.connect_var({variable}.bias_mant)",
            ]
        for synapse in synapses:
            self._connect(synapse, node)

    def text(self, title: str) -> str:
        """The whole module."""
        inputs = [
            n.name
            for n in self.graph
            if n.is_neuron and any(s.kind == "Encode" for s in self.graph.predecessors(n.name))
        ]
        table = {node.name: node for node in self.graph if node.is_neuron and node.on_chip}
        return (
            HEADER.format(
                title=title,
                timesteps=self.graph.timesteps,
                depth=depth_of(self.graph),
                inputs="\n".join(f"            ``{name}``: [samples{_dims(table[name].shape)}]" for name in inputs),
                first=repr(inputs[0]),
                imports=self.imports(),
                ours=self.ours("SampleBias", "simulate"),
            )
            + self.body()
            + FOOTER.format(
                neurons="\n".join(f"            {name!r}: self.{self.identifier(name)}," for name in table),
                depths="\n".join(f"    {n.name!r}: {n.schedule.depth}," for n in table.values() if n.schedule),
                outputs="\n".join(
                    f"    {node.name!r}: {'s' if node.is_spiking else 'v'!r}," for node in leaving(self.graph)
                ),
            )
        )

    def _connect(self, synapse: Node, node: Node) -> None:
        path = self._path_to(synapse)
        population = self.graph[path[0].src]
        source = f"self.{self.identifier(population.name)}"
        delay = self.waits[synapse.name]
        target = f"self.{self.identifier(synapse.name)}"
        if delay:
            self.used.add("AxonDelay")
            shape = lava_shape(population.shape)
            self.lines += [
                f"{target}_delay = AxonDelay(shape={shape}, delay={delay}, name={synapse.name + '.delay'!r})",
                f"{source}.s_out.connect({target}_delay.s_in)",
            ]
            source = f"{target}_delay"
        flatten = ".flatten()" if len(path) > 1 and len(population.shape) > 1 else ""
        self.lines += [
            f"{source}.s_out{flatten}.connect({target}.s_in)",
            f"{target}.a_out.connect(self.{self.identifier(node.name)}.a_in)",
        ]

    def _path_to(self, synapse: Node) -> list[Edge]:
        """Edges from the population that feeds a synapse op: one, or two with a Flatten between."""
        path = [self.graph.in_edges(synapse.name)[0]]
        while not self.graph[path[0].src].is_neuron:
            path.insert(0, self.graph.in_edges(path[0].src)[0])
        return path


def _dims(shape: tuple[int, ...]) -> str:
    return "".join(f", {n}" for n in lava_shape(shape))
