"""``hsnn-compile MODEL``: compile and write a bundle."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsnn_compiler import __version__
from hsnn_compiler.cli.errors import show_findings
from hsnn_compiler.cli.finetune_options import finetune_of, finetune_options
from hsnn_compiler.cli.options import AUTO, Captured, capture_file, compile_options, model_options
from hsnn_compiler.diagnostics import HsnnError

if TYPE_CHECKING:
    from rich.console import Console

    from hsnn_compiler.passes.pipeline import Stage
    from hsnn_compiler.program import Program


@click.command("compile")
@click.argument("model", type=click.Path(path_type=Path))
@model_options
@compile_options
@finetune_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the bundle; by default MODEL.TARGET in the working directory.",
)
@click.option(
    "--dump-ir", type=click.Path(path_type=Path), metavar="DIR", help="Write the graph after every pass as text."
)
@click.option("--map", "with_map", is_flag=True, help="SpiNNaker: let sPyNNaker map the result on a virtual board.")
@click.option(
    "--map-deadline",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="End the mapping after this time.",
)
@click.option("--dry-run", is_flag=True, help="Do everything but write.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    model: Path,
    calib: Path | None,
    input_shape: str | None,
    axes: str,
    modules: tuple[str, ...],
    factory: str | None,
    output: Path | None,
    dump_ir: Path | None,
    dry_run: bool,
    as_json: bool,
    with_map: bool,
    map_deadline: float,
    finetune: Path | None,
    finetune_checkpoints: Path | None,
    finetune_device: str,
    **options: Any,
) -> None:
    """Compile MODEL and write a bundle: the emitted network, its arrays, graphs and a report."""
    from hsnn_compiler.bundle import check_place
    from hsnn_compiler.cli.show import console, progress
    from hsnn_compiler.driver import Hooks, lower
    from hsnn_compiler.families import check_mapper

    chosen = make_options(**options)
    directory = output or Path(f"{model.stem}.{chosen.target}")
    if not dry_run:
        check_place(directory)  # before the long work, not after it
    if with_map:
        check_mapper(chosen.target)  # so is this
    training = finetune_of(finetune, finetune_checkpoints, finetune_device, chosen.finetune_epochs, input_shape)
    out = console()
    captured = capture_file(model, calib, input_shape, axes, modules, factory, options["timesteps"])
    if not as_json:
        _introduce(out, model, captured, chosen.target)
    dump = _Dump(dump_ir)
    dump(0, "captured", captured.graph)
    with progress() as bar:
        hooks = Hooks(lambda number, total, stage: _after(number, total, stage, bar, dump), bar)
        program = lower(
            captured.graph,
            chosen,
            captured.calibration,
            hooks,
            captured.source,
            labels=captured.labels,
            finetune=training,
        )
    if with_map:
        with progress() as bar:
            program.map(map_deadline, lambda done, total: bar("mapping", done, total))
    if not dry_run:
        program.save(directory)
    mapped = () if program.mapping is None else program.mapping.findings
    if as_json:
        _print_json(program, directory, dry_run)
    else:
        _report(out, program)
        if captured.findings or program.findings or mapped:
            out.print("[bold]Findings[/bold]")
            show_findings((*captured.findings, *program.findings, *mapped))
            out.print()
        _finish(out, program, model, None if dry_run else directory, calib, dump_ir)
    if any(finding.is_error for finding in mapped):  # the bundle says what, and is no use on a board
        raise click.exceptions.Exit(HsnnError(mapped).exit_code)


def make_options(
    target: str,
    timesteps: int | str | None,
    accuracy_drop: float | None,
    layers: tuple[str, ...],
    pipeline: str | None,
    reset: str | None,
    **others: Any,
) -> Any:
    """The driver's options from those of the command line; `others` have the same names there."""
    from hsnn_compiler.driver import ACCURACY_DROP
    from hsnn_compiler.options import Options, parse_layers
    from hsnn_compiler.targets import load_target

    load_target(target)  # refuse an unknown one before anything is read
    if accuracy_drop is not None and timesteps != AUTO:
        raise click.UsageError("--accuracy-drop goes with --timesteps auto")
    drop = (ACCURACY_DROP if accuracy_drop is None else accuracy_drop) if timesteps == AUTO else None
    return Options(
        target=target,
        timesteps=timesteps if isinstance(timesteps, int) else None,
        pipeline=pipeline or "",
        reset=reset or "",
        layers=parse_layers(layers),
        accuracy_drop=drop,
        **others,
    )


