"""The training loop: seeds of its own, cosine learning rate, early stopping, checkpoints; the best state wins.

The learning rate of step i of n is ``rate/2 (1 + cos(pi i / n))`` (Loshchilov and Hutter, SGDR, ICLR 2017). Everything
that is drawn comes from one generator, so a run is decided by its settings, and one that was interrupted goes on from
its checkpoint to the same bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.training.history import Arrays, History, Measure, Progress, Settings
from hsnn_compiler.training.history import Step as Step
from hsnn_compiler.training.state import Run


def split(count: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of samples to train on and of samples held out, drawn once; at least one of each from two samples on."""
    order = np.random.default_rng(seed).permutation(count)
    held = min(max(1, round(share * count)), max(count - 1, 0))
    return np.sort(order[held:]), np.sort(order[:held])


def fit(
    loss_of_batch: Measure,
    parameters: Mapping[str, Tensor],
    data: Arrays,
    held_out: Arrays,
    settings: Settings,
    *,
    measure: Measure | None = None,
    buffers: Mapping[str, Tensor] | None = None,
    checkpoint: Path | None = None,
    progress: Progress = lambda what, done, total: None,
    after_epoch: Callable[[], Mapping[str, float]] = dict,
    name: str = "fine-tuning",
    identity: str = "",
) -> History:
    """Train parameters in place; they end in the best state on held-out data, which may be the one they began in.

    Args:
        loss_of_batch: the loss of a batch, with gradients.
        parameters: leaf tensors, by name.
        data: arrays [samples, ...] to train on.
        held_out: the same, to choose the best state by.
        settings: see there.
        measure: the same as `loss_of_batch`, for held-out data, without gradients; by default that.
        buffers: other tensors that change while training (statistics of batch norm), by name.
        checkpoint: file to go on from, if it exists, and to write after every epoch; it stays.
        progress: called as (what, batches done, all batches).
        after_epoch: measures something else for the history, once before training and after each epoch.
        name: of the training, for `progress`.
        identity: what the loss is, so that no checkpoint of another one is gone on from.

    Raises:
        HsnnError: E0212 for settings, E0552 for a checkpoint that is not one of this training.
    """
    problems = settings.problems()
    if problems:
        raise HsnnError(problems)
    measure = measure or loss_of_batch
    run = Run(loss_of_batch, measure, parameters, dict(buffers or {}), data, held_out, settings, identity)
    history = run.resume(checkpoint)
    if history is None:
        history = History([run.held(0, after_epoch)])
        run.keep()
    batches = math.ceil(run.count / settings.batch)
    for number in range(len(history.epochs), settings.epochs + 1):
        if history.ended != "epochs" or _is_late(history, settings):
            break
        start = time.perf_counter()
        done = (number - 1) * batches

        def show(batch: int, loss: float, accuracy: float) -> None:
            what = f"{name} | loss {loss:.4f}, accuracy {100 * accuracy:.1f}%"
            progress(what, done + batch, settings.epochs * batches)  # noqa: B023

        loss, accuracy = run.train(number, show)
        if not math.isfinite(loss):
            history.ended = "diverged"
            break
        epoch = run.held(number, after_epoch, loss, accuracy, start)
        history.epochs.append(epoch)
        if epoch.better_than(history.kept):
            history.best = number
            run.keep()
        run.write(checkpoint, history)
    if history.ended == "epochs" and _is_late(history, settings) and len(history.epochs) <= settings.epochs:
        history.ended = "patience"
    run.restore()
    return history


def _is_late(history: History, settings: Settings) -> bool:
    return bool(settings.patience) and len(history.epochs) - 1 - history.best >= settings.patience
