"""The networks that `conversion.py` converts, and their training on scikit-learn's digits.

    six        six 3x3 convolutions (32 32 64 64 128 128) with batch norm and ReLU, average pooling, on 8x8
    six-max    the same with max pooling
    vgg        eight such convolutions and a hidden linear layer: ten layers with weights, on 16x16
    residual   a stem, three residual blocks (two of them with a convolved shortcut), on 16x16

All end in global average pooling and a linear layer (`vgg` in two of them). Training: as in examples/digits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "digits"))
from train import load_data, train

EPOCHS = 40
RATE = 5e-3


@dataclass(frozen=True)
class Data:
    """Images [N, 1, H, W] in [0, 1] and labels [N]."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def block(inputs: int, outputs: int) -> list[nn.Module]:
    """Convolution, batch norm, ReLU."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]


def six(pool: type[nn.Module] = nn.AvgPool2d) -> nn.Module:
    """Six convolutions on 8x8."""
    return nn.Sequential(
        *block(1, 32), *block(32, 32), pool(2),
        *block(32, 64), *block(64, 64), pool(2),
        *block(64, 128), *block(128, 128),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def vgg() -> nn.Module:
    """Ten layers with weights on 16x16."""
    return nn.Sequential(
        *block(1, 32), *block(32, 32), nn.AvgPool2d(2),
        *block(32, 64), *block(64, 64), nn.AvgPool2d(2),
        *block(64, 128), *block(128, 128), nn.AvgPool2d(2),
        *block(128, 128), *block(128, 128),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


class Residual(nn.Module):
    """Two convolutions beside a shortcut, as in ResNet-18."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, stride=stride, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        straight = stride == 1 and inputs == outputs
        shortcut = (nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Identity() if straight else nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + self.shortcut(x))


def residual() -> nn.Module:
    """Three residual blocks on 16x16."""
    blocks = (Residual(32, 32), Residual(32, 64, 2), Residual(64, 128, 2))
    return nn.Sequential(*block(1, 32), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "six": (six, 1),
    "six-max": (lambda: six(nn.MaxPool2d), 1),
    "vgg": (vgg, 2),
    "residual": (residual, 2),
}
"""By name: how to build it, and by how much the 8x8 images are enlarged."""


def data(name: str) -> Data:
    """The digits at the size that a network takes."""
    x_train, x_test, y_train, y_test = load_data()
    factor = NETWORKS[name][1]
    if factor > 1:
        x_train, x_test = (
            F.interpolate(torch.from_numpy(x), scale_factor=factor, mode="bilinear").numpy() for x in (x_train, x_test)
        )
    return Data(x_train, y_train, x_test, y_test)


def moved(images: Data, times: int, seed: int = 0) -> Data:
    """Every test image, and so many copies of it turned by up to 10 degrees and moved by up to a tenth of its width.

    The training images are what they were, so all of it is new to the network, and there are enough test images to
    tell half a point from chance.
    """
    if times == 0:
        return images
    draw = torch.Generator().manual_seed(seed)
    x = torch.from_numpy(images.x_test).repeat(times, 1, 1, 1)
    angle, *shift = (2 * torch.rand(3, len(x), generator=draw) - 1) * torch.tensor([[np.pi / 18], [0.2], [0.2]])
    rows = (torch.cos(angle), -torch.sin(angle), shift[0], torch.sin(angle), torch.cos(angle), shift[1])
    grid = F.affine_grid(torch.stack(rows, 1).reshape(-1, 2, 3).float(), list(x.shape), align_corners=False)
    copies = F.grid_sample(x, grid, align_corners=False).numpy()
    x_test = np.concatenate([images.x_test, copies])
    return Data(images.x_train, images.y_train, x_test, np.tile(images.y_test, times + 1))


def trained(name: str, seed: int, images: Data, cache: Path) -> nn.Module:
    """A trained network in eval mode; weights are kept in `cache`."""
    torch.manual_seed(seed)
    model = NETWORKS[name][0]()
    path = cache / f"{name}-{seed}.pt"
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval()
    x, y = torch.from_numpy(images.x_train), torch.from_numpy(images.y_train)
    train(model, x, y, epochs=EPOCHS, rate=RATE, gain=1)
    cache.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    return model
