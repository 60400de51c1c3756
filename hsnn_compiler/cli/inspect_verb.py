"""``hsnn-compile inspect``: look at a graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hsnn_compiler.cli.options import capture_file, contract_of, contract_options, model_options
from hsnn_compiler.diagnostics import refuse

if TYPE_CHECKING:
    from hsnn_compiler.ir.graph import Graph
    from hsnn_compiler.program import Program


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
@click.option("--partition", is_flag=True, help="Of a bundle: what runs where and why, what crosses, alternatives.")
@click.option("--floating", is_flag=True, help="Of a bundle: the network before quantisation.")
@click.option(
    "--timesteps", type=int, metavar="T", help="How often a model is called that computes one time step per call."
)
@contract_options
@click.option(
    "--compare",
    metavar="KEY=VALUE,...",
    help="NIR graphs: say what another meaning, such as preset=sinabs, would do differently.",
)
def command(
    path: Path,
    calib: Path | None,
    input_shape: str | None,
    axes: str,
    modules: tuple[str, ...],
    factory: str | None,
    form: str,
    partition: bool,
    floating: bool,
    timesteps: int | None,
    dt: float | None,
    dynamics: str | None,
    compare: str | None,
) -> None:
    """Show the graph of a bundle, of a graph file (.nir, .net), or of a model as captured."""
    from hsnn_compiler.bundle import is_bundle, read_bundle
    from hsnn_compiler.cli.errors import show_findings
    from hsnn_compiler.ir.text import to_text
    from hsnn_compiler.network import SUFFIXES, open_network

    if not path.exists():
        raise refuse("E0301", f"no such file or folder: {path}", suggestion="check the path and the working directory")
    if is_bundle(path) or path.is_dir():
        program = read_bundle(path)
        if partition:
            _print_partition(program)
            return
        graph = program.floating if floating else program.graph
    elif path.suffix in SUFFIXES:
        network = open_network(path, contract_of(dt, dynamics))
        show_findings(network.findings)
        graph = network.graph
    elif partition:
        raise refuse("E0202", "--partition is for bundles", suggestion="compile the model first: hsnn-compile MODEL")
    else:
        captured = capture_file(path, calib, input_shape, axes, modules, factory, timesteps)
        show_findings(captured.findings)
        graph = captured.graph
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
    if compare is not None:
        _compare(path, graph, dt, compare)


def _compare(path: Path, graph: Graph, dt: float | None, text: str) -> None:
    from hsnn_compiler.frontends.nir import compare
    from hsnn_compiler.network import open_network

    other = open_network(path, contract_of(dt, text)).graph
    lines = compare(graph, other)
    click.echo(f"with {text}:")
    for line in lines or ["nothing is different"]:
        click.echo(f"  {line}")


def _print_partition(program: Program) -> None:
    from hsnn_compiler.cli.show import console, print_table
    from hsnn_compiler.report.partition import tables

    out = console()
    for table in tables(program):
        print_table(out, table)


def _print(graph: Graph) -> None:
    from hsnn_compiler.cli.show import console, print_table
    from hsnn_compiler.report.graphs import to_table

    print_table(console(), to_table(graph))
