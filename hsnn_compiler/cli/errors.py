"""How the command line ends: findings on stderr, and an exit status.

0 ok, 1 internal error, 2 usage, 3 unreadable or unsafe input, 4 unsupported model, 5 does not fit the target,
6 verification failed, 7 optional part missing, 8 timed out, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence

import click

from hsnn_compiler.diagnostics import Finding, HsnnError

INTERRUPTED = 130


def run(command: click.Command, args: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    words = list(sys.argv[1:] if args is None else args)
    try:
        status = command.main(args=words, prog_name="hsnn-compile", standalone_mode=False)
    except HsnnError as error:
        show_findings(error.findings, as_json="--json" in words)
        return error.exit_code
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except SystemExit:
        return 0  # click's way to end when nobody reads its output any more
    except OSError as error:
        show_findings([Finding("E0207", f"{error.filename or 'a file'}: {error.strerror or error}")])
        return 2
    except Exception:
        return _internal_error()
    return status if isinstance(status, int) else 0  # click returns what a verb gave to ctx.exit


def show_findings(findings: Sequence[Finding], *, as_json: bool = False) -> None:
    """Print findings: to stderr for people, to stdout as JSON for programs."""
    if as_json:
        errors = sum(finding.is_error for finding in findings)
        click.echo(json.dumps({"errors": errors, "findings": [f.to_dict() for f in findings]}, indent=1))
        return
    for finding in findings:
        colour = "red" if finding.is_error else "yellow" if finding.code.startswith("W") else "cyan"
        head, *rest = str(finding).splitlines()
        code, _, message = head.partition(" ")
        click.echo(click.style(code, fg=colour, bold=True) + f" {message}", err=True, color=use_colour())
        for line in rest:
            click.echo(line, err=True)
    codes = sorted({finding.code for finding in findings})
    if codes:
        click.echo(f"more: hsnn-compile explain {' '.join(codes)}", err=True)


def use_colour() -> bool | None:
    """False where ``NO_COLOR`` asks for none; None lets the terminal decide."""
    return False if os.environ.get("NO_COLOR") else None


def _internal_error() -> int:
    """Keep the traceback in a file: people get one line and know what to send."""
    with tempfile.NamedTemporaryFile("w", prefix="hsnn-error-", suffix=".txt", delete=False) as file:
        file.write(traceback.format_exc())
    last = traceback.format_exc().strip().splitlines()[-1]
    click.echo(f"E0100 internal error: {last}\n      try: report it, with {file.name}", err=True)
    return 1
