"""How well the integers of a weight layer hold its weights, channel by channel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.ops import ACTIVATIONS
from hsnn_compiler.ir.quant import WeightQuant
from hsnn_compiler.passes.batchnorm import affine_form


@dataclass(frozen=True)
class Weights:
    """One weight layer on the chip.

    Attributes:
        name, population: the synapses, and the neurons they feed.
        bits: of the integers.
        clipped: share of weights that hit the limit of the format.
        error: relative root mean square error of the weights of the median channel.
        alike_error: the same if all channels were as large as the median one: what the bits alone cost.
        dominance: largest weight of the largest channel over that of the median channel.
        channel: which channel that is.
        of_inputs: whether it is an input channel.
        levels: integer levels on one side of zero that the median channel uses.
        most: as many as the format has there.
        larger, larger_by: the synapses into the same population whose weights are more than twice as large and so set
            the scale of both, and how many times as large they are; empty if there are none.
    """

    name: str
    population: str
    bits: int
    clipped: float
    error: float
    alike_error: float
    dominance: float
    channel: int
    of_inputs: bool
    levels: float
    most: int
    larger: str
    larger_by: float


@dataclass(frozen=True)
class NormRatio:
    """A batch normalisation and how much more than the median it scales one channel."""

    name: str
    ratio: float


def weights_of(graph: Graph, floating: Graph) -> Iterator[Weights]:
    """All weight layers on the chip, each against the same layer before quantisation."""
    for node in graph:
        quant = node.quant
        if isinstance(quant, WeightQuant) and node.name in floating:
            before = np.asarray(floating[node.name].op.weight, np.float64)
            after = np.asarray(node.op.weight, np.float64)
            if before.shape == after.shape and before.any():
                yield _weights(graph, node, quant, before, after)


def feeding(graph: Graph, synapse: str) -> Node | None:
    """The population that a synapse op reads, through reshaping."""
    node = graph.predecessors(synapse)[0]
    while not (node.is_population or node.is_event_source):
        feeds = graph.predecessors(node.name)
        if len(feeds) != 1:
            return None
        node = feeds[0]
    return node


def batch_norm_ratio(captured: Graph, activation: str, channel: int) -> NormRatio | None:
    """The batch normalisation in front of an activation, if there is one before the next activation."""
    if activation not in captured:
        return None
    node = captured[activation]
    while len(feeds := captured.predecessors(node.name)) == 1:
        node = feeds[0]
        if node.kind == "BatchNorm":
            gains = np.abs(affine_form(node.op)[0])
            median = float(np.median(gains))
            return NormRatio(node.name, float(gains[channel]) / median) if median and channel < len(gains) else None
        if node.kind in (*ACTIVATIONS, "Input") or node.is_neuron:
            return None
    return None


def _weights(graph: Graph, node: Node, quant: WeightQuant, before: np.ndarray, after: np.ndarray) -> Weights:
    step = 1 << (8 - quant.bits + (quant.sign_mode == "mixed"))
    sides = {axis: _ranges(graph, node, before, axis) for axis in (0, 1) if before.shape[axis] > 1}
    axis = max(sides, key=lambda a: float(sides[a].max() / np.median(sides[a])), default=0)
    ranges = sides.get(axis, np.abs(before).max(keepdims=True).reshape(1))
    squares = [_grouped(graph, node, part**2, axis).sum(1) for part in (after - before, before)]
    alive = squares[1] > 0
    relative = np.sqrt(squares[0][alive] / squares[1][alive])
    unit = quant.scale * 2.0**-quant.exponent  # integers per real unit
    top = float(ranges.max())
    population = graph.successors(node.name)[0].name
    others = {
        source.name: float(np.abs(source.op.weight).max())
        for source in graph.predecessors(population)
        if source.is_synapse
    }
    larger = max(others, key=lambda name: others[name])
    by = others[larger] / max(float(np.abs(after).max()), 1e-30)
    limit = 255 if quant.sign_mode != "mixed" else 256
    # As uniform rounding noise, were every channel's largest weight at the limit of the format.
    size = np.sqrt(squares[1][alive] / _grouped(graph, node, before, axis).shape[1]) / ranges[alive]
    return Weights(
        node.name,
        population,
        quant.bits,
        quant.clipped / before.size,
        float(np.median(relative)),
        float(np.median(step / limit / np.sqrt(12) / size)),
        top / float(np.median(ranges[alive])),
        int(ranges.argmax()),
        axis == 1,
        float(np.median(ranges[alive])) * unit / step,
        limit // step,
        larger if by > 2 else "",
        by,
    )


def _ranges(graph: Graph, node: Node, weight: np.ndarray, axis: int) -> np.ndarray:
    """Largest magnitude per channel; channels without weights have 0, which no median should see."""
    ranges: np.ndarray = _grouped(graph, node, np.abs(weight), axis).max(1)
    return ranges


def _grouped(graph: Graph, node: Node, weight: np.ndarray, axis: int) -> np.ndarray:
    """[channels, weights]; behind a Flatten, the inputs of a linear layer that come from one channel together."""
    rows = np.moveaxis(weight, axis, 0)
    source = feeding(graph, node.name)
    if axis == 1 and weight.ndim == 2 and source is not None and len(source.shape) > 1:
        rows = rows.reshape(source.shape[0], -1)
    return rows.reshape(len(rows), -1)
