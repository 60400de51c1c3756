"""Target profiles: what a chip can hold, every constant with its source."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import resources
from typing import Any

from hsnn_compiler.diagnostics import refuse

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TARGETS = ("loihi2",)
SECTIONS = ("formats", "chip", "core")


@dataclass(frozen=True)
class Constant:
    """One number of a profile.

    Attributes:
        name: e.g. ``chip.neurons``.
        value: the number.
        source: where it comes from.
        confidence: ``high``, ``medium`` or ``low``.
    """

    name: str
    value: int
    source: str
    confidence: str


@dataclass(frozen=True)
class Target:
    """A chip.

    Attributes:
        name: as in ``--target``.
        title: for people.
        runtime: what runs the emitted program.
        constants: by name.
    """

    name: str
    title: str
    runtime: str
    constants: dict[str, Constant]

    def __getitem__(self, name: str) -> int:
        """Value of a constant."""
        return self.constants[name].value


def load_target(name: str) -> Target:
    """Read a profile. E0201 for a name that does not exist."""
    if name not in TARGETS:
        raise refuse("E0201", f"no target named {name!r}", supported=", ".join(TARGETS))
    data: dict[str, Any] = tomllib.loads(resources.files(__package__).joinpath(f"{name}.toml").read_text("utf-8"))
    constants = {
        f"{section}.{key}": Constant(f"{section}.{key}", **entry)
        for section in SECTIONS
        for key, entry in data[section].items()
    }
    return Target(data["name"], data["title"], data["runtime"], constants)
