"""The pages of ``hsnn-compile explain``. (That every code has one: test_architecture.)"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {page.stem: page for page in (ROOT / "hsnn_compiler" / "codes").glob("*.md")}


@pytest.mark.parametrize("code", sorted(PAGES))
def test_a_page_says_what_why_and_what_to_do(code: str) -> None:
    text = PAGES[code].read_text(encoding="utf-8")
    assert text.startswith("# ")
    parts = re.split(r"^## (.+)\n", text, flags=re.M)
    assert parts[1::2] == ["What happened", "Why", "What to do"]
    assert all(part.strip() for part in parts)
    assert len(text.splitlines()) <= 40


def test_the_first_two_digits_are_an_exit_status_of_the_command_line() -> None:
    assert {code[1:3] for code in PAGES} <= {"01", "02", "03", "04", "05", "06", "07", "08"}
