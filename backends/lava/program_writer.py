"""Lines and arrays of a compiled program's module."""

from __future__ import annotations

from hsnn_compiler.backends.lava import host_stage, processes
from hsnn_compiler.backends.lava.layout import lava_shape
from hsnn_compiler.backends.lava.template import FOOTER, HEADER
from hsnn_compiler.backends.lava.writer import Code, Writer
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.quant import CollectQuant, FirstSpikeQuant
from hsnn_compiler.ir.stages import middle_stages, stages
from hsnn_compiler.ir.timing import waits
from hsnn_compiler.reference.batches import has_time
from hsnn_compiler.reference.loihi_front import spike_sources

_BIASES = "bias mantissas of each sample, integers, constant over its {timesteps} steps"
_SPIKES = "spikes of each sample, integers, for each of its {timesteps} steps"
_VALUES = "values of each sample that a later stage of the host needs, in the order of the model"
_WINDOWS = """
A Collector adds up what arrives during a window of {timesteps} steps, and presents it to its population in the next: it
adds {timesteps} steps to the depth, and its windows are cut like those of the population behind it.
"""
_STAGES = """
Between turns of the chip the host works, in a process of its own: it has the windows of all that it reads after one of
{timesteps} steps, and what it sends fills the next.
"""
_GAPS = {
    True: "Samples follow each other without a gap.",
    False: "A sample begins when the result of the one before is there.",
}


