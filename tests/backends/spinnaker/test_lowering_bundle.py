"""A bundle for SpiNNaker: its files, and ``network.py``, which stands alone."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from value_graphs import Net

import hsnn_compiler as hc
from hsnn_compiler.backends.spinnaker.netlist import Netlist
from hsnn_compiler.ir import Graph
from hsnn_compiler.ir.ops import Decode, Encode, ReLU
from hsnn_compiler.program import Program


def network() -> Graph:
    """Two turns, with a convolution, a skip, biases, and a leaky read-out."""
    net = Net((1, 4, 4), timesteps=5, seed=3).encode().conv("c0", 3, padding=1).neuron("n0", reset="zero", v_init=0.3)
    net.conv("c1", 3, padding=1).neuron("n1", reset="zero", v_init=0.3).conv("c2", 2)
    net.conv("skip", 2, 3, "n0").neuron("n2", "c2", "skip", reset="zero").flatten()
    net.add("decode0", Decode("mean")).add("relu", ReLU()).linear("host", 6).add("events", Encode("bitplane"))
    net.linear("w3", 6).neuron("n3", reset="zero", threshold=[0.3])
    return net.linear("fc", 3).done("mean")


def samples() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 3, (20, 1, 4, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def program() -> Program:
    return hc.compile(network(), target="spinnaker", calibration=samples())


def test_the_same_input_gives_the_same_bytes(program: Program, tmp_path: Path):
    first = program.save(tmp_path / "a")
    again = hc.compile(network(), target="spinnaker", calibration=samples()).save(tmp_path / "b")
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    names = {str(path) for path in files}
    assert {"netlist.json", "arrays.npz", "network.py", "spynnaker.cfg", "host/host0.onnx", "report.md"} <= names
    assert not any("lava" in name for name in names)
    for name in files:
        assert (first / name).read_bytes() == (again / name).read_bytes(), name
    assert "Lava" not in (first / "report.md").read_text()
    assert "Loihi" not in (first / "network.py").read_text()


def test_a_bundle_read_again_is_the_program(program: Program, tmp_path: Path):
    loaded = hc.load(program.save(tmp_path / "a"))
    x = samples()[:4]
    np.testing.assert_array_equal(loaded.run(x), program.run(x))
    assert loaded.family == "spinnaker"
    assert len(Netlist.load(tmp_path / "a").turns) == 2


def test_verify_replays_the_stages(program: Program):
    waterfall = program.verify(network(), samples(), calibration=samples())
    assert waterfall.ok
    assert "program" in [outcome.name for outcome in waterfall.outcomes]


@pytest.mark.skipif(find_spec("nest") is None, reason="NEST is not installed")
def test_the_script_gives_the_reference_on_nest(program: Program, tmp_path: Path):
    folder = program.save(tmp_path / "a")
    command = [sys.executable, "network.py", "--simulator", "nest", "--out", "results.npz"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "differs from the reference by at most" in done.stdout
    results = np.load(folder / "results.npz")["y"]
    assert program.example is not None
    expected = program.run(program.example)
    assert np.asarray(expected).std() > 0
    np.testing.assert_allclose(results, expected, atol=1e-5)
