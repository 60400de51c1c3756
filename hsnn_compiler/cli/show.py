"""Tables and progress bars on a terminal: results to stdout, progress to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as RichTable
from rich.text import Text

from hsnn_compiler.report.table import Table, show

PIPE_WIDTH = 140  # not a terminal: wide enough that no table is folded


class _Console(Console):
    """Goes on when nobody reads any more: `compile ... | head` must still write its bundle."""

    def on_broken_pipe(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def console() -> Console:
    """Where results go. Into a pipe, tables are as wide as ``COLUMNS`` says, or never folded."""
    width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "0")) or PIPE_WIDTH
    return _Console(width=width, highlight=False, soft_wrap=False)


def print_table(out: Console, table: Table) -> None:
    """Print one table with its notes; nothing for an empty one."""
    if not table.rows:
        return
    rich = RichTable(
        title=table.title,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        header_style="dim",
        padding=(0, 2, 0, 0),
    )
    for i, column in enumerate(table.columns):
        rich.add_column(column, justify="right" if table.is_number(i) else "left", overflow="fold")
    for row in table.rows:
        rich.add_row(*(Text(show(cell)) for cell in row))
    out.print(rich)
    for note in table.notes:
        out.print(Text(f"  {note}", style="dim"))
    out.print()


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A function (what, done, total) that draws bars on a terminal and does nothing elsewhere."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda what, done, total: None
        return
    columns: list[Any] = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def update(what: str, done: int, total: int) -> None:
            name = what.partition(" | ")[0]  # behind it, what changes: the loss of a training
            if name not in tasks:
                tasks[name] = bars.add_task(what, total=total)
            bars.update(tasks[name], description=what, completed=done, total=total, visible=done < total)

        yield update
