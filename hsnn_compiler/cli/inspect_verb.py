"""``hsnn-compile inspect``: look at a graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hsnn_compiler.cli.options import capture_file, model_options
from hsnn_compiler.diagnostics import refuse

if TYPE_CHECKING:
    from hsnn_compiler.ir.graph import Graph

GRAPH_FILES = (".nir", ".h5", ".hdf5")


@click.command("inspect")
@click.argument("path", type=click.Path(path_type=Path))
@model_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "text", "json", "dot"]),
    default="table",
    show_default=True,
    help="text: the graph as the compiler prints and parses it.",
)
@click.option("--floating", is_flag=True, help="Of a bundle: the network before quantisation.")
def command(
    path: Path,
    calib: Path | None,
    input_shape: str | None,
    modules: tuple[str, ...],
    factory: str | None,
    form: str,
    floating: bool,
) -> None:
    """Show the graph of a bundle, of a graph file (.nir), or of a model as captured."""
    from hsnn_compiler.bundle import is_bundle, read_bundle
    from hsnn_compiler.ir import storage
    from hsnn_compiler.ir.text import to_text

    if not path.exists():
        raise refuse("E0301", f"no such file or folder: {path}", suggestion="check the path and the working directory")
    if is_bundle(path) or path.is_dir():
        program = read_bundle(path)
        graph = program.floating if floating else program.graph
    elif path.suffix in GRAPH_FILES and path.exists():
        graph = storage.read(path)
    else:
        graph = capture_file(path, calib, input_shape, modules, factory).graph
    if form == "text":
        click.echo(to_text(graph), nl=False)
    elif form == "json":
        from hsnn_compiler.report.graphs import to_json

        click.echo(to_json(graph))
    elif form == "dot":
        from hsnn_compiler.report.graphs import to_dot

        click.echo(to_dot(graph), nl=False)
    else:
        _print(graph)


def _print(graph: Graph) -> None:
    from hsnn_compiler.cli.show import console, print_table
    from hsnn_compiler.report.graphs import to_table

    print_table(console(), to_table(graph))
