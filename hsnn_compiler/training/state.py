"""Everything that a training under way consists of: parameters, the optimiser, the generator, the best state."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.data import digest_of
from hsnn_compiler.training import checkpoint as checkpoints
from hsnn_compiler.training.history import Arrays, Epoch, History, Measure, Settings

MOMENTUM = 0.9


class Run:
    """A training under way; arguments as for `fit`."""

    def __init__(
        self,
        loss_of_batch: Measure,
        measure: Measure,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        data: Arrays,
        held_out: Arrays,
        settings: Settings,
        identity: str = "",
    ) -> None:
        self.loss_of_batch, self.measure = loss_of_batch, measure
        self.parameters, self.buffers, self.settings = dict(parameters), dict(buffers), settings
        self.data, self.held_out = data, held_out
        self.count = _count(data)
        self.device = torch.device(settings.device)
        self.generator = torch.Generator().manual_seed(settings.seed)  # on the CPU: the same order on every device
        self.optimiser = _optimiser(list(self.parameters.values()), settings)
        self.best: dict[str, Tensor] = {}
        self.fingerprint = self._fingerprint(identity)

    def train(self, number: int, show: Callable[[int, float, float], None]) -> tuple[float, float]:
        """One epoch; its mean loss and the share of right predictions. A loss that is not finite ends it."""
        size, total = self.settings.batch, math.ceil(self.count / self.settings.batch)
        order = torch.randperm(self.count, generator=self.generator).numpy()
        loss, right, seen = 0.0, 0, 0
        for index in range(total):
            rows = order[index * size : (index + 1) * size]
            self._set_rate((number - 1) * total + index, self.settings.epochs * total)
            step = self.loss_of_batch(*self._batch(self.data, rows))
            value = float(step.loss.detach())
            if not math.isfinite(value):
                return value, right / max(seen, 1)
            self.optimiser.zero_grad()
            step.loss.backward()  # type: ignore[no-untyped-call]
            if self.settings.clip:
                torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self.settings.clip)
            self.optimiser.step()
            loss, right, seen = loss + value * len(rows), right + step.right, seen + len(rows)
            show(index + 1, loss / seen, right / seen)
        return loss / seen, right / seen

    def held(
        self,
        number: int,
        after_epoch: Callable[[], Mapping[str, float]],
        loss: float | None = None,
        accuracy: float | None = None,
        start: float | None = None,
    ) -> Epoch:
        """Measure the held-out data as an epoch ends."""
        found, right, count = 0.0, 0, _count(self.held_out)
        with torch.no_grad():
            for rows in _rows(count, self.settings.batch):
                step = self.measure(*self._batch(self.held_out, rows))
                found, right = found + float(step.loss) * len(rows), right + step.right
        seconds = 0.0 if start is None else time.perf_counter() - start
        return Epoch(number, loss, accuracy, found / count, right / count, seconds, dict(after_epoch()))

    def keep(self) -> None:
        """The state as it is now is the best so far."""
        self.best = {name: tensor.detach().clone() for name, tensor in self._tensors().items()}

    def restore(self) -> None:
        """Go back to the best state."""
        self._load(self.best)

    def write(self, path: Path | None, history: History) -> None:
        """Write a checkpoint, if there is a file for it."""
        if path is None:
            return
        content = {
            "tensors": {name: tensor.detach() for name, tensor in self._tensors().items()},
            "best": self.best,
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "epochs": [{**asdict(epoch), "logged": dict(epoch.logged)} for epoch in history.epochs],
            "kept": history.best,
        }
        checkpoints.save(path, self.fingerprint, content)

    def resume(self, path: Path | None) -> History | None:
        """Go on from a checkpoint, if there is one."""
        content = None if path is None else checkpoints.load(path, self.fingerprint, self.device)
        if content is None:
            return None
        self._load(content["tensors"])
        self.best = content["best"]
        self.optimiser.load_state_dict(content["optimiser"])
        self.generator.set_state(content["generator"].cpu())
        return History([Epoch(**plain) for plain in content["epochs"]], content["kept"])

    def _tensors(self) -> dict[str, Tensor]:
        return {**self.parameters, **self.buffers}

    def _load(self, state: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in self._tensors().items():
                tensor.copy_(state[name])

    def _batch(self, arrays: Arrays, rows: np.ndarray) -> list[Tensor | None]:
        return [None if a is None else torch.from_numpy(np.ascontiguousarray(a[rows])).to(self.device) for a in arrays]

    def _set_rate(self, step: int, steps: int) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.first_rate / 2 * (1 + math.cos(math.pi * step / steps))

    def _fingerprint(self, identity: str) -> str:
        """Tells this training from every other: its loss and settings, where it begins, and its data."""
        settings: dict[str, Any] = {**asdict(self.settings), "device": ""}
        begin = hashlib.sha256(f"{identity} {sorted(settings.items())}".encode())
        for name, tensor in self._tensors().items():
            begin.update(f"{name} {list(tensor.shape)}".encode())
            begin.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        for array in (*self.data, *self.held_out):
            begin.update(b"none" if array is None else digest_of(array).encode())
        return begin.hexdigest()


def _optimiser(parameters: list[Tensor], settings: Settings) -> torch.optim.Optimizer:
    if settings.optimiser == "adam":
        return torch.optim.AdamW(parameters, settings.first_rate, weight_decay=settings.decay)
    return torch.optim.SGD(
        parameters, settings.first_rate, momentum=MOMENTUM, nesterov=True, weight_decay=settings.decay
    )


def _count(arrays: Arrays) -> int:
    return next(len(array) for array in arrays if array is not None)


def _rows(count: int, size: int) -> Iterator[np.ndarray]:
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))
