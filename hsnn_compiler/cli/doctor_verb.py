"""``hsnn-compile doctor``: which optional parts work."""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import click

from hsnn_compiler import __version__
from hsnn_compiler.targets import TARGETS

REQUIRED = ("torch", "numpy", "nir", "networkx", "h5py", "rich", "click")
INSTALLABLE = ("lava", "spinnaker")


@click.command("doctor")
@click.option("--install", type=click.Choice(INSTALLABLE), help="Install an optional part into this environment.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_context
def command(ctx: click.Context, install: str | None, as_json: bool) -> None:
    """Tell what works here; --install lava puts Lava in, --install spinnaker sPyNNaker and NEST.

    Ends with 7 if an optional part is missing.
    """
    if install == "lava":
        from hsnn_compiler.backends.lava.install import install_lava

        install_lava(lambda line: click.echo(line, err=as_json))
    if install == "spinnaker":
        from hsnn_compiler.backends.spinnaker.install import install_spinnaker

        install_spinnaker(lambda line: click.echo(line, err=as_json))
    from hsnn_compiler.backends.lava.presence import INSTALL_COMMAND, lava_status
    from hsnn_compiler.backends.spinnaker import presence as spinnaker

    lava = lava_status()
    parts = [(name, _version(name), _version(name) is not None, "") for name in REQUIRED]
    parts.append(("lava-nc", lava.version or None, lava.importable, lava.reason))
    boards = [spinnaker.part_status(name) for name, _ in spinnaker.PARTS]
    parts += [(part.name, part.version or None, part.importable, part.reason) for part in boards]
    if as_json:
        rows = [{"name": n, "version": v, "works": ok, "reason": why} for n, v, ok, why in parts]
        click.echo(
            json.dumps(
                {
                    "hsnn-compiler": __version__,
                    "python": platform.python_version(),
                    "parts": rows,
                    "targets": list(TARGETS),
                },
                indent=1,
            )
        )
    else:
        click.echo(f"hsnn-compiler {__version__}, Python {platform.python_version()}, {sys.platform}")
        for name, found, ok, why in parts:
            mark = click.style("ok     ", fg="green") if ok else click.style("missing", fg="red")
            click.echo(f"  {mark} {name:<14} {found or '-':<10} {why}".rstrip())
        click.echo(f"targets: {', '.join(TARGETS)}")
        if not lava.importable:
            click.echo(f"Lava runs compiled programs (simulate --backend lava). To get it: {INSTALL_COMMAND}")
        if not all(part.importable for part in boards):
            click.echo(f"sPyNNaker and NEST map and run for SpiNNaker. To get them: {spinnaker.INSTALL_COMMAND}")
    ctx.exit(0 if all(ok for _, _, ok, _ in parts) else 7)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
