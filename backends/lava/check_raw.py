"""What of a raw graph Lava cannot run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hsnn_compiler.backends.lava.processes import is_soft
from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.quant import NeuronQuant, SigmaDeltaQuant, WeightQuant
from hsnn_compiler.ir.timing import layers
from hsnn_compiler.reference.loihi_parameters import is_population, unquantised

INT32 = 2**31
WAYS = ("Input", "Flatten", "Concat", "Delay", "NoOp", "Spread")
"""Ops beside populations and synapses for which there is a process or a port."""


def reaching_populations(graph: Graph) -> set[str]:
    """Names of all populations and of everything that one of them depends on: what has to run on Lava.

    What comes after the last population is computed from its recordings.
    """
    found = {node.name for node in graph if is_population(node)}
    return found.union(*(graph.ancestors(name) for name in found))


def check_raw(graph: Graph, reset_interval: int | None = None) -> list[Finding]:
    """Everything that Lava cannot run; an empty list means it can be emitted.

    Args:
        graph: a raw graph.
        reset_interval: steps between two returns to the start state, None for never.
    """
    needed = reaching_populations(graph)
    depth = layers(graph)
    findings = []
    for node in graph:
        if node.name not in needed:
            continue
        missing = None if node.kind in WAYS else unquantised(node)
        if missing:
            findings.append(missing)
            continue
        for message, supported in (*_shapes(graph, node), *_numbers(node), *_resets(node, depth, reset_interval)):
            findings.append(
                Finding(
                    "E0450",
                    f"Lava has no process for {message}",
                    node=node.name,
                    source=node.source,
                    supported=supported,
                )
            )
    return findings


_SHAPES = "populations of shape [neurons], [channels, length] or [channels, height, width]"


def _shapes(graph: Graph, node: Node) -> Iterator[tuple[str, str]]:
    if len(node.shape) > 3 or not node.shape:
        yield f"a signal of shape {list(node.shape)}", _SHAPES
    if node.kind == "Flatten" and len(node.shape) != 1:
        yield f"flattening to {list(node.shape)}", _SHAPES
    if node.is_synapse:
        sources = graph.predecessors(node.name)
        if not node.kind.startswith("Conv") and any(len(source.shape) != 1 for source in sources):
            yield f"a dense connection from {list(sources[0].shape)}", "a Flatten before it"
        if any(not edge.delay and not _waits(graph, edge.src) for edge in graph.in_edges(node.name)):
            yield "a synapse that takes no time", "a delay of at least 1 on the way into a synapse"
    for source in graph.predecessors(node.name):
        if source.is_neuron and not source.is_spiking:
            yield f"a connection that carries the potential of {source.name}", "connections from spiking populations"


def _waits(graph: Graph, name: str) -> bool:
    """Whether every way from a population to the output of a node holds a delay."""
    node = graph[name]
    if node.kind == "Input" or is_population(node) or node.is_synapse or node.kind in ("Delay", "Concat"):
        return False
    return all(edge.delay or _waits(graph, edge.src) for edge in graph.in_edges(name))


def _numbers(node: Node) -> Iterator[tuple[str, str]]:
    quant = node.quant
    if isinstance(quant, WeightQuant) and node.kind.startswith("Conv") and quant.exponent:
        yield "a weight exponent on a convolution, which Lava ignores", "exponent 0"
    if isinstance(quant, SigmaDeltaQuant):
        largest = max(quant.vth, int(np.abs(quant.bias.astype(np.int64)).max(initial=0)))
        if largest << (quant.spike_exp + quant.state_exp) >= INT32:
            yield "a threshold or bias that its exponents shift out of 32 bits", "numbers of 32 bits"


def _resets(node: Node, depth: dict[str, int], interval: int | None) -> Iterator[tuple[str, str]]:
    if interval is None or not is_population(node):
        return
    if isinstance(node.quant, SigmaDeltaQuant):
        yield "sigma-delta neurons that reset (lava-dl ignores the reset there)", "no reset interval"
    elif not is_soft(node):
        if isinstance(node.quant, NeuronQuant) and node.quant.v_init:
            yield "a return to a potential other than zero, except with reset by subtraction", "v_init 0"
        if depth[node.name] >= interval:
            yield (
                f"a reset in step {depth[node.name]} and then every {interval} steps: LIFReset resets before, too",
                "intervals longer than the network is deep",
            )
