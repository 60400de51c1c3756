"""Programs for SpiNNaker on NEST and in fixed point, with their host's stages, against the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hsnn_compiler
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.loading import load_model
from hsnn_compiler.program import Program

DIGITS = Path(__file__).parents[3] / "examples" / "digits"
STEPS = 6  # of fewer samples than elsewhere, to be quick; benchmarks/spinnaker.py has the whole test set


def compiled(name: str, **options: object) -> Program:
    model = load_model(DIGITS / f"{name}.pt").module
    x = np.load(DIGITS / "digits_calib.npz")["x"].astype(np.float32)[:32]
    return hsnn_compiler.compile(model, target="spinnaker", calibration=x, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def cnn() -> Program:
    """Converted, reset to zero."""
    return compiled("digits_cnn", timesteps=STEPS)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    data = np.load(DIGITS / "digits_test.npz")
    return data["x"].astype(np.float32), data["y"]


def firing(program: Program) -> list[tuple[str, str]]:
    return [(name, "s") for name in program.populations]


def test_fifty_digits_on_nest_are_the_reference(nest: None, cnn: Program, digits: tuple[np.ndarray, ...]) -> None:
    x = digits[0][:50]
    record = [*firing(cnn), *((name, "v") for name in cnn.populations[:2])]
    exact = cnn.simulate(x, "reference", record)
    seen: list[tuple[int, int]] = []
    found = cnn.simulate(x, "nest", record, progress=lambda *done: seen.append(done))
    assert seen[-1] == (50, 50)
    assert sum(exact.spikes.values()) > 10_000
    assert found.spikes == {name: count for name, count in exact.spikes.items() if name in found.spikes}
    for name, variable in record:
        if variable == "s":
            np.testing.assert_array_equal(found.trace[name, "s"], exact.trace[name, "s"])
        else:
            np.testing.assert_allclose(found.trace[name, "v"], exact.trace[name, "v"], rtol=0, atol=1e-11)
    np.testing.assert_allclose(found.output, exact.output, rtol=0, atol=1e-12)


def test_the_netlist_in_float64_is_the_reference(cnn: Program, digits: tuple[np.ndarray, ...]) -> None:
    x, record = digits[0][:70], firing(cnn)
    exact, found = cnn.simulate(x, "reference", record), cnn.simulate(x, "spinnaker-float", record, batch_size=32)
    for key in record:
        np.testing.assert_array_equal(found.trace[key], exact.trace[key])
    np.testing.assert_allclose(found.output, exact.output, rtol=0, atol=1e-12)


def test_fixed_point_costs_less_than_a_point(cnn: Program, digits: tuple[np.ndarray, ...]) -> None:
    x, y = digits
    exact, found = cnn.simulate(x, "reference"), cnn.simulate(x, "spinnaker-fixed")
    assert exact.accuracy(y) > 0.9
    assert abs(found.accuracy(y) - exact.accuracy(y)) <= 0.01
    assert not any(found.saturated.values())
    assert (found.output != exact.output).any()  # it is another arithmetic


def test_turns_with_the_host_between_them(nest: None, digits: tuple[np.ndarray, ...]) -> None:
    """The hybrid network: two turns of the chip or more."""
    program = compiled("digits_has", reset="force-zero")
    x, record = digits[0][:10], firing(program)
    exact = program.simulate(x, "reference", record)
    for backend in ("spinnaker-float", "nest"):
        found = program.simulate(x, backend, record)
        for key in record:
            np.testing.assert_array_equal(found.trace[key], exact.trace[key])
        np.testing.assert_allclose(found.output, exact.output, rtol=0, atol=1e-6)


def test_what_there_is_not_cannot_be_recorded(cnn: Program, digits: tuple[np.ndarray, ...]) -> None:
    with pytest.raises(HsnnError, match="E0204 nothing to record under "):
        cnn.simulate(digits[0][:1], "spinnaker-fixed", [(cnn.populations[0], "u")])


def test_without_a_board_there_is_a_way(
    spynnaker: None, cnn: Program, digits: tuple[np.ndarray, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HsnnError, match="E0708 no SpiNNaker board is configured here"):
        cnn.simulate(digits[0][:1], "spinnaker")