class ProgramWriter(Writer):
    """Collects the lines and arrays of one compiled program.

    Args:
        graph: quantised and scheduled.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.waits = waits(graph)
        self.sources = spike_sources(graph)
        self.stage = stages(graph)
        self.hosts = middle_stages(graph)
        populations = [node for node in graph.topological() if node.on_chip and node.is_population]
        self.populations = sorted(populations, key=lambda node: self.stage[node.name])
        self.period = next(node.schedule.period for node in populations if node.schedule)
        self.is_gapless = self.period == graph.timesteps
        self.senders = {name: stage for stage in self.hosts for name in stage.gives if has_time(graph[name])}

    def write(self) -> None:
        """Everything: what the host sends, then the populations, each with the synapses into it."""
        for node in self.sources:
            self.lines += ["", f"# {node.name}: {processes.size(node.shape)} inputs"]
            train = f"inputs[{node.name!r}]"
            if not self.is_gapless:
                rest = f"((0, 0), (0, PERIOD - TIMESTEPS){', (0, 0)' * len(lava_shape(node.shape))})"
                train = f"np.pad({train}, {rest})"
            flat = f"{train}.reshape(-1, {', '.join(map(str, lava_shape(node.shape)))})"
            self.process("RingBuffer", node.name, {"data": Code(f"np.moveaxis({flat}, 0, -1)")})
        hosts = list(self.hosts)
        for node in self.populations:
            while hosts and hosts[0].number <= self.stage[node.name]:
                host_stage.write(self, hosts.pop(0))
            self._population(node)

    def text(self, title: str, depth: int, leaving: list[Node]) -> str:
        """The whole module.

        Args:
            title: first line of its docstring.
            depth: of the deepest population.
            leaving: populations that the host reads.
        """
        recordable = [node for node in self.graph if node.schedule is not None]
        biases = [node for node in self.populations if self.has_bias(node)]
        steps = self.graph.timesteps
        values = [self.graph[name] for name in host_stage.given(self.graph, self.hosts)]
        kinds = (
            (_BIASES, [(n.name, lava_shape(n.shape)) for n in biases]),
            (_SPIKES, [(n.name, (steps or 1, *lava_shape(n.shape))) for n in self.sources]),
            (_VALUES, [(host_stage.GIVEN + n.name, n.shape) for n in values]),
        )
        blocks = [
            f"{what.format(timesteps=steps)}:\n\n"
            + "\n".join(f"            ``{name}``: [samples{_dims(shape)}]" for name, shape in arrays)
            for what, arrays in kinds
            if arrays
        ]
        return (
            HEADER.format(
                title=title,
                timesteps=steps,
                period=self.period,
                gap=_GAPS[self.is_gapless],
                depth=depth,
                windows=(_WINDOWS.format(timesteps=steps) if self.graph.of_kind("Collect") else "")
                + (_STAGES.format(timesteps=steps) if self.hosts else ""),
                inputs="\n\n            and ".join(blocks),
                first=repr([*biases, *self.sources][0].name),
                imports=self.imports(),
                ours=self.ours("simulate"),
            )
            + self.body()
            + FOOTER.format(
                neurons="\n".join(f"            {n.name!r}: self.{self.identifier(n.name)}," for n in recordable),
                depths="\n".join(f"    {n.name!r}: {n.schedule.depth}," for n in recordable if n.schedule),
                outputs="\n".join(f"    {node.name!r}: {'s' if node.is_spiking else 'v'!r}," for node in leaving),
            )
        )

    # -- one population -------------------------------------------------------------------------

    def _population(self, node: Node) -> None:
        """One population, the synapses into it, and the connections."""
        assert node.schedule is not None
        sources = self.graph.predecessors(node.name)
        origin = node.source.module
        self.lines += [
            "",
            f"# {node.name}: {processes.size(node.shape)} neurons" + (f", from {origin}" if origin else ""),
        ]
        for source in sources:
            if source.is_synapse:
                self._synapse(source)
            elif source.kind == "Collect":
                self._collector(source)
        depth = node.schedule.depth
        bias = Code(f"inputs[{node.name!r}][0]") if self.has_bias(node) else None
        write = processes.first_spike if isinstance(node.quant, FirstSpikeQuant) else processes.lif
        variable = write(self, node, interval=Code("PERIOD"), offset=depth + 1, bias=bias)
        if bias is not None:
            self.used.add("SampleBias")
            self.lines += [
                f"{variable}_bias = SampleBias(data=inputs[{node.name!r}], interval=PERIOD, offset={depth})",
                f"{variable}_bias.connect_var({variable}.bias_mant)",
            ]
        for stage in self.hosts:
            if any(self.stage[s.name] == stage.number for s in sources if s.kind == "Encode"):
                host = f"self.{self.identifier(stage.name)}"
                self.lines.append(f"{host}.biases[{node.name!r}].connect_var({variable}.bias_mant)")
        for source in sources:
            if source.is_synapse:
                self._connect(source, f"{variable}.a_in")
            elif source.kind == "Collect":
                self.lines.append(f"self.{self.identifier(source.name)}.s_out.connect({variable}.a_in)")

    def has_bias(self, node: Node) -> bool:
        """Whether the host gives the population a bias per sample."""
        sources = self.graph.predecessors(node.name)
        return any(source.kind == "Encode" and not self.stage[source.name] for source in sources)

    def _collector(self, node: Node) -> None:
        """A Collect, the synapses into it, and the connections."""
        assert isinstance(node.quant, CollectQuant)
        assert node.schedule is not None
        synapses = self.graph.predecessors(node.name)
        for synapse in synapses:
            self._synapse(synapse)
        arguments = {
            "name": node.name,
            "shape": lava_shape(node.shape),
            "code": node.op.code,
            "shift": node.quant.shift,
            "bias": self.array(f"{node.name}.bias", processes.in_lava_order(node.quant.bias, node.shape)),
            "interval": Code("PERIOD"),
            "steps": Code("TIMESTEPS"),
            "offset": node.schedule.depth + 1,
            **({"phases": node.op.period} if node.op.code == "phase" else {}),
        }
        variable = self.process("Collector", node.name, arguments)
        for synapse in synapses:
            self._connect(synapse, f"{variable}.a_in")

    # -- connections ----------------------------------------------------------------------------

    def _synapse(self, synapse: Node) -> None:
        processes.synapse(self, synapse, self.graph[self._path_to(synapse)[0].src].shape)

    def _connect(self, synapse: Node, port: str) -> None:
        path = self._path_to(synapse)
        population = self.graph[path[0].src]
        source = f"{self.out(population.name)}"
        delay = self.waits[synapse.name]
        target = f"self.{self.identifier(synapse.name)}"
        if delay:
            self.used.add("AxonDelay")
            shape = lava_shape(population.shape)
            self.lines += [
                f"{target}_delay = AxonDelay(shape={shape}, delay={delay}, name={synapse.name + '.delay'!r})",
                f"{source}.connect({target}_delay.s_in)",
            ]
            source = f"{target}_delay.s_out"
        flatten = ".flatten()" if len(path) > 1 and len(population.shape) > 1 else ""
        self.lines += [f"{source}{flatten}.connect({target}.s_in)", f"{target}.a_out.connect({port})"]

    def out(self, name: str) -> str:
        """The port on which the spikes of a node leave it."""
        stage = self.senders.get(name)
        if stage is not None:
            return f"self.{self.identifier(stage.name)}.sends[{name!r}]"
        return f"self.{self.identifier(name)}.s_out"

    def _path_to(self, synapse: Node) -> list[Edge]:
        """Edges from what feeds a synapse op with spikes: one, or two with a Flatten on the chip between."""
        path = [self.graph.in_edges(synapse.name)[0]]
        sources = {*(node.name for node in (*self.populations, *self.sources)), *self.senders}
        while path[0].src not in sources:
            path.insert(0, self.graph.in_edges(path[0].src)[0])
        return path


def _dims(shape: tuple[int, ...]) -> str:
    return "".join(f", {n}" for n in shape)
