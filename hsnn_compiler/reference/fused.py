"""Layers that the compiled kernels can run: a population together with the synapses that feed only it.

Signals keep their usual axes, [time, batch, channels, ...]; in memory the kernels hold them
[batch, time, ..., channels], so what goes from one such layer to the next is never copied.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.order import is_loop
from hsnn_compiler.ir.shapes import Shape, conv_padding
from hsnn_compiler.reference.feeds import Feed, feed_of, is_own_sum
from hsnn_compiler.reference.result import Record

if TYPE_CHECKING:
    from hsnn_compiler.kernels import Layer, Run
    from hsnn_compiler.kernels.layer import State
    from hsnn_compiler.kernels.synapses import Synapse


WORTH_COMPILING = 10**6
"""Neuron-steps of a run from which on the kernels are used: for fewer, loading them takes longer than all the rest."""
FEW_CHANNELS = 8
BYTES = (np.dtype(np.uint8), np.dtype(np.bool_))
"""Types in which spikes are handed to the kernels."""


@dataclass(frozen=True)
class FusedLayer:
    """A population, the synapses that are its own, the other edges into it or its sums, and these sums."""

    node: Node
    feeds: tuple[Feed, ...]
    others: tuple[Edge, ...]
    sums: tuple[str, ...] = ()

    @property
    def inside(self) -> list[str]:
        """Names of nodes whose output never exists by itself."""
        return [name for feed in self.feeds for name in feed.inside]


class FusedPlan:
    """What of a graph runs as layers, for one choice of recorded signals.

    Args:
        graph: with types.
        order: its groups, see `hsnn_compiler.ir.order.groups`.
        populations: names of those whose neurons the kernels know.
        record: signals wanted: a node whose own output is, does not disappear into a layer.
        apart: other nodes that must not.
        merge: whether scales of spikes may disappear into weights and sums into what they feed: real numbers then
            add up in another order.

    Attributes:
        layers: by population.
        inside: nodes that need no evaluation of their own: synapses of layers, and what was looked through.
        last_use: for every group, by its position, the signals that nothing after it needs.
        ordered: the nodes of all groups.
    """

    def __init__(
        self,
        graph: Graph,
        order: list[list[Node]],
        populations: Collection[str],
        record: Collection[Record],
        apart: Collection[str] = (),
        merge: bool = False,
    ) -> None:
        keep = {name for name, variable in record if variable == "s"} | set(apart)
        loops = on_loops(graph, order)
        self.layers = {name: _layer(graph, graph[name], keep, merge) for name in populations if name not in loops}
        self.inside = {feed.synapse.name for layer in self.layers.values() for feed in layer.feeds}
        self.inside |= {name for layer in self.layers.values() for name in layer.sums}
        visible = keep | {feed.source.name for layer in self.layers.values() for feed in layer.feeds}
        visible |= {edge.src for layer in self.layers.values() for edge in layer.others}
        for passed in ("Flatten", "Scale"):  # in this order: a scale may lie before a Flatten
            self.inside |= {
                node.name
                for node in graph.of_kind(passed)
                if node.name not in visible and all(e.dst in self.inside for e in graph.out_edges(node.name))
            }
        self.last_use = last_uses(graph, order, self.layers, self.inside)
        self.ordered = [node for group in order for node in group]


def _layer(graph: Graph, node: Node, keep: Collection[str], merge: bool) -> FusedLayer:
    feeds, others, sums = [], [], []
    waiting = graph.in_edges(node.name)
    while waiting:
        edge = waiting.pop(0)
        if merge and is_own_sum(graph, edge) and edge.src not in keep:
            sums.append(edge.src)
            waiting += graph.in_edges(edge.src)
            continue
        feed = None if edge.delay or edge.src in keep else feed_of(graph, graph[edge.src], node, merge)
        if feed is None:
            others.append(edge)
        else:
            feeds.append(feed)
    return FusedLayer(node, tuple(feeds), tuple(others), tuple(sums))


class FusedRun:
    """The fused layers of one run.

    Args:
        plan: of the graph.

    Attributes:
        layers, inside, last_use: as in the plan.
        how: by population, how it was run.
        states: by population, where the next stretch goes on.
    """

    def __init__(self, plan: FusedPlan) -> None:
        self.layers, self.inside, self.last_use = plan.layers, plan.inside, plan.last_use
        self.how: dict[str, str] = {}
        self.states: dict[str, State] = {}

    def call(
        self, node: Node, layer: Layer, inputs: list[np.ndarray], extra: Tensor | None, record: Collection[str],
        resets: list[int],
    ) -> Run:  # fmt: skip
        """Run a layer over a stretch of time.

        Args:
            node: the population.
            layer: made for it.
            inputs: of its synapses, as the kernels hold them.
            extra: more synaptic input, [time, batch, ...].
            record: of ``u`` and ``v``.
            resets: steps of the stretch before which the state starts anew.
        """
        more = None if extra is None else to_kernel(extra, node.shape)
        steps = inputs[0].shape[1] if inputs else len(extra) if extra is not None else 0
        again = np.isin(np.arange(steps), resets) if resets else None
        done = layer.run(inputs, more, record, again, self.states.get(node.name))
        self.states[node.name] = done.state
        self.how[node.name] = done.method
        return done


def last_uses(
    graph: Graph, order: list[list[Node]], layers: Mapping[str, FusedLayer], inside: Collection[str] = ()
) -> dict[int, list[str]]:
    """For every group, by its position in the order, the signals that nothing after it needs."""
    position = {node.name: i for i, group in enumerate(order) for node in group}
    last = dict(position)
    for edge in graph.edges:
        last[edge.src] = max(last[edge.src], position[edge.dst])
    for name, layer in layers.items():
        for feed in layer.feeds:
            last[feed.source.name] = max(last[feed.source.name], position[name])
        for edge in layer.others:
            last[edge.src] = max(last[edge.src], position[name])
    uses: dict[int, list[str]] = {}
    for name, at in last.items():
        if name not in inside:
            uses.setdefault(at, []).append(name)
    return uses


def ways(
    populations: Collection[str], loops: Collection[str], kernels: Mapping[str, str] | None, why_not: str
) -> dict[str, str]:
    """How each population was run, in words.

    Args:
        populations: names.
        loops: those that lie on a loop.
        kernels: by population, what the kernels did; None where they were not used.
        why_not: why they were not.
    """
    slow = why_not if kernels is None else "not a neuron of the kernels"
    done = kernels or {}
    return {
        name: done.get(name) or ("torch: step by step, on a loop" if name in loops else f"torch: {slow}")
        for name in populations
    }


def on_loops(graph: Graph, order: list[list[Node]]) -> set[str]:
    """Names of the nodes that have to be evaluated step by step."""
    return {node.name for group in order if is_loop(graph, group) for node in group}


class Worth:
    """Decides whether compiled kernels pay: not before this process has had so much work that loading them did."""

    def __init__(self) -> None:
        self.work = 0

    @property
    def is_decided(self) -> bool:
        """Whether they pay by now, for every run."""
        return self.work >= WORTH_COMPILING

    def __call__(self, neuron_steps: int) -> bool:
        """Count a run of so many neurons, steps and samples, and decide for it."""
        self.work += neuron_steps
        return self.is_decided


worth_compiling = Worth()


def kernel_synapse(feed: Feed, weight: np.ndarray, exponent: int = 0) -> Synapse:
    """The kernel's form of a feed with these weights (real, or a chip's integers)."""
    from hsnn_compiler.kernels import ConvSynapse, DenseSynapse, channel_last_columns

    op, shape = feed.synapse.op, feed.source.shape
    if not feed.synapse.kind.startswith("Conv"):
        if len(shape) > 1:
            weight = channel_last_columns(weight, shape)
        return DenseSynapse(np.ascontiguousarray(weight), exponent)
    sides = conv_padding(op)
    if weight.ndim == 3:
        weight, sides = weight[:, :, None], ((0, 0), *sides)
    stride, dilation = _pair(op.stride, len(shape)), _pair(op.dilation, len(shape))
    height, width = shape[1:] if len(shape) == 3 else (1, shape[1])
    padding = (sides[0], sides[1])
    return ConvSynapse(weight, (height, width, shape[0]), stride, padding, dilation, int(op.groups))


def _pair(value: Any, rank: int) -> tuple[int, int]:
    numbers = np.atleast_1d(np.asarray(value)).astype(int).tolist()
    if rank == 2:
        return 1, numbers[0]
    return (numbers[0], numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def kernel_shape(shape: Shape) -> Shape:
    """[C, H, W] as (H, W, C), [C, L] as (1, L, C), [N] as (N,)."""
    return shape if len(shape) == 1 else (*((1,) if len(shape) == 2 else ()), *shape[1:], shape[0])


def parameter(array: np.ndarray, rank: int) -> Any:
    """A neuron's parameter for the kernels: a number, or an array with the channels last."""
    if array.size == 1:
        return array.item()
    return np.ascontiguousarray(np.moveaxis(array.reshape((1,) * (rank - array.ndim) + array.shape), 0, -1))


