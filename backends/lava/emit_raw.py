"""Write a raw graph, one on a global time axis, as a Python module that builds Lava processes.

Time: an Input becomes a source that sends in step t what the data hold for step t; a population with lag L
(`retiming`) computes step t in step t + L; a synapse process sends in step t what it made of step t - 1,
which is the delay of at least 1 on the way into it. What is left of that delay waits in an AxonDelay. So every
signal of Lava has the step that it has in the retimed graph.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hsnn_compiler.backends.lava import processes
from hsnn_compiler.backends.lava.emit import ARRAYS, NETWORK, copy_processes
from hsnn_compiler.backends.lava.layout import lava_shape
from hsnn_compiler.backends.lava.retiming import reaching_populations, retime
from hsnn_compiler.backends.lava.template import RAW_FOOTER, RAW_HEADER
from hsnn_compiler.backends.lava.writer import Code, Writer
from hsnn_compiler.ir.dynamics import delay_steps
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.quant import NeuronQuant
from hsnn_compiler.ir.shapes import Shape, pair
from hsnn_compiler.ir.timing import layers
from hsnn_compiler.reference.loihi_parameters import is_population


def emit_raw(
    graph: Graph,
    directory: Path,
    title: str,
    *,
    reset_interval: int | None = None,
    sparse: bool | None = None,
) -> None:
    """Write ``network.py``, its arrays, and our own Lava processes into `directory`.

    Args:
        graph: a raw integer graph in which `check_raw` finds nothing.
        directory: an existing folder.
        title: first line of the module's docstring.
        reset_interval: see `LoihiExecutor.run`.
        sparse: whether to use Lava's Sparse for its Dense; by default where that is faster.
    """
    writer = _RawWriter(graph, reset_interval, sparse)
    writer.write()
    (directory / NETWORK).write_text(writer.text(title), encoding="utf-8")
    np.savez(directory / ARRAYS, **writer.arrays)  # type: ignore[arg-type]
    copy_processes(directory)


class _Feed(NamedTuple):
    """One port that a node's output is the sum of.

    Attributes:
        port: the expression, virtual ports included.
        shape: in Lava's layout.
        delay: steps that are still to be waited.
    """

    port: str
    shape: tuple[int, ...]
    delay: int


class _RawWriter(Writer):
    """Collects the lines and arrays of one raw graph."""

    def __init__(self, graph: Graph, reset_interval: int | None, sparse: bool | None) -> None:
        super().__init__()
        self.reset_interval, self.sparse = reset_interval, sparse
        self.layers = layers(graph)
        retimed = retime(graph)
        self.graph, self.lags = retimed.graph, retimed.lags
        needed = reaching_populations(graph)
        self.nodes = [node for node in self.graph.topological() if node.name in needed]
        self.ports: dict[str, str] = {}
        self.waits: dict[tuple[str, int], str] = {}
        self.places: dict[tuple[str, str], str] = {}

    def write(self) -> None:
        """All processes, then all connections: in a loop a process is connected to later ones."""
        for node in self.nodes:
            self._construct(node)
        self.lines.append("")
        for node in self.nodes:
            self._connect(node)

    def text(self, title: str) -> str:
        """The whole module."""
        inputs = [node for node in self.graph.of_kind("Input") if node.name in self.ports]
        populations = [node for node in self.nodes if is_population(node)]
        return (
            RAW_HEADER.format(
                title=title,
                reset=self.reset_interval,
                inputs="\n".join(
                    f"            ``{n.name}``: [steps{''.join(f', {k}' for k in lava_shape(n.shape))}]" for n in inputs
                ),
                first=repr(inputs[0].name),
                imports=self.imports(),
                ours=self.ours("simulate"),
            )
            + self.body()
            + RAW_FOOTER.format(
                neurons="\n".join(f"            {n.name!r}: self.{self.identifier(n.name)}," for n in populations)
            )
        )

    # -- processes ------------------------------------------------------------------------------

    def _construct(self, node: Node) -> None:
        out = "s_out"
        if node.kind == "Input":
            variable = self._comment(node, "input").process(
                "RingBuffer", node.name, {"data": Code(f"np.moveaxis(inputs[{node.name!r}], 0, -1)")}
            )
        elif node.is_neuron:
            variable = self._neurons(node)
        elif is_population(node):
            variable = processes.sigma_delta(self._comment(node, "neurons"), node)
        elif node.is_synapse:
            shape = self.graph.predecessors(node.name)[0].shape
            variable, out = processes.synapse(self, node, shape, flat=True, sparse=self.sparse), "a_out"
        elif node.kind == "Delay":
            assert node.dynamics is not None
            steps = np.broadcast_to(delay_steps(node.op, node.dynamics), node.shape)
            delay = self.array(f"{node.name}.delay", processes.in_lava_order(steps, node.shape))
            self.lines.append("")
            variable = self.process(
                "AxonDelay", node.name, {"name": node.name, "shape": lava_shape(node.shape), "delay": delay}
            )
        else:
            return  # Flatten and the like are ways, not processes
        self.ports[node.name] = f"{variable}.{out}"

    def _neurons(self, node: Node) -> str:
        """A population; where it works later than the data, it gets its bias and its start potential only then."""
        assert isinstance(node.quant, NeuronQuant)
        lag, offset = self.lags[node.name], self.layers[node.name] + 1
        self._comment(node, f"neurons, {lag} steps after the data" if lag else "neurons")
        if not lag:
            return processes.lif(self, node, interval=self.reset_interval, offset=offset)
        silent = self.array(f"{node.name}.silent", processes.in_lava_order(np.zeros(1), node.shape))
        later = {"bias_mant": node.quant.bias_mant, "v": np.asarray(node.quant.v_init)}
        quant = node.quant if self.reset_interval else replace(node.quant, v_init=0)
        population = node.with_(quant=quant)
        variable = processes.lif(self, population, interval=self.reset_interval, offset=offset + lag, bias=silent)
        for what, start in later.items():
            if start.any():
                held = self.array(f"{node.name}.{what}", processes.in_lava_order(start, node.shape))
                # No node's name has a space.
                arguments = {"data": Code(f"{held!r}[None]"), "interval": 1, "offset": lag}
                holder = self.process("SampleBias", f"{node.name} {what}", arguments)
                self.lines.append(f"{holder}.connect_var({variable}.{what})")
        return variable

    def _comment(self, node: Node, what: str) -> _RawWriter:
        origin = f", from {node.source.module}" if node.source.module else ""
        self.lines += ["", f"# {node.name}: {processes.size(node.shape)} {what}{origin}"]
        return self

    # -- connections ----------------------------------------------------------------------------

    def _connect(self, node: Node) -> None:
        if node.name not in self.ports or node.kind == "Input":
            return
        variable = self.ports[node.name].rsplit(".", 1)[0]
        entry = "a_in" if is_population(node) else "s_in"
        for edge in self.graph.in_edges(node.name):
            for feed in self._feeds(self.graph[edge.src]):
                wait = feed.delay + edge.delay - node.is_synapse  # a synapse process adds a step by itself
                self.lines.append(f"{self._waiting(feed, wait)}.connect({variable}.{entry})")

    def _feeds(self, node: Node) -> list[_Feed]:
        """What the output of a node is the sum of."""
        if node.name in self.ports:
            return [_Feed(self.ports[node.name], lava_shape(node.shape), 0)]
        found = []
        start = 0
        for edge in self.graph.in_edges(node.name):
            source = self.graph[edge.src]
            for feed in self._feeds(source):
                later = feed._replace(delay=feed.delay + edge.delay)
                if node.kind == "Flatten":
                    later = _flattened(later)
                elif node.kind == "Concat":
                    axis = node.op.axis % len(node.shape)
                    first = tuple(start if i == axis else 0 for i in range(len(node.shape)))
                    later = self._placed(later, node, source.shape, first)
                elif node.kind == "Spread":
                    later = self._placed(later, node, source.shape, (0, 0, 0), (1, *pair(node.op.step)))
                found.append(later)
            if node.kind == "Concat":
                start += source.shape[node.op.axis % len(node.shape)]
        return found

    def _placed(self, feed: _Feed, node: Node, shape: Shape, start: Shape, step: Shape | None = None) -> _Feed:
        """What a Place makes of a feed: it at its place among zeros; the sizes are the graph's, not Lava's."""
        key = (feed.port, f"{node.name} {start}")
        if key not in self.places:
            name = f"{node.name} part {len(self.places) + 1}"  # no node's name has a space
            # Lava's second axis of [channels, length] has one element.
            begin = (start[1], 0, start[0]) if len(start) == 2 else start[::-1]
            arguments = {"shape": lava_shape(shape), "out_shape": lava_shape(node.shape), "start": begin}
            if step is not None:
                arguments["step"] = step[::-1]
            variable = self.process("Place", name, {"name": name, **arguments})
            self.lines.append(f"{feed.port}.connect({variable}.s_in)")
            self.places[key] = f"{variable}.s_out"
        return _Feed(self.places[key], lava_shape(node.shape), feed.delay)

    def _waiting(self, feed: _Feed, steps: int) -> str:
        """The port on which a feed arrives some steps later; those that wait equally long wait together."""
        if not steps:
            return feed.port
        key = (feed.port, steps)
        if key not in self.waits:
            name = f"wait {len(self.waits) + 1}"  # no node's name has a space
            variable = self.process("AxonDelay", name, {"name": name, "shape": feed.shape, "delay": steps})
            self.lines.append(f"{feed.port}.connect({variable}.s_in)")
            self.waits[key] = f"{variable}.s_out"
        return self.waits[key]


def _flattened(feed: _Feed) -> _Feed:
    """The graph flattens [channels, height, width], which lies the other way round in Lava."""
    if len(feed.shape) == 1:
        return feed
    return _Feed(f"{feed.port}.transpose((2, 1, 0)).flatten()", (int(np.prod(feed.shape)),), feed.delay)
