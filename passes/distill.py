"""Win back what conversion lost, block by block, from the network before conversion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.nn.surrogate import SURROGATES
from hsnn_compiler.passes.activations import SCALE_SUFFIX, converted_neurons
from hsnn_compiler.passes.base import LOSSY, Pass, PassContext, PassResult, count, listing
from hsnn_compiler.passes.training import ENGINES, data_problems, engine, history_table, kept, settings_of, told
from hsnn_compiler.training.blocks import find_blocks
from hsnn_compiler.training.distillation import COSINE, distill
from hsnn_compiler.training.fit import Settings, split
from hsnn_compiler.training.history import History
from hsnn_compiler.training.hybrids import with_rates
from hsnn_compiler.training.losses import Distillation
from hsnn_compiler.training.parameters import write

BRANCHES = ("all", "last", "none")
TITLE = "Block-wise distillation"


@dataclass(frozen=True)
class Distill(Pass):
    """Train the converted network on the data of ``--finetune``, led by the network before conversion block by block.

    With outputs z, labels y and the outputs p_A of the network before conversion,

        l(z) = (1 - alpha) CE(z, y) + alpha KL(p_A || softmax(z))
        L = l(z_S) + sum_k (l(z_k) + similarity (1 - cos(r_k, a_k))) / n

    z_S is the converted network's output and z_k that of a hybrid M_k: the spiking blocks 0..k, a projection, and what
    the network before conversion has behind them, frozen (arXiv 2503.16572). Hybrids are dropped after training. r_k
    are the rates at the end of a block, a_k the activations that they stand for; this term is ours.
    Without labels alpha is 1. A share `held_out` of the samples is not trained on: the state that is best on it is
    kept, or else the start.

    `blocks` names the activations at which blocks end, with ``+`` between them; else they are the stages of the network
    (`hsnn_compiler.training.blocks`). `branches` are the hybrids that count: ``all``, the ``last`` or ``none``.
    `engine` is ``bptt``, or ``rate``, whose memory does not grow with T. `plot` is a file for a picture of the epochs.
    Nothing happens without data, or where no activation was converted.
    """

    epochs: int = 20
    blocks: str = ""
    branches: str = "all"
    alpha: float = 0.5
    similarity: float = 0.3
    train: str = "weight+bias"
    optimiser: str = "adam"
    rate: float = 0.0
    batch: int = 64
    surrogate: str = "atan"
    engine: str = "bptt"
    held_out: float = 0.1
    patience: int = 0
    seed: int = 0
    plot: str = ""

    name: ClassVar[str] = "distill"
    contract: ClassVar[str] = LOSSY
    requires: ClassVar[tuple[str, ...]] = ("timed",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        if done := kept(self.name, graph, context):
            return done
        if context.training is None:
            return PassResult(graph)
        neurons = [node.name for node in converted_neurons(graph)]
        if context.teacher is None or not neurons:
            return PassResult(graph, notes=("no activation was converted: there is nothing to be led by",))
        settings = settings_of(self, context)
        findings = [*self._problems(), *settings.problems(), *data_problems(graph, *context.training)]
        named = [name.strip() for name in self.blocks.split("+") if name.strip()]
        ends: list[str] = []
        try:
            ends = find_blocks(context.teacher, neurons, named)
        except HsnnError as error:
            findings += error.findings
        if findings:
            raise HsnnError(findings)
        return self._trained(graph, context.teacher, context, settings, ends)

    def _trained(
        self, graph: Graph, teacher: Graph, context: PassContext, settings: Settings, ends: list[str]
    ) -> PassResult:
        assert context.training is not None
        x, y = context.training
        watched = with_rates(graph, {end: end + SCALE_SUFFIX for end in ends})
        student = engine(self.engine)(
            watched, train=self.train.split("+"), surrogate=self.surrogate, device=settings.device
        )
        rows = split(len(x), self.held_out, self.seed)
        folder = context.finetune.checkpoints
        branches = {"all": ends, "last": ends[-1:], "none": []}[self.branches]
        history = distill(
            student,
            teacher,
            tuple(ends),
            tuple(branches),
            Distillation(1 - self.alpha),
            x,
            y,
            rows,
            settings,
            similarity=self.similarity,
            checkpoint=None if folder is None else folder / f"{self.name}.pt",
            progress=context.progress,
            identity=str(self),
        )
        values = student.values()
        if self.plot:
            from hsnn_compiler.report.epochs_plot import draw_epochs

            draw_epochs(history, f"{graph.name}: {TITLE.lower()}, T = {graph.timesteps}", Path(self.plot))
        alpha = 1.0 if y is None else self.alpha
        where = f"{count(len(ends), 'block')} {listing(ends)}" if ends else "no signal to cut the network at"
        notes = (
            f"trained {self.train} on {len(rows[0])} samples, {len(rows[1])} held out, alpha {alpha:g}, {self.engine};"
            f" {where}, {count(len(branches), 'hybrid')}",
            *told(history, y is not None),
            *_similar(history, ends),
        )
        table = history_table(TITLE, history, y is not None)
        return PassResult(write(graph, values), bool(values), notes, tables=(table,), trained=values)

    def _problems(self) -> list[Finding]:
        found = [
            Finding("E0212", f"no {what} {chosen!r}", supported=", ".join(legal))
            for what, chosen, legal in (
                ("branches", self.branches, BRANCHES),
                ("engine", self.engine, ENGINES),
                ("surrogate", self.surrogate, tuple(SURROGATES)),
            )
            if chosen not in legal
        ]
        if not 0 <= self.alpha <= 1:
            found.append(Finding("E0212", f"alpha={self.alpha:g}", supported="0 to 1"))
        if not self.similarity >= 0:
            found.append(Finding("E0212", f"similarity={self.similarity:g}", supported="0 or more"))
        if not 0 < self.held_out < 1:
            found.append(Finding("E0212", f"held_out={self.held_out:g}", supported="above 0, below 1"))
        return found


def _similar(history: History, ends: list[str]) -> list[str]:
    """Cosines before and after, in a note."""
    before, after = history.start.logged, history.kept.logged
    found = [f"{end} {before[COSINE + end]:.3f} before, {after[COSINE + end]:.3f} after" for end in ends]
    return [f"cosine of rates to the activations they stand for: {'; '.join(found)}"] if found else []
