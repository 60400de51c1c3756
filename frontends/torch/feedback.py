"""Neurons that get their own spikes of the step before, through weights of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.ir.graph import Edge, Node
from hsnn_compiler.ir.ops import Add, BatchNorm, bias_of
from hsnn_compiler.ir.types import TensorType


class Feedback:
    """``I + W s(t-1)``: the input of a population and what its own spikes of the step before add to it.

    One step of a loop takes them from the call before; in the first step there are none, and W gives its
    bias. Where a call takes all steps at once, an edge with a delay of one step closes the loop.

    Args:
        call: the module's call.
        mod: the module.
        op: W, a synapse op or a Scale; its results have the population's shape.
        series: whether the call takes all steps at once.
    """

    def __init__(self, call: Call, mod: nn.Module, op: Any, series: bool = False) -> None:
        self.call, self.op, self.series = call, op, series
        self.calls = call.tracer.calls.get(id(mod), [])
        self.weights = ""

    def added_to(self, feed: str) -> str:
        """The node that feeds the population; `feed` is its input."""
        call, tracer = self.call, self.call.tracer
        if self.series:
            kind = tracer.graph[feed].type or TensorType(())
            node = Node(tracer.graph.unique(f"{call.stem}.recurrent"), self.op, type=kind, source=call.source)
            self.weights = tracer.place(node, [], ports=False)
        elif self.calls:
            spikes = tracer.behind.get(self.calls[-1], self.calls[-1])
            self.weights = call.emit(self.op, spikes, stem=f"{call.stem}.recurrent")
        else:
            return call.emit(_shift(self.op, tracer.graph[feed].shape[0]), feed, stem=f"{call.stem}.add")
        return call.emit(Add(), feed, self.weights, stem=f"{call.stem}.add", ports=True)

    def closed(self, spikes: str) -> None:
        """Feed the weights by `spikes`, which the population puts out."""
        if self.series:
            self.call.tracer.graph.connect(Edge(spikes, self.weights, delay=1))


def _shift(op: Any, channels: int) -> BatchNorm:
    """What W adds where it gets nothing: its bias, also if that is zero, so that the first step has its sum."""
    one, zero = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    bias = bias_of(op)
    return BatchNorm(weight=one, bias=zero if bias is None else bias, mean=zero, var=one, eps=0.0)
