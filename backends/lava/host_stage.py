"""Stages of the host between turns of the chip, in a generated module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hsnn_compiler.backends.lava import processes
from hsnn_compiler.backends.lava.writer import Code
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.quant import STATE_SHIFT, CurrentQuant, FirstSpikeQuant, NeuronQuant
from hsnn_compiler.ir.stages import HostStage, depths, is_host
from hsnn_compiler.ir.types import Coding
from hsnn_compiler.reference.batches import has_time

if TYPE_CHECKING:
    from hsnn_compiler.backends.lava.program_writer import ProgramWriter

FOLDER = "host"
"""Of a bundle, where the models of its stages lie."""
GIVEN = "value."
"""What stands before the names of values among the inputs of a network."""


def given(graph: Graph, stages: Sequence[HostStage]) -> list[str]:
    """Names of the values that stages between turns of the chip read and that are known before anything runs."""
    made = {name for stage in stages for name in stage.nodes}
    names = (read.name for stage in stages for read in stage.reads if read.kind in ("value", "series"))
    return list(dict.fromkeys(name for name in names if name not in made))


def write(writer: ProgramWriter, stage: HostStage) -> None:
    """One stage: its process, and its connections to the populations and stages that it reads, which come before it."""
    graph = writer.graph
    depth = depths(graph, writer.stage, graph.timesteps or 1)
    before = {name: other for other in writer.hosts for name in other.gives}
    spikes, potentials, values, known = {}, {}, {}, {}
    lines = []
    variable = f"self.{writer.identifier(stage.name)}"
    for read in stage.reads:
        node, port = graph[read.name], f"{variable}.reads[{read.name!r}]"
        if read.kind == "spikes":
            spikes[read.name] = Code(f"Window({node.shape}, {_depth(node, depth, writer.stage)})")
            flat = "" if len(node.shape) <= 3 else ".flatten()"
            lines.append(f"{writer.out(read.name)}{flat}.connect({port})")
        elif read.kind == "potential":
            assert isinstance(node.quant, NeuronQuant)
            unit = node.quant.scale * 2**STATE_SHIFT
            potentials[read.name] = Code(f"Potential({node.shape}, {_depth(node, depth, writer.stage)}, {unit!r})")
            lines.append(f"{port}.connect_var(self.{writer.identifier(read.name)}.v)")
        elif read.name in before:
            source = before[read.name]
            values[read.name] = Code(f"Window({_shape(graph, node)}, {depth[source.number]})")
            lines.append(f"self.{writer.identifier(source.name)}.sends[{read.name!r}].connect({port})")
        else:
            known[read.name] = Code(f"inputs[{GIVEN + read.name!r}]")
    later = {read.name for other in writer.hosts for read in other.reads}
    sends = {
        name: Code(f"Window({graph[name].shape}, {depth[stage.number]})")
        for name in stage.gives
        if _is_sent(graph, name)
    }
    carries = {name: _shape(graph, graph[name]) for name in stage.gives if name in later and not _is_sent(graph, name)}
    arguments = {
        "name": stage.name,
        "model": Code(f'HERE / "{FOLDER}" / "{stage.name}.onnx"'),
        "samples": Code("samples"),
        "steps": Code("TIMESTEPS"),
        "interval": Code("PERIOD"),
        "depth": depth[stage.number],
        "spikes": spikes,
        "potentials": potentials,
        "values": values,
        "given": known,
        "sends": sends,
        "carries": carries,
        "biases": {node.name: _bias(writer, stage, node) for node in _biased(graph, stage)},
    }
    writer.lines += ["", f"# {stage.name}: {', '.join(stage.nodes)}"]
    writer.process(
        "host_stage", stage.name, {key: value for key, value in arguments.items() if value or key == "depth"}
    )
    writer.used |= {"Window"} if spikes or values or sends else set()
    writer.used |= {"Potential"} if potentials else set()
    writer.lines += lines


def _is_sent(graph: Graph, name: str) -> bool:
    """Whether spikes of a node of the host go somewhere: to the chip, or to a later stage."""
    kind = graph[name].type
    return kind is not None and kind.coding in (Coding.SPIKES, Coding.GRADED)


def _shape(graph: Graph, node: Node) -> tuple[int, ...]:
    """Shape of what is carried for a sample: with all its steps, where there are any."""
    return (graph.timesteps or 1, *node.shape) if has_time(node) else node.shape


def _depth(node: Node, depth: dict[int, int], number: dict[str, int]) -> int:
    """Depth of a source of spikes."""
    if is_host(node):
        return depth[number[node.name]]
    assert node.schedule is not None
    return node.schedule.depth


def _biased(graph: Graph, stage: HostStage) -> list[Node]:
    """Populations that get a bias of a stage."""
    encodes = [node for name in stage.gives for node in graph.successors(name) if _presents(node)]
    names = dict.fromkeys(node.name for encode in encodes for node in graph.successors(encode.name))
    return [graph[name] for name in names]


def _presents(node: Node) -> bool:
    return node.kind == "Encode" and not is_host(node)


def _bias(writer: ProgramWriter, stage: HostStage, node: Node) -> Code:
    """``Bias(...)`` of a population."""
    assert isinstance(node.quant, (NeuronQuant, FirstSpikeQuant))
    assert node.schedule is not None
    values = {}
    for encode in writer.graph.predecessors(node.name):
        if _presents(encode):
            assert isinstance(encode.quant, CurrentQuant)
            quant, (value,) = encode.quant, writer.graph.predecessors(encode.name)
            values[value.name] = (quant.unit, quant.low, quant.high)
    writer.used.add("Bias")
    constant = writer.array(f"{node.name}.constant", processes.in_lava_order(node.quant.bias_mant, node.shape))
    return Code(f"Bias({node.shape}, {node.schedule.depth}, {values!r}, {constant!r})")
