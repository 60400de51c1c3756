"""``hsnn-compile simulate BUNDLE``: run a program before any hardware."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hsnn_compiler.data import Data
    from hsnn_compiler.program import Program
    from hsnn_compiler.reference.result import Record, Result


@click.command("simulate")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="Inputs: .npz with x [samples, ...] and, for accuracy, y [samples]; or .npy.",
)
@click.option(
    "--backend",
    type=click.Choice(["reference", "float", "lava"]),
    default="reference",
    show_default=True,
    help="reference: the chip's integers, batched. float: before quantisation. lava: the emitted "
    "processes on Lava's CPU backend.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N samples.")
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write spikes (s), currents (u) and membrane potentials (v) of every population as .npz.",
)
@click.option("--compare", is_flag=True, help="With --backend lava: compare every spike, u and v with the reference.")
@click.option("--batch-size", type=click.IntRange(min=1), default=128, show_default=True, help="Samples at a time.")
@click.option(
    "--deadline",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    help="Lava only: seconds after which it is ended.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    bundle: Path,
    data: Path,
    backend: str,
    limit: int | None,
    trace: Path | None,
    compare: bool,
    batch_size: int,
    deadline: float,
    as_json: bool,
) -> None:
    """Run samples through BUNDLE and print accuracy, spikes and saturation."""
    from hsnn_compiler.bundle import read_bundle
    from hsnn_compiler.cli.show import progress
    from hsnn_compiler.data import load_arrays
    from hsnn_compiler.diagnostics import refuse

    if compare and backend != "lava":
        raise click.UsageError("--compare goes with --backend lava")
    if trace and not trace.resolve().parent.is_dir():
        raise refuse(
            "E0207", f"no folder {trace.parent} to write {trace.name} into", suggestion="choose another --trace"
        )
    program = read_bundle(bundle)
    samples = load_arrays(data)
    x = samples.x[:limit] if limit else samples.x
    record = _signals(program, backend) if trace or compare else []
    start = time.perf_counter()
    with progress() as bar:
        result = program.simulate(
            x,
            backend,
            record,
            batch_size=batch_size,
            deadline_s=deadline,
            progress=lambda done, total: bar(f"{backend}", done, total),
        )
    seconds = time.perf_counter() - start
    differences = None
    if compare:
        differences = _compare(program, x, record, result)
    if trace:
        _write_trace(trace, result)
    summary = _summary(program, samples, backend, result, seconds, differences)
    if as_json:
        click.echo(json.dumps(summary, indent=1))
    else:
        _print(summary, program, result, trace)
    if differences:
        ctx.exit(6)


def _signals(program: Program, backend: str) -> list[Record]:
    graph = program.floating if backend == "float" else program.graph
    return [(node.name, variable) for node in graph if node.is_neuron for variable in "suv"]


def _compare(program: Program, x: Any, record: list[Record], result: Result) -> list[str]:
    from hsnn_compiler.verify.traces import compare

    return [str(difference) for difference in compare(result, program.simulate(x, "reference", record))]


def _write_trace(path: Path, result: Result) -> None:
    """Arrays ``<population>.<s|u|v>`` [samples, time, ...], and ``output.<name>`` [samples, ...]."""
    import numpy as np

    arrays = {f"{name}.{variable}": array for (name, variable), array in result.trace.items()}
    arrays.update({f"output.{name}": array for name, array in result.outputs.items()})
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def _summary(
    program: Program, data: Data, backend: str, result: Result, seconds: float, differences: list[str] | None
) -> dict[str, Any]:
    neurons = {node.name: node for node in program.graph if node.is_neuron and node.is_spiking}
    per_neuron = {
        name: count / result.samples / neurons[name].type.size / program.timesteps  # type: ignore[union-attr]
        for name, count in result.spikes.items()
        if name in neurons
    }
    summary: dict[str, Any] = {
        "backend": backend,
        "samples": result.samples,
        "timesteps": program.timesteps,
        "seconds": round(seconds, 3),
        "accuracy": None if data.y is None else result.accuracy(data.y[: result.samples]),
        "spikes_per_sample": sum(count for name, count in result.spikes.items() if name in neurons) / result.samples,
        "spike_rate": per_neuron,
        "saturated": {name: count for name, count in result.saturated.items() if count},
    }
    if differences is not None:
        summary["identical_to_reference"] = not differences
        summary["differences"] = differences
    return summary


def _print(summary: dict[str, Any], program: Program, result: Result, trace: Path | None) -> None:
    from hsnn_compiler.cli.show import console, print_table
    from hsnn_compiler.report.table import Table

    out = console()
    if summary["accuracy"] is not None:
        out.print(f"accuracy           {100 * summary['accuracy']:.2f}% of {summary['samples']} samples")
    else:
        out.print(f"predictions        {result.predictions().tolist()[:20]}{' ...' if result.samples > 20 else ''}")
    out.print(f"backend            {summary['backend']}, T = {summary['timesteps']}, {summary['seconds']:.1f} s")
    out.print(f"spikes per sample  {summary['spikes_per_sample']:,.0f}\n")
    rows = [(name, rate, summary["saturated"].get(name, 0)) for name, rate in summary["spike_rate"].items()]
    rows += [(name, None, count) for name, count in summary["saturated"].items() if name not in summary["spike_rate"]]
    print_table(out, Table("Populations", ("population", "spikes per neuron and step", "saturated or clipped"), rows))
    if "differences" in summary:
        same = "yes" if not summary["differences"] else "NO"
        out.print(f"spikes, u and v identical to the reference: [bold]{same}[/bold] ({len(result.trace)} signals)")
        for line in summary["differences"]:
            out.print(f"  {line}")
    if trace:
        out.print(f"trace written      {trace}")
