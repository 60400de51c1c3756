"""``simulate`` and ``inspect`` on graph files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from net_files import CUBA, write_net

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def loop_file(tmp_path: Path) -> Path:
    """Two leaky neurons with recurrent weights."""
    one = np.ones(2)
    nodes = {
        "input": nir.Input(np.array([2])),
        "fc": nir.Affine(np.eye(2), np.zeros(2)),
        "lif": nir.LIF(tau=5e-3 * one, r=50 * one, v_leak=0 * one, v_threshold=one, v_reset=0 * one),
        "rec": nir.Affine(np.array([[0, 2.0], [-2, 0]]), np.array([0.5, 0])),
        "output": nir.Output(np.array([2])),
    }
    edges = [("input", "fc"), ("fc", "lif"), ("lif", "rec"), ("rec", "lif"), ("lif", "output")]
    nir.write(tmp_path / "loop.nir", nir.NIRGraph(nodes, edges))
    x = (np.random.default_rng(0).random((3, 40, 2)) < 0.5).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x, y=np.array([0, 1, 0]))
    np.save(tmp_path / "one.npy", x[0])
    return tmp_path / "loop.nir"


@pytest.fixture
def net_file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    shapes = ((3, 4), (2, 3))
    layers = [
        {"type": "dense", "shape": [n], "inFeatures": m, "outFeatures": n, "neuron": CUBA,
         "weight": rng.integers(-60, 120, (n, m)).astype(np.float32)}
        for n, m in shapes
    ]  # fmt: skip
    np.save(tmp_path / "spikes.npy", (rng.random((30, 4)) < 0.4).astype(np.uint8))
    return write_net(tmp_path / "small.net", *layers)


def test_what_was_chosen_is_said_and_can_be_decided(cli: Cli, loop_file: Path) -> None:
    status, out, err = cli("simulate", loop_file, "--data", "x.npz")
    assert status == 0
    assert "accuracy" in out
    assert "T = 40" in out
    assert "taken for seconds, dt = 0.0001 s" in err
    assert "reset=zero" in err
    status, out, err = cli("simulate", loop_file, "--data", "x.npz", "--dynamics", "preset=norse", "--dt", "1e-4")
    assert (status, err) == (0, "")


def test_dynamics_change_what_is_computed(cli: Cli, loop_file: Path) -> None:
    def spikes(*words: str) -> float:
        status, out, _ = cli("simulate", loop_file, "--data", "x.npz", "--json", *words)
        assert status == 0
        summary: dict[str, Any] = json.loads(out)
        assert summary["samples"] == 3
        return float(summary["spikes_per_sample"])

    counts = [
        spikes(),
        spikes("--dt", "5e-4"),
        spikes("--dynamics", "max_spikes=0,reset=subtract,gain=1.6"),
        spikes("--dynamics", "refractory=3,gain=2.5"),
        spikes("--dynamics", "input_delay=30"),
    ]
    assert len(set(counts)) == len(counts), counts


def test_record_and_out(cli: Cli, loop_file: Path, tmp_path: Path) -> None:
    status, out, _ = cli("simulate", loop_file, "--data", "one.npy", "--record", "lif:v,fc", "--out", "t.npz")
    assert status == 0
    assert "trace written" in out
    trace = np.load(tmp_path / "t.npz")
    assert {name: trace[name].shape for name in trace} == {
        "lif.v": (1, 40, 2), "fc.s": (1, 40, 2), "output.output": (1, 40, 2),
    }  # fmt: skip
    cli("simulate", loop_file, "--data", "x.npz", "--limit", "2", "--out", "all.npz")
    assert sorted(np.load(tmp_path / "all.npz")) == ["lif.s", "lif.u", "lif.v", "output.output"]
    assert np.load(tmp_path / "all.npz")["lif.s"].shape == (2, 40, 2)
    status, out, _ = cli("simulate", loop_file, "--data", "one.npy", "--record", "all")
    assert "Recorded" in out


def test_how_it_was_run(cli: Cli, loop_file: Path) -> None:
    _, out, _ = cli("simulate", loop_file, "--data", "x.npz", "-v")
    assert "torch: step by step, on a loop" in out


def test_reset_interval(cli: Cli, loop_file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "same.npy", np.tile(np.load(tmp_path / "one.npy")[:10], (3, 1)))
    words = ("simulate", loop_file, "--data", "same.npy", "--out", "t.npz", "--dynamics", "late=loops")
    cli(*words)
    apart = np.load(tmp_path / "t.npz")["lif.v"].reshape(3, 10, 2)
    cli(*words, "--reset-interval", "10")
    reset = np.load(tmp_path / "t.npz")["lif.v"].reshape(3, 10, 2)
    assert np.abs(apart[0] - apart[1]).max() > 0.1
    np.testing.assert_array_equal(apart[0], reset[0])
    # What the recurrent weights still deliver after a reset is all that differs.
    assert np.abs(reset[1] - reset[2]).max() < np.abs(apart[0] - apart[1]).max()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--dynamics", "resett=zero,reset=nil"), "E0223"),
        (("--record", "nobody:v"), "E0204"),
        (("--dynamics", "preset=nobody"), "E0223"),
        (("--dynamics", "integrator=exact,reset_at=crossing,max_spikes=0"), "E0210"),
    ],
)
def test_refused(cli: Cli, loop_file: Path, words: tuple[str, ...], code: str) -> None:
    status, out, err = cli("simulate", loop_file, "--data", "x.npz", *words)
    assert status == 2
    assert code in err
    assert not out


def test_real_numbers_become_integers_for_the_data(cli: Cli, loop_file: Path, tmp_path: Path) -> None:
    words = ("simulate", loop_file, "--data", "x.npz", "--backend", "reference", "--dynamics", "preset=norse,gain=1")
    status, out, err = cli(*words, "--dt", "1e-4", "--out", "t.npz")
    assert status == 0
    assert "I0457 lif: 1 is " in err
    assert "threshold 1 is " in err
    assert "Against --backend float" in out
    assert np.load(tmp_path / "t.npz")["lif.v"].dtype.kind == "i"
    status, out, _ = cli(*words, "--dt", "1e-4", "--json")
    summary: dict[str, Any] = json.loads(out)
    assert [finding["code"] for finding in summary["findings"]] == ["I0457"]
    off = summary["against_float"]["populations"]["lif"]
    assert summary["against_float"]["samples"] == summary["samples"] == 3
    assert off["differ"] <= 0.05 * off["real"]
    assert off["real"] > 10
    assert off["integers"] == summary["spikes_per_sample"] * 3


def test_a_step_the_chip_does_not_have_is_refused(cli: Cli, loop_file: Path) -> None:
    words = ("simulate", loop_file, "--data", "x.npz", "--backend", "reference", "--dynamics")
    status, out, err = cli(*words, "refractory=2,max_spikes=0")
    assert status == 4
    assert err.count("E0453 lif") == 2
    assert "--dynamics refractory=0" in err
    assert not out


def test_real_numbers_on_lava(cli: Cli, loop_file: Path, lava: None) -> None:
    """Norse's forward edges take no time; Lava's synapses do."""
    words = ("simulate", loop_file, "--data", "one.npy", "--dynamics", "preset=norse,gain=1", "--dt", "1e-4")
    status, out, _ = cli(*words, "--backend", "lava", "--compare", "--json")
    assert status == 0
    summary = json.loads(out)
    assert summary["identical_to_reference"]
    assert summary["spikes_per_sample"] > 0
    assert summary["timesteps"] == 40


def test_all_that_is_wrong_with_dynamics_is_said_at_once(cli: Cli, loop_file: Path) -> None:
    _, _, err = cli("simulate", loop_file, "--data", "x.npz", "--dynamics", "resett=zero,reset=nil,dt=1e-4")
    assert err.count("E0223 ") == 2
    assert "use one of zero, value, subtract, none" in err


def test_net(cli: Cli, net_file: Path, tmp_path: Path) -> None:
    status, out, _ = cli("simulate", net_file, "--data", "spikes.npy", "--out", "t.npz", "--json")
    assert status == 0
    assert json.loads(out)["backend"] == "reference"
    trace = np.load(tmp_path / "t.npz")
    assert trace["layer1.v"].dtype.kind == "i"
    assert trace["layer0.s"].any()
    status, out, _ = cli("simulate", net_file, "--data", "spikes.npy", "--backend", "float")
    assert status == 0
    status, _, err = cli("simulate", net_file, "--data", "spikes.npy", "--dt", "1")
    assert status == 2
    assert "E0225" in err


def test_net_on_lava(cli: Cli, net_file: Path, lava: None) -> None:
    status, out, _ = cli("simulate", net_file, "--data", "spikes.npy", "--backend", "lava", "--compare", "--json")
    assert status == 0
    summary = json.loads(out)
    assert summary["identical_to_reference"]
    assert summary["spikes_per_sample"] > 0


def test_inspect_shows_and_compares_contracts(cli: Cli, loop_file: Path) -> None:
    status, out, _ = cli("inspect", loop_file, "--dynamics", "preset=norse", "--dt", "1e-4")
    assert status == 0
    assert "v = 0.98 v + 0.02 I; v > 1: v = 0" in out
    assert "rec +1" in out
    status, out, _ = cli("inspect", loop_file, "--dt", "1e-4", "--compare", "reset=subtract,input_delay=2")
    assert "lif: reset is zero, subtract in the second" in out
    assert "input -> fc: at once, 2 steps later in the second" in out
    _, out, _ = cli("inspect", loop_file, "--dt", "1e-4", "--compare", "reset=zero")
    assert "nothing is different" in out


def test_a_step_longer_than_a_time_constant_is_warned_about(cli: Cli, loop_file: Path) -> None:
    _, _, err = cli("inspect", loop_file, "--dt", "0.01")
    assert "W0465" in err
    _, _, err = cli("inspect", loop_file, "--dt", "0.01", "--dynamics", "integrator=exact")
    assert "W0465" not in err


def test_a_bundle_says_all_of_it(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    status, _, err = cli("simulate", tmp_path / "bundle", "--data", "x.npy")
    assert status == 3
    assert "E0340" in err
