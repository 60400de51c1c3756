"""Settings of a training, what a batch gives, and the history of its epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.diagnostics import Finding

Arrays = tuple[np.ndarray | None, ...]
"""Arrays with one row per sample; None for what is not known (labels)."""
Progress = Callable[[str, int, int], None]
OPTIMISERS = ("sgd", "adam")
REFERENCE_BATCH, REFERENCE_RATE = 256, 0.1


class Step(NamedTuple):
    """What a batch gave: its loss, a mean over samples, and how many samples were predicted right."""

    loss: Tensor
    right: int


Measure = Callable[..., Step]
"""Called with a batch, a tensor or None for each of the arrays."""


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        epochs: at most; 0 leaves everything as it is.
        batch: samples per step.
        optimiser: ``sgd`` (Nesterov, momentum .9) or ``adam``.
        rate: first learning rate; 0: ``.1 batch/256`` for sgd, .001 for adam.
        decay: weight decay.
        clip: largest norm of all gradients together; 0 is no limit.
        patience: epochs without a better state on held-out data after which it ends; 0 for never.
        seed: of the order of samples.
        device: where batches go, that of the parameters.
    """

    epochs: int = 20
    batch: int = 64
    optimiser: str = "sgd"
    rate: float = 0.0
    decay: float = 0.0
    clip: float = 1.0
    patience: int = 0
    seed: int = 0
    device: str = "cpu"

    def problems(self) -> list[Finding]:
        """What is wrong with the values (E0212)."""
        wrong = []
        if self.optimiser not in OPTIMISERS:
            wrong.append(Finding("E0212", f"no optimiser {self.optimiser!r}", supported=", ".join(OPTIMISERS)))
        for name, least in (("epochs", 0), ("batch", 1), ("rate", 0), ("decay", 0), ("clip", 0), ("patience", 0)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= least):
                wrong.append(Finding("E0212", f"{name}={value}", supported=f"{least} or more"))
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            wrong.append(Finding("E0212", f"device={self.device}: PyTorch finds no GPU here", supported="cpu"))
        return wrong

    @property
    def first_rate(self) -> float:
        """The learning rate of the first step."""
        return self.rate or (REFERENCE_RATE * self.batch / REFERENCE_BATCH if self.optimiser == "sgd" else 1e-3)


@dataclass(frozen=True)
class Epoch:
    """One epoch; accuracies are shares, None where nothing says what is right.

    Attributes:
        number: from 1; 0 is the state before training.
        loss, accuracy: on the training data while it was trained on; of epoch 0 not known.
        held_loss, held_accuracy: on the held-out data after it.
        seconds: it took.
        logged: what else was measured after it.
    """

    number: int
    loss: float | None
    accuracy: float | None
    held_loss: float
    held_accuracy: float
    seconds: float = 0.0
    logged: Mapping[str, float] = field(default_factory=dict)

    def better_than(self, other: Epoch) -> bool:
        """More right on held-out data, or as many with less loss."""
        ours, theirs = (self.held_accuracy, -self.held_loss), (other.held_accuracy, -other.held_loss)
        return math.isfinite(self.held_loss) and ours > theirs


@dataclass
class History:
    """All epochs, and which state was kept.

    Attributes:
        epochs: epoch 0 first, the state before training.
        best: number of the epoch whose state was kept.
        ended: why it ended: ``"epochs"``, ``"patience"`` or ``"diverged"``.
    """

    epochs: list[Epoch] = field(default_factory=list)
    best: int = 0
    ended: str = "epochs"

    @property
    def start(self) -> Epoch:
        """Before training."""
        return self.epochs[0]

    @property
    def kept(self) -> Epoch:
        """The best."""
        return self.epochs[self.best]
