"""The waterfall: what every stage of a compilation cost, as an object that prints well."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.report.table import Cell, Table, show
from hsnn_compiler.verify.alone import Alone
from hsnn_compiler.verify.bisect import Bisection
from hsnn_compiler.verify.causes import Cause
from hsnn_compiler.verify.replay import Outcome
from hsnn_compiler.verify.stages import completes

DASH = "-"


@dataclass(frozen=True)
class Waterfall:
    """What every stage cost.

    Attributes:
        name: of the model.
        timesteps: steps per sample.
        outcomes: the source first, then every stage.
        findings: what failed (codes ``E06xx``), and what is to be said.
        causes: why layers lose, the largest first.
        alone: what single changes cost; empty unless asked for.
        bisection: the first departure; None if there is none, or it was not asked for.
        bisected: whether it was asked for.
        lava: samples compared with Lava; None if Lava was not asked for.
    """

    name: str
    timesteps: int
    outcomes: Sequence[Outcome]
    findings: Sequence[Finding] = ()
    causes: Sequence[Cause] = ()
    alone: Sequence[Alone] = ()
    bisection: Bisection | None = None
    bisected: bool = False
    lava: int | None = None

    @property
    def ok(self) -> bool:
        """Whether every exact stage is exact, and the bundle is what compiling gives."""
        return not any(finding.is_error for finding in self.findings)

    @property
    def layers(self) -> list[str]:
        """Names of the layers, in the order of the network."""
        return list(dict.fromkeys(name for outcome in self.outcomes for name in outcome.layers))

    def table(self) -> Table:
        """One row per stage."""
        whole = {alone.stage: alone for alone in self.alone if not alone.layer}
        rows = []
        followers = [*self.outcomes[1:], None]
        for outcome, after in zip(self.outcomes, followers, strict=True):
            alone = whole.get(outcome.name)
            by_itself: list[Cell] = [_percent(alone.agreement) if alone else DASH] if self.alone else []
            error = None if outcome.name == "source" else _percent(outcome.output.error)
            spikes = outcome.spikes / outcome.samples if outcome.spikes else None
            rows.append(
                (
                    outcome.name,
                    outcome.contract,
                    _percent(outcome.accuracy),
                    _percent(outcome.agreement),
                    *by_itself,
                    error,
                    spikes,
                    _verdict(outcome, after),
                )
            )
        middle = ("alone: agrees %",) if self.alone else ()
        columns = ("stage", "contract", "accuracy %", "agrees with source %", *middle)
        columns = (*columns, "output error %", "spikes per sample", "verdict")
        samples = self.outcomes[0].samples
        title = f"{self.name}, T = {self.timesteps}, {samples:,} samples"
        return Table(title, columns, rows, ALONE if self.alone else ())

    def error_table(self) -> Table:
        """Error of each layer's activity against the source, a column per stage that changes it."""
        kept = [o for i, o in enumerate(self.outcomes) if o.layers and (i < 2 or o.contract != "exact")]
        rows = [
            (name, *(_percent(o.layers[name].error) if name in o.layers else None for o in kept))
            for name in self.layers
        ]
        columns = ("layer", *(o.name for o in kept))
        return Table("Error of rates against the source's activation, %", columns, rows)

    def layer_table(self) -> Table:
        """Everything known of each layer at the last stage."""
        last = self.outcomes[-1]
        rows = []
        for name, layer in last.layers.items():
            shares = (layer.rounding, layer.clipped, layer.silent, layer.full)
            rows.append(
                (name, layer.rate, layer.correlation, _percent(layer.error), *map(_percent, shares), layer.saturated)
            )
        columns = (
            "layer",
            "spikes per neuron and step",
            "correlation",
            "error %",
            "rounding to T levels alone %",
            "activations clipped %",
            "neurons silent %",
            "full rates %",
            "states saturated",
        )
        return Table(f"Layers at the last stage ({last.name})", columns, rows)

    def alone_table(self) -> Table:
        """What one layer costs by itself, per stage that has such a thing."""
        stages = list(dict.fromkeys(alone.stage for alone in self.alone))
        cells = {(alone.stage, alone.layer): alone for alone in self.alone}
        names = list(dict.fromkeys(alone.layer for alone in self.alone if alone.layer))
        rows = []
        for name in names:
            row: list[Cell] = [name]
            for stage in stages:
                found = cells.get((stage, name))
                row += [_percent(found.agreement), _percent(found.error)] if found else [DASH, DASH]
            rows.append(tuple(row))
        columns = ("layer", *(text for s in stages for text in (f"{s}: agrees %", f"{s}: output error %")))
        return Table("One layer alone, everything else exact", columns, rows)

    def tables(self) -> list[Table]:
        """All tables."""
        found = [self.table(), self.error_table(), self.layer_table()]
        return [*found, self.alone_table()] if self.alone else found

    def remarks(self) -> list[str]:
        """What is to be said besides the tables and findings, a line each."""
        lines = [f"cause: {cause}" for cause in self.causes]
        if self.lava is not None:
            lines.append(f"Lava: {self.lava} samples compared, every spike, u and v")
        if self.bisection is not None:
            first, *rest = str(self.bisection).splitlines()
            lines += [f"first departure: {first}", *(f"  {line}" for line in rest)]
        elif self.bisected:
            lines.append("no stage departs beyond what its contract allows")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain data, everything in it; shares are numbers from 0 to 1."""
        return {
            "model": self.name,
            "timesteps": self.timesteps,
            "samples": self.outcomes[0].samples,
            "ok": self.ok,
            "stages": [_outcome(outcome) for outcome in self.outcomes],
            "causes": [cause.to_dict() for cause in self.causes],
            "alone": [alone.to_dict() for alone in self.alone],
            "bisection": self.bisection.to_dict() if self.bisection else None,
            "lava_samples": self.lava,
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def __repr__(self) -> str:
        parts = [_text(table) for table in self.tables()]
        said = [*map(str, self.findings), *self.remarks(), "verified" if self.ok else "NOT verified"]
        return "\n\n".join([*parts, "\n".join(said)])

    def _repr_html_(self) -> str:
        parts = []
        for table in self.tables():
            head = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
            rows = "".join(
                "<tr>" + "".join(f"<td>{html.escape(show(cell))}</td>" for cell in row) + "</tr>" for row in table.rows
            )
            parts.append(f"<h4>{html.escape(table.title)}</h4><table><tr>{head}</tr>{rows}</table>")
        lines = [*map(str, self.findings), *self.remarks()]
        return "".join([*parts, *(f"<p>{html.escape(line)}</p>" for line in lines)])


ALONE = (
    "alone: a stage's change in a network that is exact otherwise. -: no meaning. An exact stage changes nothing,",
    "integer state needs integer weights, and thresholds are no thresholds before they are calibrated.",
)


def _verdict(outcome: Outcome, after: Outcome | None) -> str:
    if outcome.departure is not None:
        return "NOT exact"
    if outcome.contract == "lossy" and after is not None and completes(after.name):
        return "completed by the next"
    if outcome.contract != "exact":
        return ""
    return f"exact ({outcome.ties} samples with ties)" if outcome.ties else "exact"


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.name,
        "contract": outcome.contract,
        "accuracy": outcome.accuracy,
        "agreement": outcome.agreement,
        "output_error": outcome.output.error,
        "output_correlation": outcome.output.correlation,
        "spikes_per_sample": outcome.spikes / outcome.samples,
        "departure": outcome.departure.to_dict() if outcome.departure else None,
        "ties": outcome.ties,
        "saturated": outcome.saturated,
        "layers": {name: layer.to_dict() for name, layer in outcome.layers.items()},
    }


def _text(table: Table) -> str:
    """A table as lines of text."""
    cells = [list(table.columns), *([show(cell) for cell in row] for row in table.rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(table.columns))]
    right = [table.is_number(i) for i in range(len(table.columns))]

    def aligned(line: Sequence[str]) -> str:
        pairs = zip(line, widths, right, strict=True)
        return "  ".join(text.rjust(width) if flush else text.ljust(width) for text, width, flush in pairs).rstrip()

    return "\n".join([table.title, *map(aligned, cells), *table.notes])
