"""Findings and typed errors: what is wrong, where, and what to try.

Every refusal is one or more `Finding`s with a stable code. The first two digits of
a code choose the exit status of the command line (``E04xx`` ends with status 4); the
text behind ``hsnn-compile explain CODE`` lies in ``hsnn_compiler/codes/CODE.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Source:
    """Where a node came from: module path in the user's model, and file:line if known."""

    module: str = ""
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return " at ".join(part for part in (self.module, place) if part)


@dataclass(frozen=True)
class Finding:
    """One thing to tell the user.

    Attributes:
        code: stable code; ``E`` stops the compilation, ``W`` warns, ``I`` informs.
        message: what was found, one sentence.
        node: name of the graph node, if any.
        source: where it is in the user's model.
        supported: what would have been accepted.
        suggestion: what to try.
    """

    code: str
    message: str
    node: str = ""
    source: Source = Source()
    supported: str = ""
    suggestion: str = ""

    @property
    def is_error(self) -> bool:
        """Whether this finding stops the compilation."""
        return self.code.startswith("E")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return asdict(self)

    def __str__(self) -> str:
        where = self.node
        origin = str(self.source)
        if origin and origin != where:
            where = f"{where} ({origin})" if where else origin
        lines = [f"{self.code} {where}: {self.message}" if where else f"{self.code} {self.message}"]
        if self.supported:
            lines.append(f"      supported: {self.supported}")
        if self.suggestion:
            lines.append(f"      try: {self.suggestion}")
        return "\n".join(lines)


class HsnnError(Exception):
    """A refusal: carries all findings at once and knows its exit status."""

    def __init__(self, findings: Finding | Iterable[Finding]) -> None:
        self.findings: Sequence[Finding] = (findings,) if isinstance(findings, Finding) else tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))

    @property
    def exit_code(self) -> int:
        """Exit status of the command line, taken from the first error's code."""
        first = next((f for f in self.findings if f.is_error), self.findings[0])
        return int(first.code[1:3])


def refuse(code: str, message: str, **where: Any) -> HsnnError:
    """Build (not raise) an error with a single finding: ``raise refuse("E0301", ...)``."""
    return HsnnError(Finding(code, message, **where))
