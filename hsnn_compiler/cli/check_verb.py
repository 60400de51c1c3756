"""``hsnn-compile check MODEL``: everything that stands in a model's way, at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hsnn_compiler.cli.compile_verb import make_options
from hsnn_compiler.cli.errors import show_findings
from hsnn_compiler.cli.options import capture_file, compile_options, model_options
from hsnn_compiler.diagnostics import Finding, HsnnError


@click.command("check")
@click.argument("model", type=click.Path(path_type=Path))
@model_options
@compile_options
@click.option("--json", "as_json", is_flag=True, help="Print findings as JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    model: Path,
    calib: Path | None,
    input_shape: str | None,
    axes: str,
    modules: tuple[str, ...],
    factory: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Try the whole compilation of MODEL, write nothing, and list all findings.

    Ends with 0 if the model compiles, else with the status of the first error.
    """
    from hsnn_compiler.driver import lower
    from hsnn_compiler.passes.base import count

    findings: Sequence[Finding]
    status = 0
    try:
        chosen = make_options(**options)
        captured = capture_file(model, calib, input_shape, axes, modules, factory, options["timesteps"])
        program = lower(captured.graph, chosen, captured.calibration, source=captured.source, labels=captured.labels)
        findings = (*captured.findings, *program.findings)
    except HsnnError as error:
        findings, status = error.findings, error.exit_code
    errors = sum(finding.is_error for finding in findings)
    if as_json:
        click.echo(
            json.dumps(
                {"compiles": status == 0, "errors": errors, "findings": [f.to_dict() for f in findings]},
                indent=1,
            )
        )
    else:
        show_findings(findings)
        click.echo(
            f"{model.name}: {'compiles' if status == 0 else 'does not compile'}, {count(errors, 'error')}, "
            f"{count(len(findings) - errors, 'other finding')}"
        )
    ctx.exit(status)
