from __future__ import annotations

import pytest

from hsnn_compiler.cli.errors import run
from hsnn_compiler.cli.main import group


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Run the command line in an empty folder; returns (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)  # tables as they are in a pipe

    def call(*words):
        status = run(group, [str(word) for word in words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call
