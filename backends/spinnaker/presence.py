"""Whether sPyNNaker and NEST are there, asked without importing them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from hsnn_compiler.diagnostics import HsnnError, refuse

INSTALL_COMMAND = "hsnn-compile doctor --install spinnaker"
# What `doctor` looks for: distribution, module.
PARTS = (("sPyNNaker", "spynnaker"), ("nest-simulator", "nest"), ("PyNN", "pyNN"))


@dataclass(frozen=True)
class PartStatus:
    """What is known of one part in this environment.

    Attributes:
        name: of the distribution.
        version: or an empty string where it is not installed.
        importable: whether its module is found; nothing is run.
        reason: why it is not usable, or an empty string.
    """

    name: str
    version: str
    importable: bool
    reason: str = ""


def part_status(name: str) -> PartStatus:
    """Look for one of `PARTS`."""
    module = dict(PARTS)[name]
    try:
        found = version(name)
    except PackageNotFoundError:
        return PartStatus(name, "", False, f"{name} is not installed")
    if importlib.util.find_spec(module) is None:
        return PartStatus(name, found, False, f"its module {module} is not found")
    return PartStatus(name, found, True)


def check_spynnaker() -> str:
    """Version of sPyNNaker. E0706 where it is not installed."""
    found = part_status("sPyNNaker")
    if not found.importable:
        raise spinnaker_missing(found.reason)
    return found.version


def spinnaker_missing(reason: str) -> HsnnError:
    """The error that says how to get sPyNNaker and NEST."""
    return refuse("E0706", reason, suggestion=INSTALL_COMMAND)
