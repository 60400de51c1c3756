"""The table of docs/frontends.md: what every neuron of a library was seen to do in the tests."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "frontends.md"


class Row(NamedTuple):
    library: str
    neuron: str
    options: str
    equal: str
    note: str


ROWS: dict[tuple[str, str, str], Row] = {}


def row(library: str, neuron: str, options: str, equal: bool | str, note: str = "") -> None:
    """Note what a test has found: equal or not, or ``"refused"``."""
    answer = equal if isinstance(equal, str) else "yes" if equal else "no"
    ROWS[library, neuron, options] = Row(library, neuron, options, answer, note)


HEADER = ("neuron", "options", "equal", "note")


def up_to_date(library: str, wanted: Iterable[tuple[str, str]], header: Iterable[str] = HEADER) -> None:
    """Compare the table of the page with the rows of this run, or write it where HSNN_WRITE_DOCS=1.

    `wanted` are the neurons and options of all rows: where not all of their tests ran, there is nothing to compare.
    """
    rows = sorted(found for key, found in ROWS.items() if key[0] == library)
    if {found[1:3] for found in rows} != set(wanted):
        pytest.skip("only a part of the table ran")
    table = [f"| {' | '.join(header)} |", "|---|---|---|---|"]
    table += [f"| {found.neuron} | {found.options or 'default'} | {found.equal} | {found.note} |" for found in rows]
    before, start, rest = PAGE.read_text("utf-8").partition(f"<!-- table: {library} -->\n")
    assert start, f"docs/frontends.md has no place for the table of {library}"
    _, end, after = rest.partition("<!-- end -->")
    page = before + start + "\n".join(table) + "\n" + end + after
    if os.environ.get("HSNN_WRITE_DOCS") == "1":
        PAGE.write_text(page, "utf-8")
    assert page == PAGE.read_text("utf-8"), "run the tests with HSNN_WRITE_DOCS=1"
