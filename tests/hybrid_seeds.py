"""Hybrid networks of the kinds people build, small: values and spikes side by side, or one after the other.

Each function of `SEEDS` gives a model in eval mode with calibrated encoders, and samples for it [samples, ...].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from hsnn_compiler.nn import (
    IF,
    LIF,
    BitPlane,
    Direct,
    Parts,
    Rate,
    RateCode,
    TimeLoop,
    calibration,
    has_resnet,
    has_vgg,
)

STEPS = 4
PARTS = Parts(encoder=partial(BitPlane, STEPS))


class SpikingBlock(nn.Module):
    """A block of a spiking transformer, one step per call: spikes ``[B, width, tokens]`` to sums of spikes.

        q, k, v = LIF(W s)
        a       = LIF(0.75 v (k^T q)), head by head: no softmax, products of spikes are counts
        s'      = s + LIF(W a)
        y       = s' + LIF(W LIF(W s'))

    Weights are the same for all tokens, convolutions of size 1 as in the published code. Source: Zhou et al.,
    "Spikformer: When Spiking Neural Network Meets Transformer", ICLR 2023, arXiv 2209.15425.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.project = (self._layer(width, width) for _ in range(4))
        self.mix = LIF(0.75, threshold=0.5)
        self.mlp = nn.Sequential(self._layer(width, 2 * width), self._layer(2 * width, width))

    def forward(self, s: torch.Tensor) -> torch.Tensor:
        """One step."""
        q, k, v = (layer(s).unflatten(1, (self.heads, -1)) for layer in (self.q, self.k, self.v))
        a = self.mix(0.75 * (v @ (k.transpose(-1, -2) @ q)).flatten(1, 2))
        s = s + self.project(a)
        y: torch.Tensor = s + self.mlp(s)
        return y

    @staticmethod
    def _layer(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv1d(inputs, outputs, 1, bias=False), nn.BatchNorm1d(outputs), LIF(0.75))


class SpikingTransformer(nn.Module):
    """Patches of an image as tokens, a `SpikingBlock` over time, and a linear layer on its mean rates."""

    def __init__(self, width: int = 8, heads: int = 2, classes: int = 5) -> None:
        super().__init__()
        self.patches = nn.Sequential(nn.Conv2d(1, width, 4, 4), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(2))
        self.block = TimeLoop(BitPlane(STEPS), SpikingBlock(width, heads), Rate())
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, 1, 8, 8]`` to ``[B, classes]``."""
        logits: torch.Tensor = self.head(self.block(self.patches(x)).mean(2))
        return logits


class VisionTransformer(nn.Module):
    """A plain ANN: patches, attention, layer norm, an MLP for each token, and an MLP with ReLU as a classifier."""

    def __init__(self, width: int = 8, heads: int = 2, classes: int = 5) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.place = nn.Parameter(torch.randn(4, width) / 2)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.head = nn.Sequential(
            nn.Linear(4 * width, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, classes)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, 1, 8, 8]`` to ``[B, classes]``."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.place
        s = self.norms[0](tokens)
        tokens = tokens + self.attention(s, s, s, need_weights=False)[0]
        tokens = tokens + self.mlp(self.norms[1](tokens))
        logits: torch.Tensor = self.head(tokens.flatten(1))
        return logits


def resnet() -> tuple[nn.Module, torch.Tensor]:
    return has_resnet(1, 5, base=4, depth=2, blocks=1, parts=PARTS), torch.rand(16, 1, 16, 16)


def vgg() -> tuple[nn.Module, torch.Tensor]:
    return has_vgg(1, 5, base=4, depth=2, hidden=(12,), parts=PARTS), torch.rand(16, 1, 16, 16)


def ann_head() -> tuple[nn.Module, torch.Tensor]:
    """A direct-coded spiking network, read as firing rates by an ANN."""
    body = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), LIF(0.75), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 16), LIF(0.75)
    )
    head = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.LayerNorm(16), nn.Linear(16, 5))
    return nn.Sequential(TimeLoop(Direct(STEPS), body, Rate()), head), torch.rand(16, 1, 8, 8)


def ann_stem() -> tuple[nn.Module, torch.Tensor]:
    """An ANN that extracts features, which a spiking network classifies."""
    stem = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.MaxPool2d(2), nn.GELU())
    body = nn.Sequential(
        nn.Conv2d(6, 6, 3, padding=1), IF(), nn.Flatten(), nn.Linear(96, 16), LIF(0.9), nn.Linear(16, 5)
    )
    return nn.Sequential(stem, TimeLoop(RateCode(STEPS), body, Rate())), torch.rand(16, 1, 8, 8)


def spiking_transformer() -> tuple[nn.Module, torch.Tensor]:
    return SpikingTransformer(), torch.rand(16, 1, 8, 8)


def vision_transformer() -> tuple[nn.Module, torch.Tensor]:
    return VisionTransformer(), torch.rand(16, 1, 8, 8)


SEEDS: dict[str, Callable[[], tuple[nn.Module, torch.Tensor]]] = {
    "HAS ResNet": resnet,
    "HAS VGG": vgg,
    "direct-coded SNN, ANN head": ann_head,
    "ANN stem, spiking body": ann_stem,
    "spiking transformer": spiking_transformer,
    "vision transformer": vision_transformer,
}


def seed_model(name: str) -> tuple[nn.Module, torch.Tensor]:
    """One of `SEEDS` in eval mode, with random weights, batch norm and encoders that have seen its samples."""
    torch.manual_seed(1)
    model, x = SEEDS[name]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # the mean over what it has seen
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.bias is not None):
            module.weight.data *= 3.0  # no batch norm behind it: neurons fire
    model.train()
    with torch.no_grad(), calibration(model):
        model(x)
    return model.eval(), x
