"""The synapses of a layer, as arrays: dense matrices and two-dimensional convolutions.

Signals are channel-last: [batch, time, height, width, channels], or [batch, time, n] for dense layers.
A one-dimensional convolution is a two-dimensional one of height 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class DenseSynapse:
    """A matrix.

    Attributes:
        weight: [out, in]; the columns follow the C order of the input, see `channel_last_columns`.
        exponent: integer layers only: power of two on the sum; a negative one floors, as a right shift does.
    """

    weight: np.ndarray
    exponent: int = 0

    def __post_init__(self) -> None:
        if self.weight.ndim != 2:
            raise ValueError(f"a dense weight has shape [out, in], not {self.weight.shape}")
        if abs(self.exponent) > 31:
            raise ValueError(f"exponent {self.exponent} shifts everything out of 32 bits")

    @property
    def in_size(self) -> int:
        """Number of inputs."""
        return int(self.weight.shape[1])

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the population that is reached."""
        return (int(self.weight.shape[0]),)


@dataclass(frozen=True, eq=False)
class ConvSynapse:
    """A cross-correlation, as ``torch.nn.functional.conv2d`` computes it.

    Attributes:
        weight: [out, in / groups, ky, kx].
        input_shape: (height, width, channels).
        stride, dilation: (y, x).
        padding: zeros around the input, ((top, bottom), (left, right)).
        groups: as in PyTorch.
    """

    weight: np.ndarray
    input_shape: tuple[int, int, int]
    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        if self.weight.ndim != 4 or self.weight.shape[1] * self.groups != self.input_shape[2]:
            raise ValueError(
                f"a weight of shape {self.weight.shape} in {self.groups} groups on an input of shape {self.input_shape}"
            )
        if self.weight.shape[0] % self.groups:
            raise ValueError(f"{self.weight.shape[0]} output channels in {self.groups} groups")
        if min(self.out_shape) < 1:
            raise ValueError(f"an output of shape {self.out_shape}")

    @property
    def in_size(self) -> int:
        """Number of inputs."""
        return math.prod(self.input_shape)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the population that is reached: (height, width, channels)."""
        height, width = (
            (size + sum(pad) - dilation * (kernel - 1) - 1) // stride + 1
            for size, pad, dilation, kernel, stride in zip(
                self.input_shape[:2], self.padding, self.dilation, self.weight.shape[2:], self.stride, strict=True
            )
        )
        return height, width, int(self.weight.shape[0])


Synapse = DenseSynapse | ConvSynapse


def channel_last_columns(weight: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Columns of a dense weight [out, in] that follow a channel-first flatten, in channel-last order.

    Args:
        weight: [out, channels * positions], as behind ``torch.nn.Flatten``.
        shape: the flattened shape, channel first: (channels, height, width) or (channels, length).
    """
    columns = np.moveaxis(np.arange(weight.shape[1]).reshape(shape), 0, -1)
    return np.ascontiguousarray(weight[:, columns.ravel()])


def largest_sum(synapse: Synapse) -> int:
    """Of integer weights: bound on the absolute sum that inputs of 0 and 1 can deliver to any neuron."""
    weight = np.abs(synapse.weight.reshape(len(synapse.weight), -1).astype(np.int64))
    return int(weight.sum(1).max(initial=0))
