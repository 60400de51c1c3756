"""HAS blocks: an ANN path and a spiking path in parallel.

    y = ann(x) + decode(spiking(encode(x)))

The spiking path has T steps for every sample and starts afresh each time; its result is a value again, so blocks
follow each other like layers of an ANN. Source: Luu et al., "Hybrid Layer-Wise ANN-SNN With Surrogate Spike
Encoding-Decoding Structure", arXiv 2509.24411. What goes into a block has to be at least zero (encoders clip below
it), which ReLU and decoded spikes see to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from hsnn_compiler.nn.decoders import BitPlaneSum
from hsnn_compiler.nn.encoders import BitPlane
from hsnn_compiler.nn.loop import TimeLoop
from hsnn_compiler.nn.neurons import IF
from hsnn_compiler.nn.residual import Residual, SEWAdd

Make = Callable[[], nn.Module]


@dataclass(frozen=True)
class Parts:
    """What blocks are made with: functions without arguments, called once for each module needed.

    Attributes:
        encoder: `BitPlane`, or another of `encoders`; all of one network need the same number of steps.
        decoder: what puts its code together again, or `Rate`.
        neuron: `IF` (paper) or `LIF` (published code).
        activation: of the ANN path.
        join: of the residual blocks' spiking path, a mode of `SEWAdd`.
    """

    encoder: Make = BitPlane
    decoder: Make = BitPlaneSum
    neuron: Make = IF
    activation: Make = nn.ReLU
    join: str = "add"


class HASBlock(nn.Module):
    """``y = ann(x) + decoder(spiking(encoder(x)))``, both paths fed by the same x.

    Args:
        ann: values to values.
        spiking: one step, such as convolution, batch norm, neuron; it runs layer by layer (see `TimeLoop`), so that
            batch norm sees [T B, ...]: in eval mode it is the same affine function in every step.
        encoder: values to steps; by default `BitPlane` with 8 steps.
        decoder: steps to values; by default `BitPlaneSum`.
    """

    def __init__(
        self, ann: nn.Module, spiking: nn.Module, encoder: nn.Module | None = None, decoder: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.ann = ann
        self.snn = TimeLoop(encoder or BitPlane(), spiking, decoder or BitPlaneSum(), layerwise=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x [B, ...]``, at least zero, to what both paths give."""
        fused: torch.Tensor = self.ann(x) + self.snn(x)
        return fused


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Convolution that keeps the size (but for the stride), and batch norm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


def has_conv(
    inputs: int,
    outputs: int,
    parts: Parts,
    *,
    kernel: int = 3,
    stride: int = 1,
    ann_pool: nn.Module | None = None,
    snn_pool: nn.Module | None = None,
) -> HASBlock:
    """Convolution, batch norm and activation beside convolution, batch norm and neurons; pooling behind either."""
    ann = [*_conv(inputs, outputs, kernel, stride), parts.activation(), *([ann_pool] if ann_pool else [])]
    snn = [*_conv(inputs, outputs, kernel, stride), parts.neuron(), *([snn_pool] if snn_pool else [])]
    return HASBlock(nn.Sequential(*ann), nn.Sequential(*snn), parts.encoder(), parts.decoder())


def has_residual(inputs: int, outputs: int, parts: Parts, *, stride: int = 1) -> HASBlock:
    """A ResNet basic block beside a SEW-ResNet one.

        ann   activation(bn(conv(activation(bn(conv(x))))) + shortcut(x))
        snn   neuron(bn(conv(neuron(bn(conv(s)))))) joined with shortcut(s)

    The shortcut is the identity where shapes allow it; otherwise a convolution 1x1 and batch norm, with neurons behind
    it in the spiking path.
    """
    changes = stride != 1 or inputs != outputs
    ann = Residual(
        nn.Sequential(*_conv(inputs, outputs, 3, stride), parts.activation(), *_conv(outputs, outputs, 3)),
        nn.Sequential(*_conv(inputs, outputs, 1, stride)) if changes else nn.Identity(),
    )
    snn = Residual(
        nn.Sequential(*_conv(inputs, outputs, 3, stride), parts.neuron(), *_conv(outputs, outputs, 3), parts.neuron()),
        nn.Sequential(*_conv(inputs, outputs, 1, stride), parts.neuron()) if changes else nn.Identity(),
        SEWAdd(parts.join),
    )
    return HASBlock(nn.Sequential(ann, parts.activation()), snn, parts.encoder(), parts.decoder())


def has_linear(sizes: Sequence[int], parts: Parts) -> HASBlock:
    """Linear layers with activations in between beside linear layers with neurons behind each.

    The last linear layer of the ANN path has no activation: the block may end a classifier.

    Args:
        sizes: features in, of the hidden layers, and out: two or more.
        parts: see `Parts`.
    """
    if len(sizes) < 2:
        raise ValueError(f"sizes must hold features in and out, not {list(sizes)}")
    pairs = list(pairwise(sizes))
    ann = [part for a, b in pairs for part in (nn.Linear(a, b), parts.activation())][:-1]
    snn = [part for a, b in pairs for part in (nn.Linear(a, b), parts.neuron())]
    return HASBlock(nn.Sequential(*ann), nn.Sequential(*snn), parts.encoder(), parts.decoder())
