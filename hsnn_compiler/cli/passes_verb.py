"""``hsnn-compile passes``: what the compiler does to a graph."""

from __future__ import annotations

import dataclasses
import inspect
import json

import click


@click.command("passes")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(name: str | None, as_json: bool) -> None:
    """List passes in the order of the default pipeline; with NAME, what one computes, with its equation."""
    from hsnn_compiler.diagnostics import refuse
    from hsnn_compiler.registry import MORE_PASSES, PASSES, load_pass

    known = {**PASSES, **MORE_PASSES}
    if name is not None and name not in known:
        raise refuse("E0212", f"no pass named {name!r}", supported=", ".join(known))
    classes = [load_pass(item) for item in ([name] if name else PASSES)]
    options = [{field.name: field.default for field in dataclasses.fields(cls)} for cls in classes]
    if as_json:
        entries = [
            {
                "name": cls.name,
                "contract": cls.contract,
                "summary": cls.summary(),
                "options": defaults,
                "layer_options": cls.layer_options,
            }
            for cls, defaults in zip(classes, options, strict=True)
        ]
        click.echo(json.dumps(entries, indent=1))
        return

    from hsnn_compiler.cli.show import console, print_table
    from hsnn_compiler.report.table import Table

    out = console()
    rows = [
        (
            cls.name,
            cls.contract,
            ", ".join(f"{key}={value}" for key, value in defaults.items()),
            ", ".join(cls.layer_options),
            cls.summary(),
        )
        for cls, defaults in zip(classes, options, strict=True)
    ]
    print_table(out, Table("Passes", ("pass", "contract", "options", "--layer keys", "what it does"), rows))
    if name:
        out.print(inspect.getdoc(classes[0]) or "", markup=False)
    else:
        out.print(
            "details of one: hsnn-compile passes NAME      choose: -p name,name{option=value},...",
            markup=False,
        )
