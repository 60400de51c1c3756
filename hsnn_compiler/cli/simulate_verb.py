"""``hsnn-compile simulate``: run a bundle or a graph file before any hardware."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsnn_compiler.cli.options import contract_of, contract_options, source_options
from hsnn_compiler.cli.subjects import ModelOptions, load_data, open_subject

if TYPE_CHECKING:
    from hsnn_compiler.costs import Costs
    from hsnn_compiler.ir.graph import Graph
    from hsnn_compiler.network import Network
    from hsnn_compiler.program import Program
    from hsnn_compiler.reference.result import Record, Result


RUNNERS = ("lava", "nest", "spinnaker-fixed", "spinnaker-float", "spinnaker")
"""Backends that are none of the reference executors, see `hsnn_compiler.families.RUNNERS`."""


@click.command("simulate")
@click.argument("path", metavar="BUNDLE|GRAPH|MODEL", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="Inputs: .npz with x and, for accuracy, y [samples]; .npy; or .nird (NIRData). For a bundle x is "
    "[samples, ...], for a graph [time, ...] or [samples, time, ...]; several inputs by their names.",
)
@source_options
@click.option(
    "--timesteps", type=int, metavar="T", help="Models: how often one is called that computes one step per call."
)
@click.option(
    "--backend",
    type=click.Choice(["reference", "float", *RUNNERS]),
    help="reference: the chip's integers, batched (SpiNNaker: its neurons in real numbers). float: real numbers. lava: "
    "Lava's CPU backend. SpiNNaker: nest, spinnaker-fixed (fixed point, emulated), spinnaker-float, spinnaker (board). "
    "By default reference where there are integers, else float. For the others a .nir file in real numbers is "
    "quantised, scaled for the data; what that costs is said.",
)
@contract_options
@click.option(
    "--reset-interval",
    type=click.IntRange(min=1),
    metavar="N",
    help="Graphs: reset the population of layer L as step L + k*N begins (counted from 0), as lava-dl does.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N samples.")
@click.option(
    "--record",
    metavar="NODE[:s|u|v],...|all",
    help="Signals to keep: spikes or output (s), current (u), membrane potential (v). With --out: all populations.",
)
@click.option(
    "--out",
    "--trace",
    "out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write what is recorded as .npz: arrays NODE.s, NODE.u, NODE.v [samples, time, ...] and output.NODE.",
)
@click.option(
    "--compare",
    is_flag=True,
    help="With --backend lava or nest: compare every spike (Lava: u and v, too) with the reference.",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=128, show_default=True, help="Samples at a time.")
@click.option(
    "--deadline",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    help="Lava only: seconds after which it is ended.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Say how each layer was run.")
@click.pass_context
def command(
    ctx: click.Context,
    path: Path,
    data: Path,
    axes: str,
    modules: tuple[str, ...],
    factory: str | None,
    timesteps: int | None,
    backend: str | None,
    dt: float | None,
    dynamics: str | None,
    reset_interval: int | None,
    limit: int | None,
    record: str | None,
    out: Path | None,
    compare: bool,
    batch_size: int,
    deadline: float,
    as_json: bool,
    verbose: bool,
) -> None:
    """Run samples and print spikes and accuracy.

    They go through a BUNDLE, through a GRAPH (.nir, lava-dl .net), or through a MODEL as it was captured.
    """
    from hsnn_compiler.cli import simulate_report as report
    from hsnn_compiler.cli.errors import show_findings
    from hsnn_compiler.cli.show import progress
    from hsnn_compiler.diagnostics import refuse
    from hsnn_compiler.network import Network

    if compare and backend not in RUNNERS:
        raise click.UsageError("--compare goes with --backend lava, nest or another that is no reference")
    if out and not out.resolve().parent.is_dir():
        raise refuse("E0207", f"no folder {out.parent} to write {out.name} into", suggestion="choose another --out")
    model = ModelOptions(axes, modules, factory, timesteps, data)
    subject = open_subject(path, model, contract_of(dt, dynamics), reset_interval)
    x, y = load_data(subject, data, limit)
    backend = backend or ("float" if not getattr(subject, "has_integers", True) else "reference")
    if isinstance(subject, Network) and backend != "float":
        subject = subject.quantised(x)
    graph = _graph(subject, backend)
    signals = _signals(graph, record, everything=bool(out or compare))
    if backend in RUNNERS and backend != "lava":  # potentials differ in their last bits
        signals = [key for key in signals if key[1] != "u" and not (compare and key[1] == "v")]
    options: dict[str, Any] = {"batch_size": batch_size, "deadline_s": deadline}
    if reset_interval is not None:
        options["reset_interval"] = reset_interval
    start = time.perf_counter()
    with progress() as bar:
        result, costs = _run(subject, x, backend, signals, options, lambda *done: bar(f"{backend}", *done))
    seconds = time.perf_counter() - start
    differences = _compare(subject, x, signals, result, options) if compare else None
    if out:
        from hsnn_compiler.signals import write_trace

        write_trace(out, result)
    findings = getattr(subject, "findings", ()) if path.is_file() else ()
    summary = report.summary(graph, y, backend, result, seconds, differences, findings)
    if costs is not None and not isinstance(subject, Network):
        summary |= report.costs(costs, subject.target)
    if isinstance(subject, Network) and subject.real is not None:
        from hsnn_compiler.verify.against_float import spikes_off

        summary["against_float"] = report.against_float(*spikes_off(subject, x))
    if as_json:
        click.echo(json.dumps(summary, indent=1))
    else:
        show_findings(findings)
        report.show(summary, graph, result, signals if not out else (), out, verbose)
    if differences:
        ctx.exit(6)


def _run(
    subject: Program | Network,
    x: Any,
    backend: str,
    signals: list[Record],
    options: dict[str, Any],
    bar: Callable[[int, int], None],
) -> tuple[Result, Costs | None]:
    """Run, and count what an inference of a bundle costs; not on Lava, whose spikes the reference has."""
    from hsnn_compiler.network import Network

    if isinstance(subject, Network) or backend in RUNNERS:  # a graph's samples may be long, and recording them slow
        return subject.simulate(x, backend, signals, progress=bar, **options), None
    return subject.count(x, backend, signals, batch_size=options["batch_size"], progress=bar)


def _graph(subject: Program | Network, backend: str) -> Graph:
    from hsnn_compiler.network import Network

    if isinstance(subject, Network) or backend != "float":
        return subject.graph
    return subject.floating


def _signals(graph: Graph, text: str | None, *, everything: bool) -> list[Record]:
    """What ``--record`` asks for; nodes that do not exist are for the executors to refuse."""
    from hsnn_compiler.network import recordable

    known = recordable(graph)
    hosted = {node.name for node in graph if node.placement is not None and not node.on_chip}  # unknown to Lava
    populations = {name for name, variable in known if variable == "v"} - hosted
    states = [key for key in known if key[0] in populations]
    if text == "all" or (text is None and everything):
        return states
    found: list[Record] = []
    for item in filter(None, (part.strip() for part in (text or "").split(","))):
        name, _, variable = item.rpartition(":")
        if name and variable in ("s", "u", "v"):
            found.append((name, variable))
        else:
            found += [(n, v) for n, v in states if n == item] or [(item, "s")]
    return found


def _compare(
    subject: Program | Network, x: Any, signals: list[Record], result: Result, options: dict[str, Any]
) -> list[str]:
    from hsnn_compiler.verify.traces import compare

    return [str(difference) for difference in compare(result, subject.simulate(x, "reference", signals, **options))]
