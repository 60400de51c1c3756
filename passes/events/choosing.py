"""Choose how the input reaches the chip, by measuring it on the calibration data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.direct import MapDirectCoding, is_direct
from hsnn_compiler.reference.batches import batches
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.report.table import Cell, Table

CANDIDATES = ("current", "host", "bitplane", "rate", "ttfs", "delta", "phase")
COLUMNS = ("encode", "predictions as direct (%)", "messages per sample", "steps per result", "why not")
NOTES = (
    "Messages: spikes on the chip, spikes sent to it, and values set (one per neuron with an input current); all"
    " measured in real numbers on the calibration data. The encoding with the fewest messages among those that change"
    " no prediction is taken, the faster one of two, and before mapping to integers.",
)


@dataclass(frozen=True)
class Measured:
    """One encoding: the share of unchanged predictions, messages per sample, steps until a result is there."""

    kind: str
    same: float
    messages: float
    latency: int


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why."""

    kind: str
    notes: tuple[str, ...]
    table: Table


def choose(graph: Graph, encoded: Callable[[Graph, str, PassContext], Graph], context: PassContext) -> Choice:
    """Try every encoding.

    Args:
        graph: under direct coding.
        encoded: gives the network with one encoding; HsnnError where there is none.
        context: with calibration data.
    """
    found: list[Measured] = []
    rows: list[tuple[Cell, ...]] = []
    expected = _run(graph, context)[0]
    for kind in CANDIDATES:
        try:
            candidate = infer_types(MapDirectCoding().run(encoded(graph, kind, context), context).graph)
        except HsnnError as error:
            rows.append((kind, None, None, None, error.findings[0].message))
            continue
        got, fired = _run(candidate, context)
        messages = fired + sum(node.type.size for node in candidate if node.type and is_direct(node) and node.on_chip)
        measured = Measured(kind, float((got == expected).mean()), messages, latency(candidate))
        found.append(measured)
        rows.append((kind, 100 * measured.same, round(messages, 1), measured.latency, ""))
    best = max(measured.same for measured in found)
    chosen = min((m for m in found if m.same == best), key=lambda m: (m.messages, m.latency))
    notes = tuple(
        f"{m.kind}: {100 * m.same:.1f}% of predictions as under direct coding, {m.messages:.0f} messages per sample,"
        f" {m.latency} steps per result" + (" - chosen" if m is chosen else "")
        for m in found
    )
    return Choice(chosen.kind, notes, Table("Encodings of the input, measured", COLUMNS, rows, NOTES))


def agreement(graph: Graph, other: Graph, context: PassContext) -> float:
    """Share of calibration samples of which two networks predict the same class."""
    return float((_run(graph, context)[0] == _run(other, context)[0]).mean())


def latency(graph: Graph) -> int:
    """Steps from a sample's first to its result's: T, one per synapse op on the longest way, T per `Collect`."""
    steps = graph.timesteps or 1
    depth: dict[str, int] = {}
    for node in graph.topological():
        own = 1 if node.is_synapse and node.on_chip else steps if node.kind == "Collect" else 0
        depth[node.name] = own + max((depth[edge.src] for edge in graph.in_edges(node.name)), default=0)
    return steps + max(depth.values(), default=0)


def _run(graph: Graph, context: PassContext) -> tuple[np.ndarray, float]:
    """Predictions [samples] on the calibration data, and spikes per sample."""
    assert context.calibration is not None
    executor, predictions, fired = FloatExecutor(graph), [], 0
    for batch, done, total in batches(graph, context.calibration, context.batch_size):
        result = executor.run_batch(batch)
        predictions.append(result.predictions())
        fired += sum(result.spikes.values())
        context.progress("calibration: predictions", done, total)
    joined = np.concatenate(predictions)
    return joined, fired / len(joined)
