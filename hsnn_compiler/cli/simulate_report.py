"""What ``hsnn-compile simulate`` prints."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hsnn_compiler.diagnostics import Finding

if TYPE_CHECKING:
    from hsnn_compiler.costs import Costs
    from hsnn_compiler.ir.graph import Graph
    from hsnn_compiler.reference.result import Record, Result
    from hsnn_compiler.report.table import Table
    from hsnn_compiler.verify.against_float import SpikesOff

_SHOWN = 20  # predictions, steps of a recorded signal


def summary(
    graph: Graph,
    y: np.ndarray | None,
    backend: str,
    result: Result,
    seconds: float,
    differences: list[str] | None,
    findings: Sequence[Finding],
) -> dict[str, Any]:
    """The result as plain data."""
    steps = graph.timesteps or _steps(graph, result)
    spiking = {node.name: node for node in graph if node.is_spiking}
    rates = {
        name: count / result.samples / spiking[name].type.size / steps  # type: ignore[union-attr]
        for name, count in result.spikes.items()
        if name in spiking
    }
    scores = _scores(graph, result)
    found: dict[str, Any] = {
        "backend": backend,
        "samples": result.samples,
        "timesteps": steps,
        "seconds": round(seconds, 3),
        "predictions": scores.argmax(1).tolist(),
        "accuracy": None if y is None else float((scores.argmax(1) == y[: result.samples]).mean()),
        "spikes_per_sample": sum(result.spikes.get(name, 0) for name in spiking) / result.samples,
        "spike_rate": rates,
        "saturated": {name: count for name, count in result.saturated.items() if count},
        "how": dict(result.how),
    }
    if findings:
        found["findings"] = [finding.to_dict() for finding in findings]
    if differences is not None:
        found["identical_to_reference"] = not differences
        found["differences"] = differences
    return found


def costs(counted: Costs, target: str) -> dict[str, Any]:
    """What an inference costs, as plain data."""
    from hsnn_compiler.costs import energy_notes
    from hsnn_compiler.targets import load_target

    chip = load_target(target)
    return {
        "target": target,
        "per_inference": asdict(counted),
        "energy_estimate_joules": counted.energy(chip),
        "energy_estimate": " ".join(energy_notes(chip)),
    }


def against_float(found: Mapping[str, SpikesOff], samples: int) -> dict[str, Any]:
    """How far quantising took the spikes from those in real numbers, as plain data."""
    return {"samples": samples, "populations": {name: asdict(off) for name, off in found.items()}}


def show(
    summary: dict[str, Any],
    graph: Graph,
    result: Result,
    signals: Collection[Record],
    out: Path | None,
    verbose: bool,
) -> None:
    """Print it for people."""
    from hsnn_compiler.cli.show import console, print_table
    from hsnn_compiler.report.table import Table

    screen = console()
    if summary["accuracy"] is not None:
        screen.print(f"accuracy           {100 * summary['accuracy']:.2f}% of {summary['samples']} samples")
    elif _scores(graph, result).shape[1] > 1:
        more = " ..." if result.samples > _SHOWN else ""
        screen.print(f"predictions        {summary['predictions'][:_SHOWN]}{more}")
    screen.print(f"backend            {summary['backend']}, T = {summary['timesteps']}, {summary['seconds']:.1f} s")
    screen.print(f"spikes per sample  {summary['spikes_per_sample']:,.0f}")
    for line in _cost_lines(summary):
        screen.print(line, soft_wrap=True)
    screen.print()
    rows = [(name, rate, summary["saturated"].get(name, 0)) for name, rate in summary["spike_rate"].items()]
    rows += [(name, None, count) for name, count in summary["saturated"].items() if name not in summary["spike_rate"]]
    print_table(
        screen, Table("Populations", ("population", "spikes per neuron and step", "saturated or clipped"), rows)
    )
    if "against_float" in summary:
        print_table(screen, _against_float(summary["against_float"], summary["samples"]))
    recorded = [(*key, *_span(result.trace[key])) for key in signals if key in result.trace]
    if recorded:
        print_table(screen, Table("Recorded", ("node", "signal", "shape", "lowest", "highest", "mean"), recorded))
    if verbose and result.how:
        print_table(screen, Table("How it was run", ("layer", "method"), list(result.how.items())))
    if "differences" in summary:
        same = "yes" if not summary["differences"] else "NO"
        screen.print(f"spikes, u and v identical to the reference: [bold]{same}[/bold] ({len(result.trace)} signals)")
        for line in summary["differences"]:
            screen.print(f"  {line}")
    if out:
        screen.print(f"trace written      {out}")


def _cost_lines(summary: dict[str, Any]) -> list[str]:
    counted = summary.get("per_inference")
    if counted is None:
        return []
    entering = f"{counted['input_events']:,.0f} spikes enter, " if counted["input_events"] else ""
    operations = f"{counted['synaptic_operations']:,.0f} synaptic operations"
    energy = f"{1e6 * summary['energy_estimate_joules']:.3g} uJ per inference"
    return [
        f"per inference      {entering}{operations}, {counted['membrane_updates']:,} membrane updates",
        f"energy             ~ {energy}, an estimate: hsnn-compile targets {summary['target']}",
    ]


def _against_float(found: dict[str, Any], samples: int) -> Table:
    from hsnn_compiler.report.table import Table

    columns = (
        "population",
        "spikes in real numbers",
        "in integers",
        "neuron-steps that differ",
        "cosine of the counts",
    )
    rows = [(name, *off.values()) for name, off in found["populations"].items()]
    notes = (f"on the first {found['samples']} samples",) if found["samples"] < samples else ()
    return Table("Against --backend float", columns, rows, notes)


def _steps(graph: Graph, result: Result) -> int:
    """Steps of a graph whose time comes with the data."""
    for name, array in result.outputs.items():
        if array.ndim == len(graph[name].shape) + 2:
            return int(array.shape[1])
    return 1


def _scores(graph: Graph, result: Result) -> np.ndarray:
    """[samples, classes] of the first output, added up over time where it has time."""
    name, array = next(iter(result.outputs.items()))
    if array.ndim == len(graph[name].shape) + 2:
        array = array.sum(1)
    return array.reshape(len(array), -1)


def _span(array: np.ndarray) -> tuple[str, float, float, float]:
    shape = "x".join(map(str, array.shape))
    return shape, float(array.min()), float(array.max()), float(array.mean(dtype=np.float64))
