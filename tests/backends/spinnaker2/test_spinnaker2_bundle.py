"""A bundle for SpiNNaker 2: compiled end to end, and its script run with a stand-in for py-spinnaker2."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from value_graphs import Net

import hsnn_compiler as hc
from hsnn_compiler.backends.spinnaker2.lower import lower
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Graph
from hsnn_compiler.ir.ops import Decode, Encode, ReLU
from hsnn_compiler.passes.spinnaker2.chip import chip_needs
from hsnn_compiler.program import Program
from hsnn_compiler.targets import load_target

FAKE = Path(__file__).with_name("fake_spinnaker2.py")


def network() -> Graph:
    """Two turns, with convolutions, a skip, biases, a leaky read-out, and layers of values on the host."""
    net = Net((1, 4, 4), timesteps=5, seed=3).encode().conv("c0", 3, padding=1).neuron("n0", v_init=0.3)
    net.conv("c1", 3, padding=1).neuron("n1", reset="zero").conv("c2", 2, stride=1)
    net.conv("skip", 2, 3, "n0").neuron("n2", "c2", "skip").flatten()
    net.add("decode0", Decode("mean")).add("relu", ReLU()).linear("host", 6).add("events", Encode("bitplane"))
    net.linear("w3", 6).neuron("n3", threshold=[0.3])
    return net.linear("fc", 3).done("mean")


def samples() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 3, (20, 1, 4, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def program() -> Program:
    return hc.compile(network(), target="spinnaker2", calibration=samples())


def test_the_same_input_gives_the_same_bytes(program: Program, tmp_path: Path) -> None:
    first = program.save(tmp_path / "a")
    again = hc.compile(network(), target="spinnaker2", calibration=samples()).save(tmp_path / "b")
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert {"netlist.json", "arrays.npz", "cells.npz", "network.py", "host/host0.onnx"} <= {str(p) for p in files}
    for name in files:
        assert (first / name).read_bytes() == (again / name).read_bytes(), name
    assert "Lava" not in (first / "report.md").read_text()


def test_it_says_everywhere_that_it_is_untested(program: Program, tmp_path: Path) -> None:
    folder = program.save(tmp_path / "a")
    assert "W0579" in [finding.code for finding in program.findings]
    for name in ("network.py", "report.md", "netlist.json", "manifest.json"):
        assert "not yet tested against py-spinnaker2" in (folder / name).read_text().replace("Not yet", "not yet"), name
    marked = json.loads((folder / "netlist.json").read_text())["mac_array"]
    assert [layer["node"] for layer in marked] == ["c0", "host", "fc"]
    assert [layer["macs"] for layer in marked] == [300, 6 * 8, 3 * 6]


def test_the_script_gives_the_reference_on_a_stand_in(program: Program, tmp_path: Path) -> None:
    folder = program.save(tmp_path / "a")
    command = [sys.executable, str(FAKE), "network.py", "--simulator", "chip", "--samples", "3", "--out", "results.npz"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "differs from the reference by at most" in done.stdout
    results = np.load(folder / "results.npz")["y"]
    assert program.example is not None
    expected = np.asarray(program.run(program.example[:3]))
    assert expected.std() > 0
    np.testing.assert_allclose(results, expected, atol=1e-5)
    script = (folder / "network.py").read_text()
    for word in ("lif_conv2d", "lif_no_delay", "reset_by_subtraction", "reset_to_v_reset", "relays"):
        assert word in script


def test_cores_in_the_report_are_those_of_the_script(program: Program) -> None:
    needs = {need.name: need for need in chip_needs(program.graph, load_target("spinnaker2"))}
    parts = lower(program.graph).populations
    assert {need.model for need in needs.values()} == {"spike_list", "lif_no_delay", "lif_conv2d"}
    for name, need in needs.items():
        assert (need.model, need.per_core, need.neurons) == (parts[name].model, parts[name].per_core, parts[name].size)


def test_a_bundle_read_again_is_the_program(program: Program, tmp_path: Path) -> None:
    loaded = hc.load(program.save(tmp_path / "a"))
    x = samples()[:4]
    np.testing.assert_array_equal(loaded.run(x), program.run(x))
    assert loaded.family == "spinnaker2"
    result, costs = loaded.count(x)
    assert costs is not None
    assert costs.spikes == sum(result.spikes[name] for name in ("n0", "n1", "n2", "n3")) / 4


def test_reset_by_subtraction_is_the_default_and_force_zero_is_none() -> None:
    relu = Net((6,), timesteps=None).linear("w0", 8).add("relu0", ReLU()).linear("w1", 8).add("relu1", ReLU())
    graph = relu.linear("w2", 3).done()
    x = np.random.default_rng(0).uniform(0, 1, (20, 6)).astype(np.float32)
    program = hc.compile(graph, target="spinnaker2", calibration=x, timesteps=8)
    resets = {node.dynamics.reset for node in program.graph if node.on_chip and node.dynamics is not None}
    assert resets == {"subtract"}
    with pytest.raises(HsnnError) as error:
        hc.compile(graph, target="spinnaker2", calibration=x, reset="force-zero")
    assert [finding.code for finding in error.value.findings] == ["E0217"]


def test_verify_replays_the_stages(program: Program) -> None:
    waterfall = program.verify(network(), samples(), calibration=samples(), allowed_drop=100)
    assert waterfall.ok
    assert "program" in [outcome.name for outcome in waterfall.outcomes]
