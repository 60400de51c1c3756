"""``hsnn-compile verify``: what every stage of a compilation cost, and whether it kept its word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hsnn_compiler.diagnostics import Finding, refuse

if TYPE_CHECKING:
    from hsnn_compiler.program import Program
    from hsnn_compiler.verify.waterfall import Waterfall


@click.command("verify")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    required=True,
    metavar="MODEL",
    help="The model that the bundle was compiled from.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="Inputs: .npz with x [samples, ...] and, for accuracy, y [samples]; or .npy.",
)
@click.option(
    "--calib",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The calibration data that the bundle was compiled with; without it nothing can be compiled again.",
)
@click.option(
    "--axes",
    type=click.Choice(["B", "TB", "BT"]),
    default="B",
    show_default=True,
    help="What the model's forward takes, as when compiling.",
)
@click.option("--module", "modules", multiple=True, metavar="NAME", help="As when compiling. Repeatable.")
@click.option("--model", "factory", metavar="MODULE:FUNCTION", help="As when compiling.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N samples.")
@click.option("--lava", type=click.IntRange(min=1), default=None, metavar="K", help="Run the first K samples on Lava.")
@click.option("--alone", is_flag=True, help="Also measure single changes: one layer at a time, all else exact.")
@click.option("--bisect", "find", is_flag=True, help="Name the first stage, layer, neuron and step that departs.")
@click.option(
    "--allowed-drop",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="POINTS",
    help="With --bisect: percent points of agreement with the source that a stage which is not exact may lose.",
)
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.svg", help="Also draw the waterfall.")
@click.option("--deadline", type=click.FloatRange(min=0, min_open=True), default=600.0, show_default=True,
              help="Lava only: seconds after which it is ended.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    bundle: Path,
    against: Path,
    data: Path,
    calib: Path | None,
    axes: str,
    modules: tuple[str, ...],
    factory: str | None,
    limit: int | None,
    lava: int | None,
    alone: bool,
    find: bool,
    allowed_drop: float,
    plot: Path | None,
    deadline: float,
    as_json: bool,
) -> None:
    """Replay data through every stage from the model to BUNDLE, and print what each stage and layer cost.

    The model is compiled again with the bundle's own options. Ends with 6 if a stage declared exact is not, if the
    bundle is not what compiling again gives, or if Lava differs from the integer reference.
    """
    from hsnn_compiler.bundle import read_bundle
    from hsnn_compiler.cli.show import progress
    from hsnn_compiler.data import load_arrays
    from hsnn_compiler.loading import load_model

    if plot and plot.suffix.lower() != ".svg":
        raise refuse("E0207", f"no picture of the kind {plot.suffix!r}", supported=".svg")
    if plot and not plot.resolve().parent.is_dir():
        raise refuse("E0207", f"no folder {plot.parent} to write {plot.name} into", suggestion="choose another --plot")
    program = read_bundle(bundle)
    loaded = load_model(against, modules=modules, factory=factory)
    samples = load_arrays(data)
    with progress() as bar:
        made = program.verify(
            loaded.module,
            samples.x[:limit],
            None if samples.y is None else samples.y[:limit],
            calibration=None if calib is None else load_arrays(calib).x,
            axes=axes,
            lava=lava or 0,
            alone=alone,
            bisect=find,
            allowed_drop=allowed_drop,
            deadline_s=deadline,
            progress=bar,
        )
    said = [*_same_file(program, against, loaded.sha256), *made.findings]
    if plot:
        from hsnn_compiler.report.waterfall_plot import draw

        plot.write_text(draw(made), encoding="utf-8")
    if as_json:
        click.echo(json.dumps({**made.to_dict(), "findings": [finding.to_dict() for finding in said]}, indent=1))
    else:
        _show(made, said, plot)
    ctx.exit(0 if made.ok else 6)


def _same_file(program: Program, path: Path, digest: str) -> list[Finding]:
    noted = program.source.get("sha256")
    if noted in (None, digest):
        return []
    return [
        Finding(
            "W0607",
            f"{path.name} is not the file that the bundle was compiled from (sha256 {digest[:16]}, not {noted[:16]})",
            suggestion=f"--against {program.source.get('file', 'MODEL')}, as it was",
        )
    ]


def _show(made: Waterfall, said: list[Finding], plot: Path | None) -> None:
    from rich.text import Text

    from hsnn_compiler.cli.errors import show_findings
    from hsnn_compiler.cli.show import console, print_table

    out = console()
    for table in made.tables():
        print_table(out, table)
    for line in made.remarks():
        out.print(Text(line), soft_wrap=True)
    show_findings(said)
    if plot:
        out.print(f"drawn: {plot}")
    out.print("[bold]verified[/bold]" if made.ok else "[bold]NOT verified[/bold]")
