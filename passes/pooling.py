"""Fold average and sum pooling into the synapses beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import nir
import numpy as np

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.shapes import Shape, conv_padding, pair, shape_rule
from hsnn_compiler.passes.base import Pass, PassContext, PassResult, count
from hsnn_compiler.passes.batchnorm import with_weights
from hsnn_compiler.passes.properties import ends_synapses, sends_spikes

POOLS = ("AvgPool2d", "SumPool2d")
WEIGHTLESS = ("Flatten", "AvgPool2d", "SumPool2d", "Mean", "Scale")


class Window(NamedTuple):
    """A pooling window: size, stride and padding as (height, width), and the weight of each pixel."""

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    weight: float


@dataclass(frozen=True)
class FoldPooling(Pass):
    """Fold average pooling on the chip into the convolution or linear layer after it, or before it.

    Pooling is a convolution with equal weights c = 1/k^2, so it merges with the one beside it.
    Before a convolution (kernel K, stride s, dilation d): kernel (K-1) d k + k, stride s k, padding p k, each
    weight repeated over its window times c. After a convolution: kernel (k-1) s + (K-1) d + 1, stride s k.
    Before a linear layer: each weight repeated over the pixels of its window. Between two
    neurons: synapses of its own (a depthwise convolution).
    """

    name: ClassVar[str] = "fold-pooling"
    requires: ClassVar[tuple[str, ...]] = ("direct",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        graph = _means_as_pools(infer_types(graph))
        findings: list[Finding] = []
        pools = [node for node in graph.of_kind(*POOLS) if node.on_chip]
        folded = 0
        for node in pools:
            if _fold_forward(graph, node) or _fold_back(graph, node) or _own_synapses(graph, node):
                folded += 1
            elif not _leaves(graph, node):
                findings.append(_not_folded(node))
        notes = (f"folded {count(folded, 'pooling')} into synapses",) if folded else ()
        return PassResult(graph, bool(pools), notes, tuple(findings))


def window_of(op: Any) -> Window:
    """The window of an AvgPool2d or SumPool2d."""
    size = pair(op.kernel_size)
    weight = 1.0 / (size[0] * size[1]) if isinstance(op, nir.AvgPool2d) else 1.0
    return Window(size, pair(op.stride), pair(op.padding), weight)


def pool_as_conv(op: Any, shape: Shape) -> nir.Conv2d:
    """A pooling of [channels, height, width] as a depthwise convolution with equal weights."""
    window = window_of(op)
    weight = np.full((shape[0], 1, *window.size), window.weight)
    return nir.Conv2d(shape[1:], weight, window.stride, window.padding, (1, 1), shape[0], np.zeros(shape[0]))


def pool_then_conv(window: Window, conv: Any, shape: Shape) -> nir.Conv2d | None:
    """One convolution for pooling followed by `conv`, on an input of `shape`; None where borders differ."""
    sides = conv_padding(conv)
    if any(before != after for before, after in sides):
        return None
    padded = any(side for both in sides for side in both)
    tiles = window.size == window.stride and window.padding == (0, 0)
    if padded and not (tiles and all(n % k == 0 for n, k in zip(shape[1:], window.size, strict=True))):
        return None  # the convolution's zero border would see pixels that pooling dropped or shared
    weight = np.asarray(conv.weight, np.float64)
    step = [s * d for s, d in zip(window.stride, pair(conv.dilation), strict=True)]
    size = [(n - 1) * st + k for n, st, k in zip(weight.shape[2:], step, window.size, strict=True)]
    merged = np.zeros((*weight.shape[:2], *size))
    for y, x in np.ndindex(*weight.shape[2:]):
        top, left = y * step[0], x * step[1]
        merged[:, :, top : top + window.size[0], left : left + window.size[1]] += (
            weight[:, :, y : y + 1, x : x + 1] * window.weight
        )
    stride = tuple(a * b for a, b in zip(window.stride, pair(conv.stride), strict=True))
    padding = tuple(p + s * side[0] for p, s, side in zip(window.padding, window.stride, sides, strict=True))
    return nir.Conv2d(shape[1:], merged, stride, padding, (1, 1), int(conv.groups), conv.bias)


def conv_then_pool(conv: Any, window: Window) -> nir.Conv2d | None:
    """One convolution for `conv` followed by pooling; None where borders differ."""
    sides = conv_padding(conv)
    if window.padding != (0, 0) or any(before != after for before, after in sides):
        return None
    weight = np.asarray(conv.weight, np.float64)
    stride, dilation = pair(conv.stride), pair(conv.dilation)
    spread = [(n - 1) * d + 1 for n, d in zip(weight.shape[2:], dilation, strict=True)]
    size = [(k - 1) * s + n for k, s, n in zip(window.size, stride, spread, strict=True)]
    merged = np.zeros((*weight.shape[:2], *size))
    for y, x in np.ndindex(*window.size):
        top, left = y * stride[0], x * stride[1]
        merged[:, :, top : top + spread[0] : dilation[0], left : left + spread[1] : dilation[1]] += (
            weight * window.weight
        )
    padding = tuple(side[0] for side in sides)
    steps = tuple(a * b for a, b in zip(stride, window.stride, strict=True))
    bias = np.asarray(conv.bias, np.float64) * (window.weight * window.size[0] * window.size[1])
    return nir.Conv2d(conv.input_shape, merged, steps, padding, (1, 1), int(conv.groups), bias)


def pool_then_linear(window: Window, weight: np.ndarray, shape: Shape, pooled: Shape) -> np.ndarray:
    """Weights [out, C*H*W] that act on `shape` as `weight` [out, C*h*w] acts on the pooled input."""
    small = np.asarray(weight, np.float64).reshape(-1, *pooled)
    canvas = np.zeros((len(small), shape[0], *(n + 2 * p for n, p in zip(shape[1:], window.padding, strict=True))))
    height, width = pooled[1:]
    for y, x in np.ndindex(*window.size):
        rows = slice(y, y + (height - 1) * window.stride[0] + 1, window.stride[0])
        columns = slice(x, x + (width - 1) * window.stride[1] + 1, window.stride[1])
        canvas[:, :, rows, columns] += small * window.weight
    top, left = window.padding
    return canvas[:, :, top : top + shape[1], left : left + shape[2]].reshape(len(small), -1)


def _means_as_pools(graph: Graph) -> Graph:
    """Write a mean over height and width as average pooling (and Flatten)."""
    graph = graph.copy()
    for node in graph.of_kind("Mean"):
        shape = graph.predecessors(node.name)[0].shape
        axes = {axis % len(shape) for axis in node.op.axes}
        if not node.on_chip or len(shape) != 3 or axes != {1, 2}:
            continue
        if not node.op.keepdim:
            flatten = nir.Flatten({"input": np.array([shape[0], 1, 1])}, 0, -1)
            graph.insert_after(node.name, node.with_(name=graph.unique(f"{node.name}.flatten"), op=flatten))
        graph.update(node.name, op=nir.AvgPool2d(np.array(shape[1:]), np.array(shape[1:]), np.array([0, 0])))
    return infer_types(graph)


def _fold_forward(graph: Graph, node: Node) -> bool:
    shape = graph.predecessors(node.name)[0].shape
    window = window_of(node.op)
    changes: dict[str, Any] = {}
    for consumer in graph.successors(node.name):
        if len(graph.in_edges(consumer.name)) != 1:
            return False
        if consumer.kind == "Conv2d":
            merged = pool_then_conv(window, consumer.op, shape)
            if merged is None or shape_rule(merged, [shape]) != consumer.shape:
                return False
            changes[consumer.name] = merged
        elif consumer.kind == "Flatten" and len(consumer.shape) == 1:
            for linear in graph.successors(consumer.name):
                if linear.kind not in ("Affine", "Linear") or len(graph.in_edges(linear.name)) != 1:
                    return False
                weight = pool_then_linear(window, linear.op.weight, shape, node.shape)
                changes[linear.name] = with_weights(
                    linear.op, weight, getattr(linear.op, "bias", np.zeros(len(weight)))
                )
            changes[consumer.name] = nir.Flatten({"input": np.array(shape)}, 0, -1)
        else:
            return False
    for name, op in changes.items():
        graph.update(name, op=op)
    graph.bypass(node.name)
    return True


def _fold_back(graph: Graph, node: Node) -> bool:
    feeds = graph.predecessors(node.name)
    if len(feeds) != 1 or feeds[0].kind != "Conv2d" or len(graph.out_edges(feeds[0].name)) != 1:
        return False
    merged = conv_then_pool(feeds[0].op, window_of(node.op))
    if merged is None:
        return False
    graph.update(feeds[0].name, op=merged, type=node.type)
    graph.bypass(node.name)
    return True


def _own_synapses(graph: Graph, node: Node) -> bool:
    """Between two neurons, or spikes of the host and neurons, pooling is a depthwise convolution with equal weights."""
    starts = all(ends_synapses(source) or sends_spikes(source) for source in graph.predecessors(node.name))
    if not (starts and all(ends_synapses(consumer) for consumer in graph.successors(node.name))):
        return False
    graph.update(node.name, op=pool_as_conv(node.op, graph.predecessors(node.name)[0].shape))
    return True


def _leaves(graph: Graph, node: Node) -> bool:
    """Whether only weightless ops lie between a pooling and the host; `insert-readout` moves it there."""
    while node.kind != "Decode":
        consumers = graph.successors(node.name)
        if node.kind not in WEIGHTLESS or len(graph.in_edges(node.name)) != 1 or len(consumers) != 1:
            return False
        node = consumers[0]
    return True


def _not_folded(node: Node) -> Finding:
    return Finding(
        "E0433",
        f"{node.kind} has no weights beside it to be folded into",
        node=node.name,
        source=node.source,
        supported="pooling directly before or after a convolution, before a linear layer, or between neurons",
        suggestion="choose a pooling window that divides the image, or put a convolution beside it",
    )
