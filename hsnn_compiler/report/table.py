"""A table as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Rows and columns, and what to say about them.

    Attributes:
        title: one or a few words.
        columns: headings.
        rows: one cell per column; numbers stay numbers.
        notes: sentences under the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    notes: tuple[str, ...] = ()

    def to_dicts(self) -> dict[str, Any]:
        """Rows as dictionaries, for JSON."""
        return {
            "rows": [dict(zip(self.columns, row, strict=True)) for row in self.rows],
            "notes": list(self.notes),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Table:
        """The table that `dataclasses.asdict` took apart."""
        rows = [tuple(row) for row in plain["rows"]]
        return cls(plain["title"], tuple(plain["columns"]), rows, tuple(plain["notes"]))

    def is_number(self, column: int) -> bool:
        """Whether a column holds numbers (and is set flush right)."""
        return any(isinstance(row[column], (int, float)) for row in self.rows)


def show(cell: Cell) -> str:
    """A cell as text: thousands separated, four significant digits."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:.4g}" if isinstance(cell, float) else cell
