"""``hsnn-compile explain CODE``: the page behind a code."""

from __future__ import annotations

from importlib import resources

import click

from hsnn_compiler.diagnostics import refuse


@click.command("explain")
@click.argument("codes", nargs=-1, metavar="[CODE]...")
def command(codes: tuple[str, ...]) -> None:
    """Print what a code means, why it exists, and what to do. Without CODE, list all codes."""
    pages = resources.files("hsnn_compiler.codes")
    names = sorted(page.name.removesuffix(".md") for page in pages.iterdir() if page.name.endswith(".md"))
    if not codes:
        for name in names:
            title = pages.joinpath(f"{name}.md").read_text("utf-8").splitlines()[0].removeprefix("# ")
            click.echo(f"{name}  {title}")
        return
    wanted = [code.upper() for code in codes]
    unknown = [code for code in wanted if code not in names]
    if unknown:
        raise refuse("E0219", f"no code {', '.join(unknown)}", suggestion="hsnn-compile explain lists all codes")
    for number, code in enumerate(wanted):
        text = pages.joinpath(f"{code}.md").read_text("utf-8").strip()
        click.echo(("\n" if number else "") + f"{code}: " + text.removeprefix("# "))
