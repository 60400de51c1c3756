"""Runs pip in the environment that is running, for optional parts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from hsnn_compiler.diagnostics import HsnnError, refuse

PIP = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check")
_PIP_LINES = 6


def installed(names: Iterable[str]) -> dict[str, str]:
    """Versions of those that are there, by name."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def requirements(bounds: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """What is there already is required in exactly that version, so that pip leaves it alone."""
    return [f"{name}=={there[name]}" if name in there else name + bound for name, bound in bounds.items()]


def run_pip(command: Sequence[str], print_line: Callable[[str], None], code: str, what: str) -> None:
    """Run pip and pass on what it prints.

    Args:
        command: the whole command.
        print_line: called with every line.
        code: of the error where pip fails.
        what: is being installed, for the message.
    """
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            lines.append(line.rstrip())
            print_line(lines[-1])
    if pip.returncode != 0:
        raise failed(code, what, f"pip ended with status {pip.returncode}", lines)


def failed(code: str, what: str, reason: str, lines: Sequence[str]) -> HsnnError:
    """The error, with pip's last lines."""
    tail = "\n".join(f"      | {line}" for line in lines[-_PIP_LINES:])
    return refuse(code, f"{what} could not be installed: {reason}\n{tail}".rstrip())
