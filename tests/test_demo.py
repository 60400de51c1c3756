"""``make demo``, with fewer images on Lava: what it prints is what it promises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[1] / "examples" / "digits" / "demo.py"


@pytest.mark.timeout(300)
def test_demo(lava, tmp_path):
    run = subprocess.run(
        [sys.executable, str(DEMO), "--lava-images", "2", "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    rows = {
        line[: line.index("  ", 3)].strip() if "  " in line[3:] else line: re.split(r"\s{2,}", line.strip())[1:]
        for line in run.stdout.splitlines()
    }
    for signal in ("spikes identical to Lava", "u and v identical to Lava"):
        assert rows[signal] == ["yes", "yes"], run.stdout
    for row in ("float SNN", "integer program"):
        assert all(float(percent.split()[0].rstrip("%")) >= 98 for percent in rows[row]), run.stdout
    assert (tmp_path / "out" / "digits_cnn.loihi2" / "network.py").is_file()
