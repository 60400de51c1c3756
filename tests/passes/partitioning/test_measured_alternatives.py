"""The accuracy in the table of alternatives of a network with its own time steps: that of the compiled program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hsnn_compiler as hc
from hsnn_compiler.driver import capture_model
from hsnn_compiler.loading import load_model
from hsnn_compiler.passes.partitioning.choosing import HELD_OUT
from hsnn_compiler.program import Program
from hsnn_compiler.reference.float_executor import FloatExecutor

DIGITS = Path(__file__).parents[3] / "examples" / "digits"
COARSE = {name: {"bits": "2"} for name in ("stem.snn.0", "stage1.snn.branch.0", "stage1.snn.branch.3")}
"""Weights of two bits on the spiking paths: enough to change predictions, where these are on the chip."""


def alternatives(program: Program) -> dict[str, tuple[int, float]]:
    """By name, nodes on the chip and accuracy; the chosen one as ``"chosen"``."""
    (table,) = (table for stage in program.stages for table in stage.tables if table.title == "Alternatives")
    number, accuracy = table.columns.index("nodes on the chip"), table.columns.index("accuracy %")
    found = {}
    for row in table.rows:
        names = str(row[0]).removesuffix(" (chosen)").split(", ") + ["chosen"] * str(row[0]).endswith("(chosen)")
        found |= dict.fromkeys(names, (row[number], row[accuracy]))
    return found


def test_accuracy_is_what_the_integers_predict() -> None:
    calibration = np.load(DIGITS / "digits_calib.npz")["x"][:256]
    model = load_model(DIGITS / "digits_has.pt").module.eval()
    graph, _ = capture_model(model, calibration, "has")
    held = np.arange(len(calibration)) % HELD_OUT == HELD_OUT - 1
    x = calibration[held]
    (own,) = FloatExecutor(graph).run(x).outputs.values()

    rows = alternatives(hc.compile(graph, calibration=calibration, layers=COARSE))
    # the same weights on the host keep all their bits
    assert rows["all on the host"] == (0, 100.0)
    assert rows["chosen"][1] < 100

    program = hc.compile(graph, calibration=calibration[~held], layers=COARSE)
    (found,) = program.simulate(x).outputs.values()
    assert rows["chosen"][1] == pytest.approx(100 * np.mean(found.argmax(1) == own.argmax(1)))
