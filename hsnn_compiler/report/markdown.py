"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hsnn_compiler import __version__
from hsnn_compiler.report.table import Table, show

if TYPE_CHECKING:
    from hsnn_compiler.program import Program


def to_markdown(program: Program, tables: Sequence[Table]) -> str:
    """The report of a bundle."""
    parts = [f"# {program.graph.name} on {program.target}", _origin(program)]
    for table in tables:
        parts += [f"## {table.title}", table_text(table)] if table.rows else []
        parts += [f"- {note}" for note in table.notes]
    if program.findings:
        parts.append("## Findings")
        parts += [f"- {finding}" for finding in program.findings]
    return "\n\n".join(parts).replace("\n\n- ", "\n- ") + "\n"


def _origin(program: Program) -> str:
    """Where the program came from and what was asked for."""
    lines = [f"Compiled by hsnn-compiler {__version__}, {program.timesteps} time steps per sample.", ""]
    facts = {**program.source, **program.options}
    lines += [f"- {name}: {value}" for name, value in facts.items() if value not in (None, {}, "")]
    return "\n".join(lines)


def table_text(table: Table) -> str:
    """One table."""
    rule = ["---:" if table.is_number(i) else "---" for i in range(len(table.columns))]
    rows = [[show(cell).replace("|", "\\|") for cell in row] for row in table.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(table.columns), rule, *rows])
