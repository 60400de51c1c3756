"""Models whose input is spikes over time, compiled: the host sends them to the chip."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np
import pytest
from value_graphs import Net

import hsnn_compiler as hc
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Coding, Graph, TensorType
from hsnn_compiler.reference.float_executor import FloatExecutor

STEPS = 6


def network(decode: str | None = "sum", *, pooled: bool = False, flat: bool = False) -> Graph:
    """As a capture with a time axis leaves it."""
    net = Net((2, 6, 6), timesteps=STEPS, seed=3)
    net.graph.update("x", type=TensorType((2, 6, 6), Coding.CURRENT))
    if pooled:
        net.pool("pool")
    if not flat:
        net.conv("c", 4, padding=1).neuron("n", threshold=np.full((1, 1, 1), 0.4), reset="zero")
    net.flatten().linear("fc", 5).neuron("out", threshold=[0.1])
    return net.done(decode)


def events(samples: int = 20, steps: int = STEPS) -> np.ndarray:
    return (np.random.default_rng(3).random((samples, steps, 2, 6, 6)) < 0.3).astype(np.float32)


@pytest.mark.parametrize("form", [{}, {"pooled": True}, {"flat": True}])
def test_spikes_go_to_the_first_synapses(form: dict[str, bool]) -> None:
    graph, x = network(**form), events()
    program = hc.compile(graph, calibration=x)
    np.testing.assert_array_equal(program.simulate(x, "float").output, FloatExecutor(graph).run(x).output)
    integers = program.simulate(x)
    assert integers.output.sum() > 50
    assert np.abs(integers.output - program.simulate(x, "float").output).mean() < 0.2
    first = program.graph["fc" if form.get("flat") else "c"]
    assert first.on_chip
    assert first.quant is not None


@pytest.mark.parametrize("flat", [False, True])
def test_the_same_on_lava_from_a_bundle(flat: bool, tmp_path: Path, lava: None) -> None:
    x = events()
    program = hc.compile(network(flat=flat), calibration=x)
    program.save(tmp_path / "bundle")
    again = hc.load(tmp_path / "bundle")
    record = [(name, variable) for name in program.populations for variable in "suv"]
    ran, integers = again.simulate(x[:3], "lava", record), program.simulate(x[:3], record=record)
    for key, trace in integers.trace.items():
        np.testing.assert_array_equal(ran.trace[key], trace)
    np.testing.assert_array_equal(ran.output, integers.output)
    assert integers.output.any()
    np.testing.assert_array_equal(np.load(tmp_path / "bundle" / "example.npz")["x"], x[:2])


def refusal(graph: Graph, **more: object) -> str:
    with pytest.raises(HsnnError) as error:
        hc.compile(graph, **more)  # type: ignore[arg-type]
    (finding,) = error.value.findings
    assert finding.code == "E0437"
    return finding.message


def test_what_is_no_series_of_spikes_is_refused() -> None:
    assert "not all 0 or 1" in refusal(network(), calibration=0.5 * events())
    assert "no data" in refusal(network())
    assert "so has the result" in refusal(network(None), calibration=events())
    assert "7 steps do not fit 6" in refusal(network(), calibration=events(steps=7))
    assert "6 steps do not fit 8" in refusal(network(), calibration=events(), timesteps=8)


def test_data_that_the_synapses_would_take_for_something_else_are_refused() -> None:
    program = hc.compile(network(), calibration=events())
    for wrong in (2 * events(), events(steps=5)):
        with pytest.raises(HsnnError, match="E0330"):
            program.simulate(wrong)


def test_the_chips_part_in_a_file_takes_spikes(tmp_path: Path) -> None:
    program = hc.compile(network(), calibration=events())
    program.save(tmp_path / "bundle")
    chip = nir.read(tmp_path / "bundle" / "graphs" / "chip.nir")
    assert ("input_x", "c") in [(a.replace(".", "_"), b) for a, b in chip.edges]