class _Dump:
    """Writes the graph after each pass, ``00-captured.txt`` first."""

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory
        if directory:
            directory.mkdir(parents=True, exist_ok=True)

    def __call__(self, number: int, name: str, graph: Any) -> None:
        if self.directory:
            from hsnn_compiler.ir.text import to_text

            (self.directory / f"{number:02d}-{name}.txt").write_text(to_text(graph), encoding="utf-8")


def _after(number: int, total: int, stage: Stage, bar: Any, dump: _Dump) -> None:
    bar("passes", number, total)
    dump(number, stage.item.name, stage.result.graph)


def _introduce(out: Console, path: Path, captured: Captured, target: str) -> None:
    graph = captured.graph
    shapes = ", ".join(str(list(node.shape)) for node in graph.of_kind("Input"))
    kinds: dict[str, int] = {}
    for node in graph:
        if node.kind not in ("Input", "Output"):
            kinds[node.kind] = kinds.get(node.kind, 0) + 1
    out.print(f"[bold]hsnn-compile {__version__}[/bold]  {path.name} -> {target}\n")
    out.print("[bold]Model[/bold]")
    out.print(
        f"  {captured.source['kind']}, {captured.parameters:,} parameters, sha256 {captured.source['sha256'][:16]}"
    )
    out.print(f"  input {shapes}; " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()))
    if captured.calibration is not None:
        out.print(f"  calibration: {len(captured.calibration)} samples of {captured.source['calibration']}")
    else:
        out.print("  calibration: none given")
    out.print()


def _report(out: Console, program: Program) -> None:
    from hsnn_compiler.cli.show import print_table
    from hsnn_compiler.report.partition import partition_tables
    from hsnn_compiler.report.sections import sections

    apart = [table.title for table in partition_tables(program)]
    for table in sections(program):
        if table.title not in apart:
            print_table(out, table)
    if apart:
        out.print(f"{', '.join(apart)}: hsnn-compile inspect BUNDLE --partition\n")


def _finish(
    out: Console, program: Program, model: Path, directory: Path | None, calib: Path | None, dump_ir: Path | None
) -> None:
    from hsnn_compiler.bundle import MANIFEST
    from hsnn_compiler.families import RUNNERS

    if dump_ir:
        out.print(f"Graphs after each pass: {dump_ir}/")
    if directory is None:
        out.print("Dry run: nothing was written.")
        return
    out.print(f"[bold]Written[/bold] {directory}/")
    files = json.loads((directory / MANIFEST).read_text())["files"]
    for name in [
        MANIFEST,
        *(n for n in files if "/" not in n),
        *sorted({n.split("/")[0] + "/" for n in files if "/" in n}),
    ]:
        size = sum(
            path.stat().st_size
            for path in directory.glob(f"{name}**/*" if name.endswith("/") else name)
            if path.is_file()
        )
        out.print(f"  {name:<16}{size:>12,} bytes")
    run = f"hsnn-compile simulate {shlex.quote(str(directory))} --data {shlex.quote(str(calib or 'test.npz'))}"
    out.print("\n[bold]Next[/bold]")
    out.print(f"  {run}", soft_wrap=True)
    for runner in RUNNERS[program.family][:1]:
        out.print(f"  {run} --backend {runner} --limit 20 --compare", soft_wrap=True)
    verify = f"hsnn-compile verify {shlex.quote(str(directory))} --against {shlex.quote(str(model))}"
    data = f"--data {shlex.quote(str(calib or 'test.npz'))}" + (f" --calib {shlex.quote(str(calib))}" if calib else "")
    out.print(f"  {verify} {data}", soft_wrap=True)


def _print_json(program: Program, directory: Path, dry_run: bool) -> None:
    from hsnn_compiler.report.sections import sections

    click.echo(
        json.dumps(
            {
                "bundle": None if dry_run else str(directory),
                "target": program.target,
                "timesteps": program.timesteps,
                "choice": None if program.choice is None else program.choice.plain(),
                "source": program.source,
                "tables": {table.title: table.to_dicts() for table in sections(program)},
                "findings": [
                    finding.to_dict()
                    for finding in (*program.findings, *(program.mapping.findings if program.mapping else ()))
                ],
            },
            indent=1,
        )
    )
