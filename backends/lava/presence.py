"""Whether Lava is there, asked without importing it.

Importing Lava sets the start method of ``multiprocessing`` for the whole process.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from hsnn_compiler.diagnostics import HsnnError, refuse

INSTALL_COMMAND = "hsnn-compile doctor --install lava"
# What has to be importable for Lava to be: itself, and what it imports at run time.
LAVA_MODULES = ("lava", "asteval", "networkx", "numpy", "scipy", "sklearn")
_IMPORT = "from hsnn_compiler.backends.lava import hsnn_lava"
_IMPORT_S = 120.0


@dataclass(frozen=True)
class LavaStatus:
    """What is known of Lava in this environment.

    Attributes:
        installed: whether lava-nc is installed.
        version: its version, or an empty string.
        importable: whether a fresh interpreter can import it.
        reason: why it is not usable, or an empty string.
    """

    installed: bool
    version: str = ""
    importable: bool = False
    reason: str = ""


def lava_version() -> str | None:
    """Version of lava-nc, or None where it is not installed."""
    try:
        return version("lava-nc")
    except PackageNotFoundError:
        return None


def lava_missing(reason: str) -> HsnnError:
    """The error that says how to get Lava."""
    return refuse("E0701", reason, suggestion=INSTALL_COMMAND)


def lava_status() -> LavaStatus:
    """Look for lava-nc and try it in a child process (takes a second or so)."""
    found = lava_version()
    if found is None:
        return LavaStatus(installed=False, reason="lava-nc is not installed")
    try:
        trial = subprocess.run(
            [sys.executable, "-c", _IMPORT], capture_output=True, text=True, timeout=_IMPORT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return LavaStatus(True, found, reason=f"importing it took longer than {_IMPORT_S:g} s")
    if trial.returncode != 0:
        lines = trial.stderr.strip().splitlines() or [f"status {trial.returncode}"]
        return LavaStatus(True, found, reason=f"importing it failed: {lines[-1]}")
    return LavaStatus(True, found, importable=True)
