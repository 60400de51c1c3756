"""The integer executor's fast way: layers on compiled kernels, bit for bit the same."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.payloads import fires_once
from hsnn_compiler.ir.quant import NeuronQuant, WeightQuant
from hsnn_compiler.reference.fused import (
    Feed,
    FusedLayer,
    FusedPlan,
    FusedRun,
    kernel_shape,
    kernel_synapse,
    to_kernel,
)
from hsnn_compiler.reference.loihi_parameters import constant_bias
from hsnn_compiler.reference.loihi_synapse import lava_dense_weights
from hsnn_compiler.reference.result import Record

if TYPE_CHECKING:
    from hsnn_compiler.kernels import Layer, Run
    from hsnn_compiler.reference.loihi_executor import LoihiExecutor

SAFE_SUM = 2**30
"""The kernels add up in 32 bits: graded payloads of dense synapses stay below this, or go the slow way."""


class FusedLoihi(FusedRun):
    """The fused layers of one run of the integer executor.

    Args:
        executor: the bound graph.
        record: signals wanted; a node whose own output is, is not fused away.

    Attributes:
        saturated: by population, neuron-steps in which u wrapped or v saturated.
    """

    def __init__(self, executor: LoihiExecutor, record: Collection[Record]) -> None:
        super().__init__(executor.plan(frozenset(record)))
        self.executor = executor
        self.saturated: dict[str, int] = {}

    def run(
        self,
        node: Node,
        feeds: list[Tensor],
        extra: Tensor | None,
        bias: Tensor,
        record: Collection[str],
        resets: list[int],
    ) -> Run:
        """Run a layer on what arrives at its synapses, integers [time, batch, ...]; see `call`.

        `bias` is mantissas [batch or 1, ...].
        """
        fused = self.layers[node.name]
        inputs = [_input(value, feed) for value, feed in zip(feeds, fused.feeds, strict=True)]
        extra = None if extra is None else extra.to(torch.int32)
        done = self.call(node, self.layer(fused, bias), inputs, extra, record, resets)
        self.saturated[node.name] = self.saturated.get(node.name, 0) + done.saturated
        return done

    def constant_layer(self, fused: FusedLayer) -> Layer:
        """That of a population without a bias from outside."""
        return self.layer(fused, constant_bias(fused.node))

    def layer(self, fused: FusedLayer, bias: Tensor) -> Layer:
        """The kernel's form of a layer with these bias mantissas, [batch or 1, ...]."""
        from hsnn_compiler.kernels import Layer, LoihiNeuron

        node, key = fused.node, (fused.node.name, *fused.inside)
        is_constant = all(source.kind != "Encode" for source in self.executor.graph.predecessors(node.name))
        if is_constant and key in self.executor.compiled:
            return self.executor.compiled[key]
        quant = node.quant
        assert isinstance(quant, NeuronQuant)
        assert node.dynamics is not None
        added = (bias << quant.bias_exp).numpy()
        if len(node.shape) > 1:
            added = np.moveaxis(added, 1, -1).reshape(len(added), *kernel_shape(node.shape))
        du, dv, start = (_channels_last(value) for value in (quant.du, quant.dv, quant.v_init))
        neuron = LoihiNeuron(
            du, dv, quant.vth, added if len(bias) > 1 else added[0], start,
            node.dynamics.reset if node.is_spiking else "zero", node.is_spiking,
            None if quant.taken is None else _channels_last(quant.taken),
        )  # fmt: skip
        synapses = [kernel_synapse(feed, _weights(feed), _quant(feed).exponent) for feed in fused.feeds]
        made = Layer(synapses, neuron, None, np.int32, kernel_shape(node.shape))
        if is_constant:
            self.executor.compiled[key] = made
        return made


def _channels_last(value: int | np.ndarray) -> np.ndarray:
    array = np.asarray(value)
    return np.moveaxis(array, 0, -1) if array.ndim > 1 else array


def _quant(feed: Feed) -> WeightQuant:
    assert isinstance(feed.synapse.quant, WeightQuant)
    return feed.synapse.quant


def is_graded(feed: Feed) -> bool:
    """Whether a synapse multiplies by payloads; else whatever is not 0 is one spike."""
    return _quant(feed).message_bits > 0


def _weights(feed: Feed) -> np.ndarray:
    """Integers as Lava's processes use them."""
    quant = _quant(feed)
    if feed.synapse.kind.startswith("Conv"):
        return quant.integers.astype(np.int32)
    return lava_dense_weights(quant.integers, quant.bits)


def _input(value: Tensor, feed: Feed) -> np.ndarray:
    """Spikes as bytes of 0 and 1, which is what a synapse without payloads makes of anything; or payloads."""
    if is_graded(feed):
        return to_kernel(value.to(torch.int32), feed.source.shape)
    if not (feed.source.is_spiking and value.dtype is torch.uint8):
        value = (value != 0).to(torch.uint8)
    return to_kernel(value, feed.source.shape)


def make_plan(executor: LoihiExecutor, record: Collection[Record]) -> FusedPlan:
    """What runs as layers when these signals are recorded."""
    graph = executor.graph
    populations = [
        n.name
        for n in graph
        if isinstance(n.quant, NeuronQuant) and np.min(n.quant.du) >= 0 and (fires_once(n) or not n.is_spiking)
    ]
    return FusedPlan(graph, executor.groups, populations, record, _unsafe(graph))


def _unsafe(graph: Graph) -> set[str]:
    """Synapses whose sums of payloads could leave 32 bits, where the kernels would go on modulo 2^32."""
    found = set()
    for node in graph:
        quant = node.quant
        if isinstance(quant, WeightQuant) and quant.message_bits:
            largest = np.abs(quant.integers.astype(np.int64)).reshape(len(quant.integers), -1).sum(1).max(initial=0)
            if int(largest) << (quant.message_bits + max(quant.exponent, 0)) >= SAFE_SUM:
                found.add(node.name)
    return found
