"""The shipped models with their input as events, and with neurons that fire once: what that costs on real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import hsnn_compiler as hc
from hsnn_compiler.data import load_arrays
from hsnn_compiler.loading import load_model
from hsnn_compiler.passes.pipeline import DEFAULT_PIPELINE

DIGITS = Path(__file__).parents[1] / "examples" / "digits"


@pytest.fixture(scope="module")
def test_set():
    return load_arrays(DIGITS / "digits_test.npz")


def compiled(name: str, mapping: str = "exact", **options) -> hc.Program:
    pipeline = DEFAULT_PIPELINE.replace("to-events", f"to-events{{mapping={mapping}}}")
    calibration = load_arrays(DIGITS / "digits_calib.npz").x[:128]
    return hc.compile(load_model(DIGITS / f"{name}.pt").module, calibration=calibration, pipeline=pipeline, **options)


def predictions(program: hc.Program, test_set, backend: str) -> np.ndarray:
    return program.simulate(test_set.x, backend).predictions()


def test_first_neurons_on_the_host_lose_nothing(test_set):
    program = compiled("digits_direct", encode="host")
    with torch.no_grad():
        model = load_model(DIGITS / "digits_direct.pt").module
        expected = model(torch.from_numpy(test_set.x)).argmax(1).numpy()
    assert [node.name for node in program.graph if node.is_spiking and not node.on_chip] == ["lif1"]
    np.testing.assert_array_equal(predictions(program, test_set, "float"), expected)
    assert (predictions(program, test_set, "reference") == expected).mean() >= 0.985


@pytest.mark.parametrize(
    ("encode", "timesteps", "points"), [("bitplane", 8, 1), ("bitplane", 16, 0.3), ("ttfs", 16, 0)]
)
def test_mapped_events_lose_little(test_set, encode, timesteps, points):
    direct = compiled("digits_direct", timesteps=timesteps)
    events = compiled("digits_direct", encode=encode, timesteps=timesteps)
    assert events.latency == direct.latency + timesteps + 1
    losses = []
    for backend in ("float", "reference"):
        right = [100 * (predictions(program, test_set, backend) == test_set.y).mean() for program in (direct, events)]
        losses.append(right[0] - right[1])
    assert losses[0] <= points
    assert losses[1] <= points + 0.6
    titles = [table.title for stage in events.stages for table in stage.tables]
    assert titles == ["Events instead of a current: before and after mapping"]


def test_statistics_bring_back_what_unmapped_events_lose(test_set):
    """One spike per pixel, driving the neurons as it comes: hardly anything is left unless the layers are mapped."""
    got = {}
    for mapping in ("none", "statistics"):
        program = compiled("digits_direct", mapping, encode="ttfs", timesteps=8)
        assert "W0474" in [finding.code for finding in program.findings]
        got[mapping] = 100 * (predictions(program, test_set, "reference") == test_set.y).mean()
    assert got["none"] < 30
    assert got["statistics"] > 80


def test_neurons_that_fire_once_lose_nothing_at_eight_steps(test_set):
    program = compiled("digits_cnn", coding="ttfs", encode="ttfs", timesteps=8)
    populations = [node.name for node in program.graph if node.kind == "FirstSpike"]
    assert len(populations) == 4
    for backend in ("float", "reference"):
        assert (predictions(program, test_set, backend) == test_set.y).mean() >= 0.985
    fired = program.simulate(test_set.x[:50], record=populations).trace
    assert all(trace.sum(1).max() == 1 for trace in fired.values())
    made = program.verify(load_model(DIGITS / "digits_cnn.pt").module, test_set.x[:60], test_set.y[:60])
    assert made.ok
