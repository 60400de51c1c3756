"""``hsnn-compile sweep MODEL``: compile with several options, and show what each gives and costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsnn_compiler.cli.options import source_options
from hsnn_compiler.diagnostics import refuse

if TYPE_CHECKING:
    from hsnn_compiler.sweep import Point, Trial
    from hsnn_compiler.targets import Target

PLOTS = (".png", ".svg", ".pdf")


class Several(click.ParamType):
    """Values with commas between them, each of one kind."""

    def __init__(self, kind: Callable[[str], Any], name: str) -> None:
        self.kind, self.name = kind, name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """See `click.ParamType`; what the values may be is for `Options.problems` to say."""
        if isinstance(value, tuple):
            return value
        try:
            found = tuple(self.kind(part.strip()) for part in value.split(",") if part.strip())
        except ValueError:
            self.fail(f"{value!r} is not {self.name}", param, ctx)
        if not found:
            self.fail("no values", param, ctx)
        return tuple(dict.fromkeys(found))


NUMBERS, WORDS = Several(int, "whole numbers with commas between them"), Several(str, "words")


@click.command("sweep")
@click.argument("model", type=click.Path(path_type=Path))
@source_options
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="Inputs to measure on: .npz with x [samples, ...] and, for accuracy, y [samples]; or .npy.",
)
@click.option(
    "--calib", type=click.Path(path_type=Path), metavar="FILE", help="Inputs for calibration, as when compiling."
)
@click.option("--target", default="loihi2", show_default=True, metavar="NAME", help="Chip or board to compile for.")
@click.option("--timesteps", type=NUMBERS, default="1,2,4,8,16,32", show_default=True, metavar="T,...",
              help="Steps per sample.")  # fmt: skip
@click.option("--encode", type=WORDS, default="current", show_default=True, metavar="NAME,...",
              help="How the input reaches the chip, as when compiling.")  # fmt: skip
@click.option("--coding", type=WORDS, default="rate", show_default=True, metavar="NAME,...",
              help="What spikes mean, as when compiling.")  # fmt: skip
@click.option("--max-spikes", type=NUMBERS, default="1", show_default=True, metavar="N,...",
              help="Most spikes of a converted neuron in one step.")  # fmt: skip
@click.option("--reset", type=WORDS, metavar="NAME,...",
              help="Reset of converted activations; by default the target's own, as when compiling.")  # fmt: skip
@click.option("--layer", "layers", multiple=True, metavar="NAME:key=value", help="As when compiling. Repeatable.")
@click.option("-p", "--pipeline", metavar="TEXT", help="Passes to run, see hsnn-compile passes.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of made-up calibration data.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N samples of --data.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE.csv", help="Write all numbers.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.png",
              help="Draw accuracy and energy against T; .png, .svg or .pdf.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    model: Path,
    axes: str,
    modules: tuple[str, ...],
    factory: str | None,
    data: Path,
    calib: Path | None,
    target: str,
    layers: tuple[str, ...],
    pipeline: str | None,
    seed: int,
    limit: int | None,
    output: Path | None,
    plot: Path | None,
    as_json: bool,
    **varied: tuple[Any, ...],
) -> None:
    """Compile MODEL with every combination of the values given, run each on --data, and print what it gives and costs.

    The model is captured once. A combination that the compiler refuses is a row with the code of its finding; the
    verb fails, with that finding's status, only if all are refused.
    """
    from hsnn_compiler.cli.errors import show_findings
    from hsnn_compiler.cli.options import capture_file
    from hsnn_compiler.cli.show import progress
    from hsnn_compiler.data import load_arrays
    from hsnn_compiler.options import Options, parse_layers
    from hsnn_compiler.report.sweep_table import to_csv
    from hsnn_compiler.sweep import combinations, sweep, trial
    from hsnn_compiler.targets import load_target

    _check_places(output, plot)
    chip = load_target(target)
    base = Options(target=target, layers=parse_layers(layers), pipeline=pipeline or "", seed=seed)
    order = ("encode", "coding", "max_spikes", "reset", "timesteps")
    options = combinations(base, **{name: varied[name] or (getattr(base, name),) for name in order})
    samples = load_arrays(data)
    shape = None if calib else ",".join(map(str, samples.x.shape[1 if axes == "B" else 2 :]))
    captured = capture_file(model, calib, shape, axes, modules, factory, max(varied["timesteps"]))
    with progress() as bar:
        test = trial(captured.graph, samples.x[:limit], None if samples.y is None else samples.y[:limit])
        points = sweep(captured.graph, options, captured.calibration, test, bar)
    if output:
        output.write_text(to_csv(points, test), encoding="utf-8")
    if plot:
        from hsnn_compiler.report.sweep_plot import draw

        draw(points, test, captured.graph.name, plot)
    if as_json:
        click.echo(json.dumps(_plain(points, test, captured.graph.name, chip), indent=1))
    else:
        show_findings(captured.findings)
        _show(points, test, captured.graph.name, chip, [path for path in (output, plot) if path])
    refused = next((point.refused for point in points if point.refused), "")
    if refused and all(point.refused for point in points):
        ctx.exit(int(refused[1:3]))


def _check_places(output: Path | None, plot: Path | None) -> None:
    """Refuse, before the long work, what could not be written after it."""
    for path, option in ((output, "-o"), (plot, "--plot")):
        if path and not path.resolve().parent.is_dir():
            raise refuse("E0207", f"no folder {path.parent} to write {path.name} into", suggestion=f"another {option}")
    if plot and plot.suffix.lower() not in PLOTS:
        raise refuse("E0207", f"no picture of the kind {plot.suffix!r}", supported=", ".join(PLOTS))
    if plot:
        from hsnn_compiler.report.sweep_plot import require_matplotlib

        require_matplotlib()


def _plain(points: list[Point], test: Trial, name: str, target: Target) -> dict[str, Any]:
    from hsnn_compiler.costs import energy_notes

    return {
        "model": name,
        "target": target.name,
        "samples": len(test.x),
        "measured": test.what,
        "source": test.source,
        "energy": " ".join(energy_notes(target)),
        "points": [point.plain() for point in points],
    }


def _show(points: list[Point], test: Trial, name: str, target: Target, written: list[Path]) -> None:
    from hsnn_compiler.cli.show import console, print_table
    from hsnn_compiler.report.sweep_table import sweep_table

    out = console()
    out.print(f"[bold]{name}[/bold] -> {target.name}\n")
    print_table(out, sweep_table(points, test, target))
    for path in written:
        out.print(f"written: {path}", soft_wrap=True)
