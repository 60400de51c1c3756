"""Pictures of a training: everything logged is in them, and the same history gives the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hsnn_compiler.report.epochs_plot import draw_epochs
from hsnn_compiler.training.history import Epoch, History


def history(*names: str) -> History:
    first = Epoch(0, None, None, 0.9, 0.5, logged=dict.fromkeys(names, 0.6))
    later = [Epoch(n, 0.5 / n, 0.8, 0.4 / n, 0.9, 1.0, dict.fromkeys(names, 0.6 + n / 10)) for n in (1, 2)]
    return History([first, *later], best=2)


@pytest.mark.parametrize("names", [("cosine a", "cosine b"), ()])
def test_a_history_becomes_a_picture(tmp_path: Path, names: tuple[str, ...]) -> None:
    pytest.importorskip("matplotlib")
    files = [tmp_path / "first.svg", tmp_path / "second.svg"]
    for path in files:
        draw_epochs(history(*names), "a title", path)
    first, second = (path.read_bytes() for path in files)
    assert first == second
    # Texts are outlines in the file, each with its source as a comment.
    for text in (*names, "a title", "accuracy, held out", "loss, held out"):
        assert f"<!-- {text} -->" in first.decode()
