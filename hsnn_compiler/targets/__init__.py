"""Target profiles: what a chip, or a board of several, can hold, every constant with its source.

The profile of a board extends that of its chip and says only what differs.
"""

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

TARGETS = ("loihi2", "loihi2-kapoho-point", "loihi2-hala-point", "spinnaker", "spinnaker2")
SECTIONS = ("system", "formats", "chip", "core", "energy", "time", "link")


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
    value: float
    source: str
    confidence: str


@dataclass(frozen=True)
class Target:
    """A chip, or a board of several chips of one kind.

    Attributes:
        name: as in ``--target``.
        family: name of the chip's own profile; what runs natively depends on it alone.
        title: for people.
        runtime: what runs the emitted program.
        constants: by name; those of ``chip`` and ``core`` hold for each chip.
    """

    name: str
    family: str
    title: str
    runtime: str
    constants: dict[str, Constant]

    def __getitem__(self, name: str) -> int:
        """Value of a constant that counts something."""
        return int(self.constants[name].value)

    @property
    def chips(self) -> int:
        """Number of chips."""
        return self["system.chips"]


def load_target(name: str) -> Target:
    """Read a profile. E0201 for a name that does not exist."""
    if name not in TARGETS:
        raise refuse(
            "E0201", f"no target named {name!r}", supported=", ".join(TARGETS), suggestion="hsnn-compile targets"
        )
    data: dict[str, Any] = tomllib.loads(resources.files(__package__).joinpath(f"{name}.toml").read_text("utf-8"))
    base = load_target(data["extends"]) if "extends" in data else None
    own = {
        f"{section}.{key}": Constant(f"{section}.{key}", **entry)
        for section in SECTIONS
        for key, entry in data.get(section, {}).items()
    }
    return Target(
        name=data["name"],
        family=base.family if base else data["name"],
        title=data["title"],
        runtime=data["runtime"] if base is None else base.runtime,
        constants=own if base is None else {**base.constants, **own},
    )


def relatives(target: Target) -> list[Target]:
    """All targets made of the same chip, this one included, the one with the fewest chips first."""
    known = [load_target(name) for name in TARGETS]
    return sorted((other for other in known if other.family == target.family), key=lambda other: other.chips)