def to_kernel(value: Tensor, shape: Shape) -> np.ndarray:
    """[time, batch, *shape] as [batch, time, *kernel_shape(shape)]; no copy if a kernel made it."""
    value = value.transpose(0, 1)
    if len(shape) == 1:
        return value.numpy()
    array = value.movedim(2, -1).numpy()
    array = array.reshape(*array.shape[:2], *kernel_shape(shape)) if len(shape) == 2 else array
    if array.flags.c_contiguous or array.shape[-1] > FEW_CHANNELS:
        return np.ascontiguousarray(array)
    # Plane by plane: NumPy is slow where the innermost axis is short.
    out = np.empty(array.shape, array.dtype)
    for channel in range(array.shape[-1]):
        out[..., channel] = array[..., channel]
    return out


def from_kernel(array: np.ndarray, shape: Shape) -> Tensor:
    """The inverse of `to_kernel`, always without a copy."""
    value = torch.from_numpy(array)
    if len(shape) > 1:
        value = value.reshape(*value.shape[:2], *shape[1:], shape[0]).movedim(-1, 2)
    return value.transpose(0, 1)


def binary(value: Tensor, spikes: bool = False) -> Tensor:
    """Spikes as bytes; what is not all 0 and 1 as it is, or as int32 if it came in bytes.

    `spikes` says that it is known to be 0 and 1.
    """
    if value.dtype is torch.bool or (value.dtype is torch.uint8 and (spikes or bool((value <= 1).all()))):
        return value
    if value.dtype is torch.uint8:
        return value.to(torch.int32)
    small = value.to(torch.uint8)
    return small if bool((small <= 1).all()) and bool((small == value).all()) else value
