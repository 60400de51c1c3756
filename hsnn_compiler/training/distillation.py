"""ANN-guided, block-wise distillation: a converted network, led by the one before conversion through hybrids of both.

    l(z) = (1 - alpha) CE(z, y) + alpha KL(p_A || softmax(z)),    L = l(z_S) + sum_k beta_k l(z_k),    beta_k = 1/n

z_S: output of the converted network; z_k: outputs of the n hybrids (`hsnn_compiler.training.hybrids`); p_A: softmax
of the output of the network before conversion. After arXiv 2503.16572. How far rates are from the activations that they
stand for, at the ends of blocks, may be added (ours).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.training.fit import Step, fit
from hsnn_compiler.training.history import History, Progress, Settings
from hsnn_compiler.training.hybrids import RATE_SUFFIX, Hybrids, mean_cosine
from hsnn_compiler.training.losses import Distillation, right
from hsnn_compiler.training.trainable import Trainable

WATCHED = 256
"""Samples, at most, on which rates are compared with activations, and whose statistics projections begin with."""
COSINE = "cosine "


def distill(
    student: Trainable,
    teacher: Graph,
    ends: tuple[str, ...],
    branches: tuple[str, ...],
    loss: Distillation,
    x: np.ndarray,
    y: np.ndarray | None,
    rows: tuple[np.ndarray, np.ndarray],
    settings: Settings,
    *,
    similarity: float = 0.0,
    checkpoint: Path | None = None,
    progress: Progress = lambda what, done, total: None,
    identity: str = "",
) -> History:
    """Train the student in place; after each epoch the history has the cosine of rates to activations of every block.

    Args:
        student: of a graph to which `with_rates` gave an output for each of `ends`.
        teacher: the network before conversion, with the same input and output.
        ends: names at which blocks end.
        branches: those of which hybrids are trained with.
        loss: l.
        x: [samples, ...].
        y: int64 [samples], or None.
        rows: samples to train on, and samples held out: the best state on these is kept, by the student's own loss.
        settings: of `fit`, as are the others.
        similarity: weight of sum_k (1 - cos(r_k, a_k)) / n, of rates and the activations that they stand for.
    """
    executor = FloatExecutor(teacher, method="auto")
    entry, output = (next(node.name for node in teacher.of_kind(kind)) for kind in ("Input", "Output"))

    def led(done: int, total: int) -> None:
        progress("distillation: outputs of the network before conversion", done, total)

    wanted = executor.run(x, progress=led).outputs[output]
    hybrids = _hybrids(executor, teacher, branches, x[rows[0][:WATCHED]], settings.device)
    watched = x[rows[1][:WATCHED]]
    activations = _activations(executor, watched, ends)

    def own(outputs: Mapping[str, Tensor], y: Tensor | None, z: Tensor) -> Step:
        return Step(loss(outputs[output], z, y), right(outputs[output], z, y))

    def whole(x: Tensor, y: Tensor | None, z: Tensor) -> Step:
        outputs = student.forward(x)
        step = own(outputs, y, z)
        found = hybrids.forward({end: outputs[end + RATE_SUFFIX] for end in branches}, output)
        led = [loss(hybrid, z, y) / len(found) for hybrid in found.values()]
        if similarity:
            with torch.no_grad():
                _, analog = executor.signals({entry: x}, ends)
            led += [similarity * (1 - mean_cosine(outputs[e + RATE_SUFFIX], analog[e])) / len(ends) for e in ends]
        return Step(step.loss + sum(led), step.right)

    def compare() -> dict[str, float]:
        parts = torch.from_numpy(watched).to(settings.device).split(settings.batch)
        with torch.no_grad():
            done = [student.forward(part) for part in parts]
        rates = {end: torch.cat([outputs[end + RATE_SUFFIX] for outputs in done]).cpu() for end in ends}
        return {COSINE + end: float(mean_cosine(rates[end], activations[end])) for end in ends}

    arrays = (x, y, wanted)
    return fit(
        whole,
        {**student.parameters, **hybrids.parameters()},
        tuple(None if array is None else array[rows[0]] for array in arrays),
        tuple(None if array is None else array[rows[1]] for array in arrays),
        settings,
        measure=lambda x, y, z: own(student.forward(x), y, z),
        checkpoint=checkpoint,
        progress=progress,
        after_epoch=compare,
        name="distillation",
        identity=identity,
    )


def _hybrids(executor: FloatExecutor, teacher: Graph, branches: tuple[str, ...], x: np.ndarray, device: str) -> Hybrids:
    found = _activations(executor, x, branches)
    return Hybrids(teacher, {end: values.to(device) for end, values in found.items()})


def _activations(executor: FloatExecutor, x: np.ndarray, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Values of the network before conversion, by name."""
    trace = executor.run(x, [(name, "s") for name in names]).trace
    return {name: torch.from_numpy(trace[name, "s"]) for name in names}
