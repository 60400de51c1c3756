"""Train the two digit classifiers of the examples and write them with their data.

    python examples/digits/train.py [DIRECTORY]

Writes ``digits_cnn.pt``, ``digits_direct.pt``, ``digits_test.npz`` and ``digits_calib.npz``
to DIRECTORY (default: beside this file). Same versions of torch and scikit-learn on the
same kind of processor: same files.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from hsnn_compiler.nn import LIF, Direct, Rate, TimeLoop, reset_states

SEED = 0
TEST_IMAGES = 360
CALIBRATION_IMAGES = 256
TIMESTEPS = 16


def load_data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The 1,797 digits as x [N, 1, 8, 8] in [0, 1] and y [N], split into training and test."""
    digits = load_digits()
    x = (digits.images / 16).astype(np.float32)[:, None]
    y = digits.target.astype(np.int64)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=TEST_IMAGES, random_state=SEED, stratify=y)
    return x_train, x_test, y_train, y_test


def cnn() -> nn.Module:
    """An ordinary convolutional network with batch norm and ReLU."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 16, 3, padding=1),
            bn1=nn.BatchNorm2d(16),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(16, 32, 3, padding=1),
            bn2=nn.BatchNorm2d(32),
            relu2=nn.ReLU(),
            pool1=nn.AvgPool2d(2),
            conv3=nn.Conv2d(32, 32, 3, padding=1),
            bn3=nn.BatchNorm2d(32),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(32, 64, 3, padding=1),
            bn4=nn.BatchNorm2d(64),
            relu4=nn.ReLU(),
            pool2=nn.AvgPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(256, 10),
        )
    )


def direct_snn() -> nn.Module:
    """A directly coded spiking network, read out by the rates of ten output neurons."""
    body = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 16, 3, padding=1),
            lif1=LIF(beta=0.9),
            conv2=nn.Conv2d(16, 32, 3, padding=1, stride=2),
            lif2=LIF(beta=0.9),
            conv3=nn.Conv2d(32, 32, 3, padding=1),
            lif3=LIF(beta=0.9),
            flatten=nn.Flatten(),
            fc=nn.Linear(512, 10),
            lif_out=LIF(beta=0.9),
        )
    )
    return TimeLoop(Direct(TIMESTEPS), body, Rate())


def augment(x: torch.Tensor) -> torch.Tensor:
    """Shift a batch by up to one pixel each way and add a little noise, kept in [0, 1]."""
    down, right = torch.randint(0, 3, (2,)).tolist()
    height, width = x.shape[2:]
    shifted = F.pad(x, (1, 1, 1, 1))[:, :, down : down + height, right : right + width]
    return (shifted + 0.03 * torch.randn_like(shifted)).clamp(0, 1)


def train(
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    epochs: int,
    rate: float,
    gain: float = 1,
    before_epoch: Callable[[], object] | None = None,
) -> None:
    """Adam with a one-cycle schedule; ``gain`` scales the outputs to logits."""
    batch = 64
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-3)
    steps = epochs * -(-len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    model.train()
    for _ in range(epochs):
        if before_epoch is not None:
            before_epoch()
        for index in torch.randperm(len(x)).split(batch):
            loss = F.cross_entropy(gain * model(augment(x[index])), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    reset_states(model)


@torch.no_grad()
def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Share of images whose largest output is the label, in percent."""
    return 100 * (model(x).argmax(1) == y).float().mean().item()


def main(directory: Path) -> None:
    # Sums depend on how they are split over threads, so the number of threads is fixed.
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    x_train, x_test, y_train, y_test = load_data()
    np.savez(directory / "digits_test.npz", x=x_test, y=y_test)
    np.savez(directory / "digits_calib.npz", x=x_train[:CALIBRATION_IMAGES], y=y_train[:CALIBRATION_IMAGES])
    x, y, held_out, labels = map(torch.from_numpy, (x_train, y_train, x_test, y_test))

    torch.manual_seed(SEED)
    ann = cnn()
    train(ann, x, y, epochs=40, rate=5e-3, gain=1)
    torch.save(ann, directory / "digits_cnn.pt")
    print(f"digits_cnn.pt     {accuracy(ann, held_out, labels):.2f}% of {len(labels)} test images")

    torch.manual_seed(SEED)
    snn = direct_snn()
    # Rates lie in [0, 1]: without a gain the softmax could never be confident.
    train(snn, x, y, epochs=30, rate=5e-3, gain=10)
    torch.save(snn, directory / "digits_direct.pt")
    print(f"digits_direct.pt  {accuracy(snn, held_out, labels):.2f}% of {len(labels)} test images")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
