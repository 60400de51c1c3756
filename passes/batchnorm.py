"""Fold batch normalisation into the weights beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import nir
import numpy as np

from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.ops import bias_of
from hsnn_compiler.ir.shapes import conv_padding
from hsnn_compiler.passes.base import Pass, PassContext, PassResult, count
from hsnn_compiler.passes.one_to_one import one_to_one


@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """Fold batch normalisation into the convolution or linear layer before it, else after it.

    y = g (W x + b - mean) + beta  with  g = weight / sqrt(var + eps)   is   (g W) x + g (b - mean) + beta.
    Before a layer without padding, W (g x + c) + b  is  (W g) x + (W c + b),  c = beta - g mean.
    A normalisation with neither neighbour, but weights somewhere before it, becomes weights of its own, one per
    channel, which `lower-connections` merges with others. One of the input itself stays, and runs on the host.
    """

    name: ClassVar[str] = "fold-batchnorm"
    requires: ClassVar[tuple[str, ...]] = ("typed",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        graph = graph.copy()
        folded = 0
        for node in graph.of_kind("BatchNorm"):
            folded += _fold_back(graph, node) or _fold_forward(graph, node) or _as_weights(graph, node)
        notes = (f"folded {count(folded, 'batch normalisation')}",) if folded else ()
        return PassResult(graph, bool(folded), notes)


def affine_form(op: Any) -> tuple[np.ndarray, np.ndarray]:
    """Batch normalisation as y = g x + c, per channel, float64."""
    g = np.asarray(op.weight, np.float64) / np.sqrt(np.asarray(op.var, np.float64) + op.eps)
    return g, np.asarray(op.bias, np.float64) - g * np.asarray(op.mean, np.float64)


def with_weights(op: Any, weight: np.ndarray, bias: np.ndarray) -> Any:
    """The same synapse op with other weights and bias (a Linear becomes an Affine)."""
    if isinstance(op, (nir.Affine, nir.Linear)):
        return nir.Affine(weight, bias)
    return type(op)(op.input_shape, weight, op.stride, op.padding, op.dilation, op.groups, bias)


def scale_rows(weight: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Multiply each output channel (axis 0) of a weight by its factor."""
    return weight * factor.reshape(-1, *[1] * (weight.ndim - 1))


def _fold_back(graph: Graph, node: Node) -> bool:
    feeds = graph.predecessors(node.name)
    if len(feeds) != 1 or not feeds[0].is_synapse or len(graph.out_edges(feeds[0].name)) != 1:
        return False
    synapse = feeds[0]
    if len(synapse.shape) != synapse.op.weight.ndim - 1:
        return False  # a linear layer on the last of several axes: its outputs are not the channels
    g, c = affine_form(node.op)
    weight = np.asarray(synapse.op.weight, np.float64)
    bias = bias_of(synapse.op)
    bias = np.zeros(len(weight)) if bias is None else np.asarray(bias, np.float64)
    graph.update(synapse.name, op=with_weights(synapse.op, scale_rows(weight, g), g * bias + c))
    graph.bypass(node.name)
    return True


def _fold_forward(graph: Graph, node: Node) -> bool:
    consumers = graph.successors(node.name)
    if len(consumers) != 1 or not consumers[0].is_synapse or len(graph.in_edges(consumers[0].name)) != 1:
        return False
    synapse = consumers[0]
    op = synapse.op
    is_conv = op.weight.ndim > 2
    if is_conv and any(side for sides in conv_padding(op) for side in sides):
        return False  # the constant c would have to be missing in the padded border
    if not is_conv and len(node.shape) != 1:
        return False
    g, c = affine_form(node.op)
    weight = np.asarray(op.weight, np.float64)
    bias = bias_of(op)
    bias = np.zeros(len(weight)) if bias is None else np.asarray(bias, np.float64)
    per_input = input_channels(op, g)
    shift = weight * input_channels(op, c)
    graph.update(
        synapse.name,
        op=with_weights(op, weight * per_input, bias + shift.reshape(len(weight), -1).sum(1)),
    )
    graph.bypass(node.name)
    return True


def _as_weights(graph: Graph, node: Node) -> bool:
    if not any(graph[name].is_synapse for name in graph.ancestors(node.name)):
        return False
    g, c = affine_form(node.op)
    synapse = one_to_one(g.reshape(-1, *[1] * (len(node.shape) - 1)), node.shape)
    graph.update(node.name, op=with_weights(synapse, synapse.weight, c))
    return True


def input_channels(op: Any, factor: np.ndarray) -> np.ndarray:
    """A value per input channel, shaped to multiply the op's weight; groups are respected."""
    weight = op.weight
    if weight.ndim == 2:
        return factor.reshape(1, -1)
    groups = int(op.groups)
    per_group = factor.reshape(groups, weight.shape[1])
    rows = np.repeat(per_group, len(weight) // groups, axis=0)
    return rows.reshape(len(weight), weight.shape[1], *[1] * (weight.ndim - 2))
