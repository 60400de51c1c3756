"""``hsnn-compile targets``: what can be compiled for, and where each limit comes from."""

from __future__ import annotations

import json
from dataclasses import asdict

import click


@click.command("targets")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(name: str | None, as_json: bool) -> None:
    """List targets; with NAME, its limits with their sources, and how it runs each op."""
    from hsnn_compiler.targets import TARGETS, load_target

    targets = [load_target(target) for target in ([name] if name else TARGETS)]
    if as_json:
        click.echo(json.dumps([asdict(target) for target in targets], indent=1))
        return

    from hsnn_compiler.cli.show import console, print_table
    from hsnn_compiler.report.table import Table

    out = console()
    if name is None:
        print_table(
            out,
            Table("Targets", ("name", "chip", "runs on"), [(t.name, t.title, t.runtime) for t in targets]),
        )
        out.print("limits and ops of one: hsnn-compile targets NAME")
        return
    from hsnn_compiler.ir.spec import table

    rows = [(c.name, c.value, c.confidence, c.source) for c in targets[0].constants.values()]
    print_table(out, Table(targets[0].title, ("limit", "value", "confidence", "source"), rows))
    print_table(out, Table("Ops", ("op", "takes", "yields", f"on {name}"), table()))
