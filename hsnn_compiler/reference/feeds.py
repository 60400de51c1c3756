"""Synapses as parts of the layers that the compiled kernels run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.shapes import Shape


@dataclass(frozen=True)
class Feed:
    """Synapses of a fused layer.

    Attributes:
        synapse: the op with the weights.
        source: the node that feeds it; a Flatten between is looked through.
        delay: in steps, of all edges between.
        scale: a Scale of spikes between, which is as good as in the weights, or None.
    """

    synapse: Node
    source: Node
    delay: int
    scale: Node | None = None

    @property
    def inside(self) -> list[str]:
        """Names of what is part of the layer."""
        return [self.synapse.name] + ([self.scale.name] if self.scale else [])

    @property
    def weight(self) -> np.ndarray:
        """Weights for what the source sends, the scale in them, float64 where there is one."""
        weight = np.asarray(self.synapse.op.weight)
        if self.scale is None:
            return weight
        if not self.synapse.kind.startswith("Conv"):
            return weight.astype(np.float64) * np.broadcast_to(_factor(self.scale), self.source.shape).reshape(-1)
        groups = int(self.synapse.op.groups)
        channels = np.broadcast_to(_factor(self.scale).reshape(-1), (groups * weight.shape[1],)).reshape(groups, 1, -1)
        by_group = weight.astype(np.float64).reshape(groups, -1, *weight.shape[1:])
        return (by_group * channels.reshape(*channels.shape, *[1] * (weight.ndim - 2))).reshape(weight.shape)


def feed_of(graph: Graph, synapse: Node, node: Node, merge: bool) -> Feed | None:
    """The synapse op as part of the layer of `node`, if it is of use to nobody else and the kernels know its kind.

    Args:
        graph: with types.
        synapse: feeds `node`.
        node: the population.
        merge: whether a scale of spikes may become part of the layer, and a constant current not: that is weighed
            once rather than at every step.
    """
    feeds = graph.in_edges(synapse.name)
    if not synapse.is_synapse or len(feeds) != 1 or len(graph.out_edges(synapse.name)) != 1:
        return None
    (edge,) = feeds
    source, delay, scale = graph[edge.src], edge.delay, None
    is_conv = synapse.kind.startswith("Conv")
    above = graph.in_edges(source.name)
    if not is_conv and source.kind == "Flatten" and len(above) == 1 and len(source.shape) == 1:
        source, delay = graph[above[0].src], delay + above[0].delay
        above = graph.in_edges(source.name)
    elif not is_conv and not (len(source.shape) == 1 and len(node.shape) == 1):
        return None
    if merge and source.kind == "Scale" and len(above) == 1 and _commutes(source, graph[above[0].src], is_conv):
        source, delay, scale = graph[above[0].src], delay + above[0].delay, source
    if merge and source.kind == "Encode" and not source.is_event_source:
        return None
    if is_conv and len(source.shape) != synapse.op.weight.ndim - 1:
        return None
    return Feed(synapse, source, delay, scale)


def is_own_sum(graph: Graph, edge: Edge) -> bool:
    """Whether an edge comes from a sum that feeds nobody else."""
    return graph[edge.src].kind == "Add" and not edge.delay and len(graph.out_edges(edge.src)) == 1


def _commutes(scale: Node, source: Node, is_conv: bool) -> bool:
    """Whether a scale of spikes may go into the weights behind it: into those of a convolution only per channel."""
    if not source.is_spiking or source.shape != scale.shape:
        return False
    factor = _factor(scale)
    return not is_conv or factor.size == (factor.shape[0] if factor.ndim else 1)


def _factor(scale: Node) -> np.ndarray:
    """As it broadcasts, with as many axes as the signal."""
    factor = np.asarray(scale.op.scale, np.float64)
    shape: Shape = scale.shape
    return factor.reshape((1,) * (len(shape) - factor.ndim) + factor.shape)
