"""Train a network on the events that now drive it, with the network it was as its teacher."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.passes.base import LOSSY, Pass, PassContext, PassResult
from hsnn_compiler.passes.rounding import as_on_chip
from hsnn_compiler.passes.training import (
    ENGINES,
    data_problems,
    engine,
    history_table,
    kept,
    output_gain,
    settings_of,
    told,
)
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.training.fit import Settings, Step, fit, split
from hsnn_compiler.training.losses import Distillation, right


@dataclass(frozen=True)
class FinetuneEvents(Pass):
    """Self-distillation: the network on events learns from itself under direct coding, on the data of ``--finetune``.

    Teacher: the network as it was before any conversion, frozen. Student: the graph on event input. With mean outputs
    z_A and z, times `gain` (0: 10 for rates of neurons, else 1),

        L = alpha CE(z, y) + (1 - alpha) tau^2 KL(softmax(z_A / tau) || softmax(z / tau))

    (arXiv 2605.07207; alpha .4, SGD with Nesterov momentum .9, rate .1 batch/256, cosine); ``alpha=1`` is plain
    fine-tuning, and without labels alpha is 0. `train` names what is trained: ``weight+bias``, and of ``threshold``,
    ``decay``, ``current_decay``, ``gain``, ``leak``, ``scale`` what is wanted. With `bits` the forward pass sees
    weights rounded as `quantise` will round them. A share `held_out` of the samples is not trained on: the state that
    is best on it is kept, or else the start. `engine` is ``bptt`` or ``rate``. Nothing happens without data, or without
    events.
    """

    epochs: int = 30
    alpha: float = 0.4
    temperature: float = 1.0
    gain: float = 0.0
    train: str = "weight+bias"
    optimiser: str = "sgd"
    rate: float = 0.0
    batch: int = 64
    bits: int = 0
    surrogate: str = "atan"
    engine: str = "bptt"
    held_out: float = 0.1
    patience: int = 0
    seed: int = 0

    name: ClassVar[str] = "finetune-events"
    contract: ClassVar[str] = LOSSY
    requires: ClassVar[tuple[str, ...]] = ("timed",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        if done := kept(self.name, graph, context):
            return done
        if context.training is None:
            return PassResult(graph)
        if not any(node.is_event_source for node in graph):
            return PassResult(graph, notes=("no events enter the network: nothing to train",))
        settings = settings_of(self, context)
        findings = [*self._problems(graph, context), *settings.problems()]
        if findings:
            raise HsnnError(findings)
        return self._trained(graph, context, settings)

    def _trained(self, graph: Graph, context: PassContext, settings: Settings) -> PassResult:
        assert context.training is not None
        x, y = context.training
        alpha = 0.0 if y is None else self.alpha
        teacher = None
        if context.teacher is not None and (alpha < 1 or y is None):
            executor = FloatExecutor(context.teacher, method="auto")
            what = "fine-tuning: outputs of the teacher"
            teacher = executor.run(x, progress=lambda done, total: context.progress(what, done, total)).output
        gain = self.gain or output_gain(graph)
        loss = Distillation(alpha, self.temperature, gain)
        rounding = as_on_chip(graph, self.bits, context) if self.bits else None
        student = engine(self.engine)(
            graph, train=self.train.split("+"), surrogate=self.surrogate, rounding=rounding, device=settings.device
        )

        def step(x: Tensor, y: Tensor | None, teacher: Tensor | None) -> Step:
            outputs = student(x)
            return Step(loss(outputs, teacher, y), right(outputs, teacher, y))

        rows, held = split(len(x), self.held_out, self.seed)
        arrays = (x, y, teacher)
        folder = context.finetune.checkpoints
        history = fit(
            step,
            student.parameters,
            tuple(None if array is None else array[rows] for array in arrays),
            tuple(None if array is None else array[held] for array in arrays),
            settings,
            checkpoint=None if folder is None else folder / f"{self.name}.pt",
            progress=context.progress,
            identity=f"{self} {gain}",
        )
        values = student.values()
        said = f"{len(rows)} samples, {len(held)} held out, alpha {alpha:g}, outputs times {gain:g}, {self.engine}"
        notes = (f"trained {self.train} on {said}", *told(history, y is not None))
        table = history_table("Fine-tuning on events", history, y is not None)
        return PassResult(student.graph(), bool(values), notes, tables=(table,), trained=values)

    def _problems(self, graph: Graph, context: PassContext) -> list[Finding]:
        assert context.training is not None
        x, y = context.training
        found = []
        if not 0 <= self.alpha <= 1:
            found.append(Finding("E0212", f"alpha={self.alpha}", supported="0 to 1"))
        for name, least in (("temperature", 0.0), ("held_out", 0.0)):
            if not least < getattr(self, name) < (1 if name == "held_out" else math.inf):
                found.append(Finding("E0212", f"{name}={getattr(self, name)}", supported="above 0"))
        if self.engine not in ENGINES:
            found.append(Finding("E0212", f"no engine {self.engine!r}", supported=", ".join(ENGINES)))
        if self.bits and self.bits not in range(2, 9):
            found.append(Finding("E0212", f"bits={self.bits}", supported="0 for none, or 2 to 8"))
        found += data_problems(graph, x, y)
        if context.teacher is None and (y is None or self.alpha < 1):
            found.append(
                Finding(
                    "E0555",
                    "no teacher: the pipeline has no convert-activations, before which the network is taken as one",
                    supported="the default pipeline, or labels and finetune-events{alpha=1}",
                )
            )
        return found
