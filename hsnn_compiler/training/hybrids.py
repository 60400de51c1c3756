"""Hybrids of a converted network and the one before conversion: a spiking front, a projection, the frozen analog tail.

    M_k = S_0 .. S_k -> C_k -> A_(k+1) .. A_n

S_i are the spiking blocks and A_i the analog ones (arXiv 2503.16572, ANN-guided distillation by block-wise
replacement). What a block passes on is the rate of its last neurons, theta times their mean number of spikes per step,
which stands for the activation that they replaced. Hybrids exist while a network is trained and are dropped then.
"""

from __future__ import annotations

from collections.abc import Mapping

import nir
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Decode
from hsnn_compiler.ir.types import Coding, Placement, TensorType
from hsnn_compiler.reference.float_executor import FloatExecutor

RATE_SUFFIX = ".rate"
EPSILON = 1e-5


def with_rates(graph: Graph, signals: Mapping[str, str]) -> Graph:
    """The graph with one more output for each block: what its last neurons' spikes stand for, once per sample.

    Args:
        graph: with time.
        signals: by the name of the block's end, the node behind its neurons whose steps are in the activation's units:
            their mean is taken, or where neurons fire once, their sum with each step's worth. The output has the end's
            name with `RATE_SUFFIX` behind it.
    """
    graph = graph.copy()
    place = Placement("host", "watched in training")
    for end, signal in signals.items():
        reader = Decode("ttfs" if graph[end].kind == "FirstSpike" else "mean")
        mean = graph.add(Node(graph.unique(f"{end}.mean"), reader, placement=place), signal)
        graph.add(Node(end + RATE_SUFFIX, nir.Output(np.array(graph[signal].shape)), placement=place), mean.name)
    return infer_types(graph)


def tail(graph: Graph, end: str) -> Graph:
    """What lies behind a cut point, as a graph whose only input has the cut point's name."""
    behind = graph.descendants(end)
    part = Graph(f"{graph.name}.behind.{end}", graph.timesteps)
    part.add(Node(end, nir.Input(np.array(graph[end].shape)), TensorType(graph[end].shape, Coding.VALUE)))
    for node in graph:
        if node.name in behind:
            part.add(node)
    for edge in graph.edges_as_added():
        if edge.dst in behind:
            part.connect(Edge(*edge))
    return infer_types(part)


class Projection(torch.nn.Module):
    """C_k: a 1x1 convolution (a linear layer, on a signal without axes behind the channels) and batch norm.

    It begins as the identity, up to the batch norm that gives each channel the mean and the spread that the analog
    signal has; the paper does not give a start. The statistics are those of the batch: it serves in training only.

    Args:
        mean: of the analog signal per channel, [C].
        spread: its standard deviation, [C].
    """

    def __init__(self, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(len(mean), dtype=mean.dtype, device=mean.device))
        self.gain = torch.nn.Parameter(spread.detach().clone())
        self.shift = torch.nn.Parameter(mean.detach().clone())

    def forward(self, rate: Tensor) -> Tensor:
        """[B, C, ...] to the same shape."""
        mixed = F.conv1d(_by_channel(rate), self.weight.unsqueeze(2))
        # Not F.batch_norm: it refuses a batch of one.
        variance, mean = torch.var_mean(mixed, (0, 2), correction=0, keepdim=True)
        scaled = (mixed - mean) * (self.gain.view(1, -1, 1) / (variance + EPSILON).sqrt()) + self.shift.view(1, -1, 1)
        return scaled.view(rate.shape)


class Hybrids:
    """Projections and analog tails of some blocks.

    Args:
        teacher: the network before conversion, without time.
        activations: by the name of a block's end, the teacher's values there, [samples, C, ...]: the projections begin
            with their statistics, and everything is computed where they lie and in their precision.

    Attributes:
        projections: by the name of the block's end.
    """

    def __init__(self, teacher: Graph, activations: Mapping[str, Tensor]) -> None:
        self.projections: dict[str, Projection] = {}
        self._tails: dict[str, FloatExecutor] = {}
        for end, values in activations.items():
            variance, mean = torch.var_mean(_by_channel(values), (0, 2), correction=0)
            self.projections[end] = Projection(mean, (variance + EPSILON).sqrt())
            self._tails[end] = FloatExecutor(tail(teacher, end), values.dtype, device=values.device)

    def parameters(self) -> dict[str, Tensor]:
        """Of all projections, by name; the tails are frozen."""
        return {
            f"{end}.projection.{name}": parameter
            for end, projection in self.projections.items()
            for name, parameter in projection.named_parameters()
        }

    def forward(self, rates: Mapping[str, Tensor], output: str) -> dict[str, Tensor]:
        """Outputs of the hybrids, by the name of the block's end.

        Args:
            rates: by the same names, [B, C, ...].
            output: name of the output that counts.
        """
        return {
            end: self._tails[end].evaluate({end: projection(rates[end])})[output]
            for end, projection in self.projections.items()
        }


def _by_channel(signal: Tensor) -> Tensor:
    """[B, C, ...] as [B, C, positions]."""
    return signal.flatten(2) if signal.ndim > 2 else signal.unsqueeze(2)


def mean_cosine(first: Tensor, second: Tensor) -> Tensor:
    """Mean over the samples of the cosine between two signals, [samples, ...] each; 0 where one of them is zero."""
    return F.cosine_similarity(first.flatten(1), second.flatten(1)).mean()
