"""The digits on SpiNNaker 2's integers: all 360 test images, against float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hsnn_compiler as hc
from hsnn_compiler.loading import load_model

DIGITS = Path(__file__).parents[3] / "examples" / "digits"


@pytest.mark.parametrize(
    ("model", "options", "floor", "convolutions"),
    [
        ("digits_cnn.pt", {"timesteps": 16}, 99.0, 2),
        ("digits_direct.pt", {}, 98.0, 2),
    ],
)
def test_accuracy_is_that_of_float(model: str, options: dict[str, int], floor: float, convolutions: int) -> None:
    calibration = np.load(DIGITS / "digits_calib.npz")["x"]
    test = np.load(DIGITS / "digits_test.npz")
    program = hc.compile(load_model(DIGITS / model).module, target="spinnaker2", calibration=calibration, **options)
    found, real = (program.simulate(test["x"], backend).output.argmax(-1) for backend in ("reference", "float"))
    accuracy, without = (100 * (predicted == test["y"]).mean() for predicted in (found, real))
    assert accuracy >= floor
    assert abs(accuracy - without) <= 1
    assert (found == real).mean() > 0.99
    (table,) = [table for stage in program.stages for table in stage.tables if table.title == "int8 weights"]
    assert all(0 < row[-1] < 2 for row in table.rows)
    chip = program.stages[-1].notes
    assert any(note.startswith("stay convolutions") and note.count(",") == convolutions - 1 for note in chip)
