"""``hsnn-compile targets``: chips and boards that can be compiled for, and where each limit comes from."""

from __future__ import annotations

import json
from dataclasses import asdict

import click


@click.command("targets")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(name: str | None, as_json: bool) -> None:
    """List chips and boards; with NAME, its limits with their sources, and how it runs each op."""
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
            Table(
                "Targets",
                ("name", "chip or board", "chips", "runs on"),
                [(t.name, t.title, t.chips, t.runtime) for t in targets],
            ),
        )
        out.print("limits and ops of one: hsnn-compile targets NAME")
        return
    from hsnn_compiler.ir.spec import table

    target = targets[0]
    rows = [(c.name, c.value, c.confidence, c.source) for c in target.constants.values()]
    notes = () if target.chips == 1 else ("Limits of chip and core hold for each chip.",)
    print_table(out, Table(target.title, ("limit", "value", "confidence", "source"), rows, notes))
    print_table(out, Table("Ops", ("op", "takes", "yields", f"on {target.family}"), table(target.family)))
