"""What all passes that train have in common: engines, parameters kept from before, and what they report."""

from __future__ import annotations

import numpy as np

from hsnn_compiler.diagnostics import Finding, refuse
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.passes.base import Pass, PassContext, PassResult, count
from hsnn_compiler.report.table import Cell, Table
from hsnn_compiler.training.history import History, Settings
from hsnn_compiler.training.parameters import write
from hsnn_compiler.training.trainable import Trainable

ENGINES = ("bptt", "rate")
RATE_GAIN = 10.0
"""What makes logits of rates, which lie in [0, 1]: as the examples were trained."""
MOST_ROWS = 12


def engine(name: str) -> type[Trainable]:
    """Backpropagation through time, or of rates."""
    if name == "rate":
        from hsnn_compiler.training.rate import RateTrainable

        return RateTrainable
    if name != "bptt":
        raise refuse("E0212", f"no engine {name!r}", supported=", ".join(ENGINES))
    return Trainable


def kept(name: str, graph: Graph, context: PassContext) -> PassResult | None:
    """The graph with the parameters that this pass trained in an earlier compilation, if they are given."""
    values = context.finetune.trained.get(name)
    if values is None:
        return None
    notes = (f"{count(len(values), 'parameter')} as trained when the bundle was compiled",)
    return PassResult(write(graph, values), True, notes, trained=values)


def settings_of(item: Pass, context: PassContext) -> Settings:
    """How a pass trains: its own options of these names, but the epochs and the device of ``--finetune``."""
    own = {name: getattr(item, name) for name in ("epochs", "batch", "optimiser", "rate", "patience", "seed")}
    if context.finetune.epochs is not None:
        own["epochs"] = context.finetune.epochs
    return Settings(**own, device=context.finetune.device)


def data_problems(graph: Graph, x: np.ndarray, y: np.ndarray | None) -> list[Finding]:
    """Why a network cannot be trained on this data: inputs x [samples, ...], labels y [samples] or None."""
    found = []
    outputs = graph.of_kind("Output")
    if len(outputs) != 1 or int(np.prod(outputs[0].shape)) < 2:
        shapes = ", ".join(str(list(node.shape)) for node in outputs)
        found.append(Finding("E0553", f"outputs of shape {shapes}", supported="one output, one number per class"))
    elif y is not None and not 0 <= y.min() <= y.max() < np.prod(outputs[0].shape):
        what = f"classes {y.min()} to {y.max()} for {int(np.prod(outputs[0].shape))} outputs"
        found.append(Finding("E0315", what, supported="classes counted from 0"))
    if len(x) < 2:
        found.append(Finding("E0554", f"{len(x)} samples to fine-tune on", supported="at least 2; one is held out"))
    return found


def output_gain(graph: Graph) -> float:
    """What to multiply outputs by before a softmax: rates of neurons are never confident."""
    ends = [source for node in graph.of_kind("Output") for source in graph.predecessors(node.name)]
    rates = [
        all(source.is_spiking for source in graph.predecessors(end.name)) and end.op.gain == 1
        for end in ends
        if end.kind == "Decode"
    ]
    return RATE_GAIN if rates and len(rates) == len(ends) and all(rates) else 1.0


def told(history: History, labelled: bool) -> tuple[str, ...]:
    """What came of it, in two notes."""
    what = "right" if labelled else "as the teacher predicts"
    start, best = history.start, history.kept
    ended = {"epochs": "", "patience": ", ended early", "diverged": ", ended as the loss left the finite numbers"}
    ran = f"{count(len(history.epochs) - 1, 'epoch')}{ended[history.ended]}"
    if not history.best:
        return (f"{ran}: none better than the start, {100 * start.held_accuracy:.1f}% of held-out samples {what}",)
    change = f"{100 * start.held_accuracy:.1f}% before, {100 * best.held_accuracy:.1f}% after"
    return (f"{ran}, the {_ordinal(history.best)} kept: of held-out samples {what} {change}",)


def history_table(title: str, history: History, labelled: bool) -> Table:
    """The epochs; of many, some."""
    what = "accuracy %" if labelled else "agrees with teacher %"
    logged = list(dict.fromkeys(key for epoch in history.epochs for key in epoch.logged))
    columns = ("epoch", "loss", what, "held-out loss", f"held-out {what}", *logged)
    last = len(history.epochs) - 1
    stride = max(1, -(-last // MOST_ROWS))
    rows: list[tuple[Cell, ...]] = []
    for epoch in history.epochs:
        if epoch.number % stride and epoch.number not in (history.best, last):
            continue
        shares = [None if share is None else 100 * share for share in (epoch.accuracy, epoch.held_accuracy)]
        extra = [epoch.logged.get(key) for key in logged]
        rows.append((epoch.number, epoch.loss, shares[0], epoch.held_loss, shares[1], *extra))
    note = f"Epoch 0 is the state before training; that of epoch {history.best} was kept."
    return Table(title, columns, rows, (note,))


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"{number}{ending}"
