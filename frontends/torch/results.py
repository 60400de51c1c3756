"""What a model returned, as ends of the graph."""

from __future__ import annotations

from typing import Any, NamedTuple

import nir
import numpy as np
import torch

from hsnn_compiler.diagnostics import Finding, Source, refuse
from hsnn_compiler.frontends.torch.axes import Axes
from hsnn_compiler.frontends.torch.samples import flat
from hsnn_compiler.frontends.torch.tracer import Tracer
from hsnn_compiler.ir.graph import Graph, Node


class Output(NamedTuple):
    """One result: which of the model's, the node that puts it out, and the tensor's leading axes."""

    number: int
    node: str | None
    axes: Axes


def outputs_of(tracer: Tracer, result: Any) -> list[Output]:
    """Nodes of the model's results; whatever is wrong with a result becomes a finding.

    States of neurons that are returned beside other results are left out, and that is said.
    """
    tensors = flat(result)
    outputs: list[Output] = []
    states: list[tuple[int, str, str]] = []
    for i, tensor in enumerate(tensors):
        if tracer.is_traced(tensor):
            (value,) = tracer.traced_in(tensor)
            tracer.always |= value.taint
            if value.node is None and value.state is not None:
                name, variable = value.state
                states.append((i, tracer.neuron_of(name), variable))
                continue
            outputs.append(Output(i, value.node, value.axes))
            if value.node is not None or value.taint:
                continue
        is_tensor = isinstance(tensor, torch.Tensor)
        tracer.always |= set(range(len(tracer.findings) + 1))  # any of them may be the reason
        what = "does not come from the input" if is_tensor else f"is a {type(tensor).__name__}"
        tracer.findings.append(
            Finding(
                "E0404",
                f"output {i + 1} of the model {what}",
                "output",
                Source(),
                "a tensor, or a tuple or list of tensors, computed from the input",
            )
        )
    for i, name, variable in states:
        tracer.said.append(
            Finding(
                "W0466",
                f"output {i + 1} of the model is the state {variable} of {name}; the graph leaves it out",
                node=name,
                suggestion=f"--record {name}:{variable} shows it in a simulation",
            )
        )
    if not outputs and states:
        raise refuse("E0412", "the model returns states of spiking neurons only", supported="their spikes as a result")
    if not outputs and not tracer.findings:
        raise refuse("E0404", "the model returns nothing", node="output")
    return outputs


def finished(graph: Graph, feeds: list[str], inputs: int) -> Graph:
    """Add the output nodes and leave out what no output depends on (inputs stay)."""
    keep = {node.name for node in graph.of_kind("Input")[:inputs]}
    for feed in feeds:
        node = Node(graph.unique("output"), nir.Output(np.array(graph[feed].shape, np.int64)))
        graph.add(node.with_(type=graph[feed].type), feed)
        keep |= {node.name} | graph.ancestors(node.name)
    for node in list(graph):
        if node.name not in keep:
            graph.remove(node.name)
    return graph
