"""``hsnn-compile``: verbs are imported only when they are used, so that ``--help`` is quick.

``hsnn-compile MODEL ...`` without a verb compiles.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from typing import Any

import click

from hsnn_compiler import __version__

VERBS = {
    "compile": "Compile a model (the bare form: hsnn-compile MODEL).",
    "check": "List everything that stands in a model's way; write nothing.",
    "inspect": "Show the graph of a model, a bundle or a graph file.",
    "simulate": "Run a bundle, a graph file (.nir, .net) or a model on a reference executor, Lava or NEST.",
    "sweep": "Compile with several options (time steps, encodings, ...): accuracy, spikes and energy of each.",
    "verify": "Replay data through every stage from the model to a bundle: what each cost.",
    "targets": "Show targets and their limits, each with its source.",
    "passes": "Show the passes, their options and their contracts.",
    "explain": "Explain an error or warning code.",
    "doctor": "Tell which optional parts work, and install them.",
}
EPILOG = """
Examples:

\b
  hsnn-compile model.pt --target loihi2 --calib data.npz
  hsnn-compile simulate model.loihi2 --data test.npz --backend lava --limit 20
  hsnn-compile explain E0401
"""


class Verbs(click.Group):
    """A group whose commands lie in modules of the same name; an unknown first word is a model to compile."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order of use."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"hsnn_compiler.cli.{cmd_name}_verb")
        command: click.Command = module.command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        """``hsnn-compile model.pt`` means ``hsnn-compile compile model.pt``."""
        if args[0] not in VERBS:
            near = difflib.get_close_matches(args[0], VERBS, n=1)
            if near and not os.path.exists(args[0]):  # noqa: PTH110 (pathlib is not needed for anything else)
                raise click.UsageError(f"no file and no verb {args[0]!r}; did you mean {near[0]!r}?")
            args = ["compile", *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let options of the bare form come before the model."""
        if args and args[0].startswith("-") and args[0] not in ("--help", "-h", "--version"):
            args = ["compile", *args]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=Verbs,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    subcommand_metavar="MODEL [OPTIONS] | VERB [ARGS]...",
)
@click.version_option(__version__, prog_name="hsnn-compile")
def group() -> None:
    """Compile trained PyTorch networks to neuromorphic hardware, and prove they still compute the same.

    MODEL is what torch.save wrote: a whole module, or a state_dict with --model. `hsnn-compile
    compile --help` lists the options of the bare form.
    """


def main() -> None:
    """Entry point: typed errors become messages and exit statuses, never tracebacks."""
    from hsnn_compiler.cli.errors import run

    # Results may be piped into `head`; that is not an error.
    try:
        status = run(group)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)
