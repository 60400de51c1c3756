"""Whole HAS networks (arXiv 2509.24411), in the paper's notation b (base), m (multiplier), d (depth).

Inputs are images ``[B, C, H, W]`` in [0, 1], outputs ``[B, classes]``, before softmax. Encoders start with scale 1;
`hsnn_compiler.nn.calibrate` gives those inside a network the scale of what reaches them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from hsnn_compiler.nn.blocks import Parts, has_conv, has_linear, has_residual


def _at_least_one(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, not {number}")


def has_resnet(
    in_channels: int = 3,
    classes: int = 10,
    base: int = 32,
    multiplier: int = 2,
    depth: int = 4,
    blocks: int = 2,
    parts: Parts | None = None,
) -> nn.Sequential:
    """ResNet[b-m-d]: by default ResNet[b32-m2-d4], with stages of 32, 64, 128 and 256 channels.

    The stem has 64 channels, a 7x7 convolution of stride 2, and halves the image again by 3x3 pooling: the largest
    value in the ANN path, the mean in the spiking one. All stages but the first halve the image.

    Args:
        in_channels: channels of the image.
        classes: number of outputs.
        base: channels of the first stage.
        multiplier: by which the number of channels grows from stage to stage.
        depth: number of stages.
        blocks: residual blocks in each.
        parts: encoders, decoders, neurons; see `Parts`.
    """
    _at_least_one(
        in_channels=in_channels, classes=classes, base=base, multiplier=multiplier, depth=depth, blocks=blocks
    )
    parts = parts or Parts()
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = has_conv(
        in_channels, 64, parts, kernel=7, stride=2, ann_pool=nn.MaxPool2d(3, 2, 1), snn_pool=nn.AvgPool2d(3, 2, 1)
    )
    width = 64
    for stage in range(depth):
        channels = base * multiplier**stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            layers[f"stage{stage + 1}_{block + 1}"] = has_residual(width, channels, parts, stride=stride)
            width = channels
    layers |= OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(width, classes))
    return nn.Sequential(layers)


def has_vgg(
    in_channels: int = 3,
    classes: int = 10,
    base: int = 16,
    multiplier: int = 2,
    depth: int = 4,
    hidden: Sequence[int] = (1024, 512),
    parts: Parts | None = None,
) -> nn.Sequential:
    """VGG[b-m-d]: ``in_channels * base`` channels, then depth times ``multiplier`` times as many.

    All 1 + depth blocks end with 2x2 mean pooling, so images need sides of at least 2^(1 + depth) pixels. The
    classifier is a block of linear layers. The published code has LeakyReLU in the ANN path, whose negative values the
    next encoder would clip; here it is ReLU, or what ``parts`` says.

    Args:
        in_channels: channels of the image.
        classes: number of outputs.
        base: channels of the first block for each of the image's.
        multiplier: by which the number of channels grows from block to block.
        depth: blocks after the first.
        hidden: features of the classifier's hidden layers.
        parts: encoders, decoders, neurons; see `Parts`.
    """
    _at_least_one(in_channels=in_channels, classes=classes, base=base, multiplier=multiplier, depth=depth)
    parts = parts or Parts()
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    width = in_channels
    for block in range(1 + depth):
        channels = in_channels * base * multiplier**block
        layers[f"block{block + 1}"] = has_conv(
            width, channels, parts, ann_pool=nn.AvgPool2d(2), snn_pool=nn.AvgPool2d(2)
        )
        width = channels
    layers |= OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    layers["classifier"] = has_linear([width, *hidden, classes], parts)
    return nn.Sequential(layers)


def has_small(
    in_channels: int = 1, classes: int = 10, size: int = 8, base: int = 16, parts: Parts | None = None
) -> nn.Sequential:
    """A small network for images of 8x8 or 16x16: a convolution block, a residual block, a linear layer.

    The stem has ``base`` channels at 8x8 (16x16 images are halved in it, by max and mean pooling as in `has_resnet`),
    the residual block twice as many at 4x4.

    Args:
        in_channels: channels of the image.
        classes: number of outputs.
        size: height and width of the image, 8 or 16.
        base: channels of the stem.
        parts: encoders, decoders, neurons; see `Parts`.
    """
    _at_least_one(in_channels=in_channels, classes=classes, base=base)
    if size not in (8, 16):
        raise ValueError(f"size must be 8 or 16, not {size}")
    parts = parts or Parts()
    ann_pool, snn_pool = (nn.MaxPool2d(2), nn.AvgPool2d(2)) if size == 16 else (None, None)
    return nn.Sequential(
        OrderedDict(
            stem=has_conv(in_channels, base, parts, ann_pool=ann_pool, snn_pool=snn_pool),
            stage1=has_residual(base, 2 * base, parts, stride=2),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(2 * base, classes),
        )
    )
