"""What of a raw graph Lava cannot run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hsnn_compiler.backends.lava.processes import is_ours, lif_process
from hsnn_compiler.backends.lava.retiming import reaching_populations, retime
from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.quant import STATE_SHIFT, NeuronQuant, SigmaDeltaQuant, WeightQuant
from hsnn_compiler.ir.timing import layers
from hsnn_compiler.reference.loihi_parameters import is_population, unquantised

INT32 = 2**31
WAYS = ("Input", "Flatten", "Concat", "Delay", "NoOp", "Spread")
"""Ops beside populations and synapses for which there is a process or a port."""


def check_raw(graph: Graph, reset_interval: int | None = None) -> list[Finding]:
    """Everything that Lava cannot run; an empty list means it can be emitted.

    Args:
        graph: a raw graph.
        reset_interval: steps between two returns to the start state, None for never.
    """
    needed = reaching_populations(graph)
    depth = layers(graph)
    findings: list[Finding] = []
    try:
        lags = retime(graph).lags
    except HsnnError as error:
        findings, lags = list(error.findings), {}
    for node in graph:
        if node.name not in needed:
            continue
        missing = None if node.kind in WAYS else unquantised(node)
        if missing:
            findings.append(missing)
            continue
        wrong = (*_shapes(graph, node), *_numbers(node), *_resets(node, depth[node.name], reset_interval))
        for message, supported in (*wrong, *_waiting(node, lags.get(node.name, 0), reset_interval)):
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
    for source in graph.predecessors(node.name):
        if source.is_neuron and not source.is_spiking:
            yield f"a connection that carries the potential of {source.name}", "connections from spiking populations"


def _numbers(node: Node) -> Iterator[tuple[str, str]]:
    quant = node.quant
    if isinstance(quant, WeightQuant) and node.kind.startswith("Conv") and quant.exponent:
        yield "a weight exponent on a convolution, which Lava ignores", "exponent 0"
    if isinstance(quant, SigmaDeltaQuant):
        largest = max(quant.vth, int(np.abs(quant.bias.astype(np.int64)).max(initial=0)))
        if largest << (quant.spike_exp + quant.state_exp) >= INT32:
            yield "a threshold or bias that its exponents shift out of 32 bits", "numbers of 32 bits"


def _resets(node: Node, layer: int, interval: int | None) -> Iterator[tuple[str, str]]:
    if interval is None or not is_population(node):
        return
    if isinstance(node.quant, SigmaDeltaQuant):
        yield "sigma-delta neurons that reset (lava-dl ignores the reset there)", "no reset interval"
        return
    if isinstance(node.quant, NeuronQuant) and np.any(node.quant.v_init) and not is_ours(node):
        yield (
            "a return to a potential other than zero, except with reset by subtraction or decays per neuron",
            "v_init 0",
        )
    # Processes count back from their first reset, too; one as the first step begins changes nothing.
    if layer > interval or (layer == interval and not is_ours(node)):
        process = lif_process(node, resets=True)
        yield (
            f"a reset in step {layer} and then every {interval} steps: {process} resets before, too",
            "intervals longer than the network is deep",
        )


def _waiting(node: Node, lag: int, interval: int | None) -> Iterator[tuple[str, str]]:
    """Whether a population that works `lag` steps later can be held in its start state until then."""
    quant = node.quant
    if not lag or not is_population(node):
        return
    if isinstance(quant, SigmaDeltaQuant) and quant.bias.any():
        yield f"sigma-delta neurons with a bias that wait for {lag} steps", "a delay of at least 1 into synapses"
    if interval is not None and isinstance(quant, NeuronQuant) and np.any(quant.v_init > quant.vth << STATE_SHIFT):
        yield f"a start potential above the threshold that waits for {lag} steps", "one below it, or no reset interval"
