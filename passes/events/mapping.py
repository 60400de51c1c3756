"""Map a network that was trained on analog input to events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.passes.base import LOSSY, Pass, PassContext, PassResult, listing
from hsnn_compiler.passes.direct import is_direct
from hsnn_compiler.passes.events.challenges import Moments, compare, spiking_layers, table
from hsnn_compiler.passes.events.choosing import agreement, choose
from hsnn_compiler.passes.events.encoding import as_events, ready_for_events
from hsnn_compiler.passes.events.hosting import first_on_the_host
from hsnn_compiler.passes.events.statistics import match_statistics

MAPPINGS = ("exact", "running", "statistics", "none")
MUCH = 0.01


@dataclass(frozen=True)
class MapSurrogateToEvents(Pass):
    """Bring the input to the chip as spikes, and map what was trained on analog input to that.

    What ``--encode`` chooses (`hsnn_compiler.ir.ops.Encode` has the codes): ``current`` leaves direct coding to
    `map-direct-coding`; ``host`` runs the first neurons on the host, and their spikes go to the chip, which loses
    nothing; events let the first weight layer run on the chip. `mapping` says what the neurons behind make of events:

        exact        they collect a window of T steps, every event with its worth, and see the sum as a constant
                     current in the next window: what direct coding computes, for the input rounded to the code's
                     levels, T steps later
        statistics   events drive them as they come; per layer and channel, thresholds and a constant current give
                     the spread and mean of the membrane's input back that training had (see `match_statistics`)
        running      with delta: a synaptic current without decay holds the running sum; then as `statistics`
        none         events as they come, nothing recalibrated

    ``auto`` measures the encodings on the calibration data. It runs once T and the thresholds of converted
    neurons are known, and before `map-direct-coding` takes the first weight layer to the host.
    """

    mapping: str = "exact"

    name: ClassVar[str] = "map-surrogate-to-events"
    contract: ClassVar[str] = LOSSY
    requires: ClassVar[tuple[str, ...]] = ("timed",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        kind = context.encode
        wrong = []
        if self.mapping not in MAPPINGS:
            wrong.append(Finding("E0212", f"no mapping {self.mapping!r}", supported=", ".join(MAPPINGS)))
        if self.mapping == "running" and kind not in ("delta", "current", "host"):
            wrong.append(Finding("E0212", f"mapping=running for {kind} events", supported="delta"))
        if wrong or kind == "current":
            return PassResult(graph, findings=tuple(wrong))
        if not any(is_direct(node) for node in graph):
            return PassResult(graph, notes=("nothing analog enters the chip",))
        if context.calibration is None and kind != "host":
            missing = Finding("E0213", f"{self.name} needs data", suggestion="pass --calib data.npz")
            return PassResult(graph, findings=(missing,))
        if kind == "auto":
            choice = choose(graph, self.encoded, context)
            found = self._result(graph, choice.kind, context)
            notes = (*choice.notes, *found.notes)
            return PassResult(found.graph, found.modified, notes, found.findings, (choice.table, *found.tables))
        return self._result(graph, kind, context)

    def encoded(self, graph: Graph, kind: str, context: PassContext) -> Graph:
        """The network with this encoding of its input, typed; HsnnError where there is none."""
        if kind == "current":
            return graph
        if kind == "host":
            return first_on_the_host(graph)[0]
        ready = ready_for_events(graph)
        through = {"exact": "window", "running": "current"}.get(self.mapping, "nothing")
        events = as_events(ready, kind, through, context)
        return match_statistics(events, ready, context) if self.mapping in ("running", "statistics") else events

    def _result(self, graph: Graph, kind: str, context: PassContext) -> PassResult:
        if kind == "current":
            return PassResult(graph)
        if kind == "host":
            placed, first = first_on_the_host(graph)
            if not first:
                return PassResult(graph, notes=("no neurons see the input and nothing else",))
            what = f"on the host, in T = {graph.timesteps} steps per sample; spikes to the chip: {listing(first)}"
            return PassResult(placed, True, (what,))
        mapped = self.encoded(graph, kind, context)
        same = agreement(graph, mapped, context)
        notes = (
            *_described(mapped, kind, self.mapping),
            f"{100 * same:.1f}% of predictions on the calibration data as under direct coding",
        )
        findings = (_changes(kind, self.mapping, same),) if same < 1 - MUCH else ()
        layers = [node.name for node in spiking_layers(mapped)]
        before = self._unmapped(graph, mapped, kind, layers, context)
        after = compare(mapped, ready_for_events(graph), layers, context)
        return PassResult(mapped, True, (*notes, *_spoken(before, after)), findings, (table(before, after),))

    def _unmapped(
        self, graph: Graph, mapped: Graph, kind: str, layers: list[str], context: PassContext
    ) -> dict[str, Moments]:
        """What the three numbers are with nothing mapped; empty where neurons need their input whole."""
        if any(node.kind == "FirstSpike" for node in mapped):
            return {}
        ready = ready_for_events(graph)
        plain = mapped if self.mapping == "none" else as_events(ready, kind, "nothing", context)
        return compare(plain, ready, layers, context)


def _described(graph: Graph, kind: str, mapping: str) -> tuple[str, ...]:
    """One line for each Encode."""
    return tuple(
        f"{node.name}: {kind} events, {graph.timesteps} steps, "
        + (
            f"-{node.op.high:.4g}..{node.op.high:.4g} in two channels each"
            if node.op.doubled
            else f"0..{node.op.high:.4g}"
        )
        + f"; mapping {mapping}"
        for node in graph
        if node.is_event_source
    )


def _spoken(before: dict[str, Moments], after: dict[str, Moments]) -> tuple[str, ...]:
    """The three numbers as means over layers."""
    if not after:
        return ()

    def mean(found: dict[str, Moments], what: str) -> str:
        values = [getattr(moments, what) for moments in found.values()]
        return f"{sum(values) / len(values):.3g}" if values else "not measured"

    return tuple(
        f"{title}, mean over layers: {mean(before, what)} before, {mean(after, what)} after mapping"
        for what, title in (
            ("mismatch", "threshold mismatch"),
            ("lost", "lost temporal dynamics"),
            ("moved", "activation shift"),
        )
    )


def _changes(kind: str, mapping: str, same: float) -> Finding:
    return Finding(
        "W0474",
        f"{kind} events with mapping {mapping} change {100 * (1 - same):.1f}% of predictions on the calibration data",
        suggestion="map-surrogate-to-events{mapping=exact} with more time steps, or --encode host",
    )
