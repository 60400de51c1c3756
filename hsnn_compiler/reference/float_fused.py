"""The float executor's fast way: layers on compiled kernels, spikes as bytes between them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.ir.graph import Node
from hsnn_compiler.reference.float_neuron import FloatNeuron
from hsnn_compiler.reference.fused import (
    FusedLayer,
    FusedRun,
    binary,
    from_kernel,
    kernel_shape,
    kernel_synapse,
    parameter,
    to_kernel,
)
from hsnn_compiler.reference.result import Record

if TYPE_CHECKING:
    from hsnn_compiler.kernels import Layer, Run
    from hsnn_compiler.reference.float_executor import FloatExecutor


class FusedFloat(FusedRun):
    """The fused layers of one run of the float executor.

    Args:
        executor: the bound graph.
        record: signals wanted; a node whose own output is, is not fused away.
    """

    def __init__(self, executor: FloatExecutor, record: Collection[Record]) -> None:
        super().__init__(executor.plan(frozenset(record)))
        self.executor = executor

    def run(
        self, node: Node, feeds: list[Tensor], extra: Tensor | None, record: Collection[str], resets: list[int]
    ) -> Run:
        """Run a layer on what arrives at its synapses, [time, batch, ...]; see `call`."""
        fused = self.layers[node.name]
        inputs = [
            to_kernel(binary(value, feed.source.is_spiking), feed.source.shape)
            for value, feed in zip(feeds, fused.feeds, strict=True)
        ]
        return self.call(node, self.layer(fused), inputs, extra, record, resets)

    def output(self, node: Node, done: Run) -> Tensor:
        """[time, batch, ...] of a `Run`: spikes as bytes, or potentials."""
        return from_kernel(done.output, node.shape)

    def layer(self, fused: FusedLayer) -> Layer:
        """The kernel's form of a layer."""
        from hsnn_compiler import kernels

        made = self.executor.compiled.get((fused.node.name, *fused.inside))
        if made is not None:
            return made
        neuron = self.executor.neurons[fused.node.name]
        assert isinstance(neuron, FloatNeuron)
        c, rank = neuron.step_rule, len(fused.node.shape)

        def of(array: np.ndarray | None) -> Any:
            return None if array is None else parameter(array, rank)

        population = kernels.FloatNeuron(
            of(c.decay), of(c.gain), of(c.leak), of(c.threshold), of(c.v_reset), of(c.v_init),
            of(c.current_decay), of(c.w_in), c.reset, c.inclusive,
        )  # fmt: skip
        synapses = [kernel_synapse(feed, feed.weight) for feed in fused.feeds]
        biases = [np.asarray(b) for f in fused.feeds if (b := getattr(f.synapse.op, "bias", None)) is not None]
        bias = sum(biases[1:], start=biases[0]) if biases else None
        dtype = np.float32 if self.executor.dtype is torch.float32 else np.float64
        made = kernels.Layer(synapses, population, bias, dtype, kernel_shape(fused.node.shape))
        self.executor.compiled[(fused.node.name, *fused.inside)] = made
        return made
