"""``hsnn-compile sweep`` and ``--timesteps auto`` as people use them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
MODEL, CALIB, TEST = DIGITS / "digits_direct.pt", DIGITS / "digits_calib.npz", DIGITS / "digits_test.npz"
SWEEP = ("sweep", MODEL, "--data", TEST, "--calib", CALIB, "--limit", 50)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_sweep_prints_a_table_and_writes_csv_and_a_picture(cli, tmp_path, suffix):
    pytest.importorskip("matplotlib")
    status, out, err = cli(*SWEEP, "--timesteps", "4,8", "-o", "s.csv", "--plot", f"s.{suffix}")
    assert status == 0, err
    for said in ("Accuracy of 50 samples", "integers %", "synaptic operations", "~ energy (uJ)", "an estimate",
                 "Loihi 1 (none is public for Loihi 2)", "written: s.csv", f"written: s.{suffix}"):  # fmt: skip
        assert said in out, said
    assert (tmp_path / "s.csv").read_text().count("\n") == 3
    start = (tmp_path / f"s.{suffix}").read_bytes()
    assert start.startswith(b"\x89PNG" if suffix == "png" else b"<?xml")
    assert len(start) > 5000
    cli(*SWEEP, "--timesteps", "4,8", "--plot", f"again.{suffix}")
    assert (tmp_path / f"again.{suffix}").read_bytes() == start


def test_sweep_as_json(cli):
    status, out, _ = cli(*SWEEP, "--timesteps", "16,8", "--json")
    made = json.loads(out)
    assert status == 0
    assert (made["model"], made["target"], made["samples"], made["measured"]) == (
        "digits_direct", "loihi2", 50, "accuracy")  # fmt: skip
    assert [point["timesteps"] for point in made["points"]] == [16, 8]
    assert all(point["score"] > 0.9 for point in made["points"])
    assert made["points"][1]["warnings"] == ["W0440"]  # other steps than it was trained with
    assert "confidence low" in made["energy"]


def test_a_sweep_in_which_all_is_refused_fails_with_the_first_status(cli):
    status, out, _ = cli(*SWEEP, "--timesteps", "4,8", "--layer", "nothing:bits=4")
    assert status == 2
    assert out.count("E0211") >= 2


def test_data_without_calibration_and_labels(cli, tmp_path):
    torch.save(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)), "net.pt")
    np.save("x.npy", np.random.default_rng(0).random((9, 4), np.float32))
    status, out, err = cli("sweep", "net.pt", "--data", "x.npy", "--timesteps", "2", "--json")
    assert status == 0, err
    made = json.loads(out)
    assert (made["measured"], made["source"]) == ("agreement with the source", 1)
    assert made["points"][0]["warnings"] == ["W0214"]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--timesteps", "1,x"), 2, "whole numbers"),
        (("--timesteps", ","), 2, "no values"),
        (("--timesteps", "0,1"), 2, "E0217"),
        (("--encode", "morse"), 2, "E0217"),
        (("--plot", "s.gif"), 2, "E0207"),
        (("-o", "nowhere/s.csv"), 2, "E0207"),
        (("--target", "abacus"), 2, "E0201"),
    ],
)
def test_what_cannot_be_swept_is_said_before_any_work(cli, words, status, said):
    code, out, err = cli(*SWEEP, *words)
    assert code == status
    assert said in err
    assert not out


def test_without_matplotlib_the_picture_is_refused_first(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, _, err = cli(*SWEEP, "--timesteps", "4", "--plot", "s.png")
    assert status == 7
    assert "E0703" in err
    assert "pip install matplotlib" in err


def test_auto_chooses_steps_and_says_why(cli, tmp_path):
    status, out, err = cli(MODEL, "--calib", CALIB, "--timesteps", "auto", "--accuracy-drop", 3, "-o", "made")
    assert status == 0, err
    for said in ("Choice of T", "the model's own are 16", "within 3 points of the source's accuracy", "~ energy (uJ)"):
        assert said in out, said
    chosen = json.loads((tmp_path / "made" / "manifest.json").read_text())["timesteps"]
    assert 1 < chosen < 16
    status, out, err = cli("simulate", "made", "--data", TEST)
    assert status == 0, err
    for said in (f"T = {chosen}", "synaptic operations", "membrane updates", "uJ per inference, an estimate"):
        assert said in out, said
    status, out, _ = cli("verify", "made", "--against", MODEL, "--data", TEST, "--calib", CALIB, "--limit", 20)
    assert status == 0
    assert "verified" in out


def test_auto_as_json_holds_the_curve(cli):
    status, out, _ = cli(MODEL, "--calib", CALIB, "--timesteps", "auto", "--accuracy-drop", 5, "--dry-run", "--json")
    made = json.loads(out)
    assert status == 0
    assert made["choice"]["timesteps"] == made["timesteps"]
    assert made["choice"]["held_out"] == 256
    assert [p["timesteps"] for p in made["choice"]["points"]][:2] == [1, 2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--timesteps", "8", "--accuracy-drop", "1"), "goes with --timesteps auto"),
        (("--timesteps", "many"), "neither a whole number nor 'auto'"),
        (("--timesteps", "auto", "--accuracy-drop", "-1"), "range"),
    ],
)
def test_usage_of_auto(cli, words, said):
    status, _, err = cli(MODEL, "--calib", CALIB, *words)
    assert status == 2
    assert said in err


def test_auto_without_calibration_data_is_refused(cli):
    status, _, err = cli(MODEL, "--input-shape", "1,8,8", "--timesteps", "auto")
    assert status == 2
    assert "E0226" in err


def test_simulate_counts_what_an_inference_costs(cli):
    cli(MODEL, "--calib", CALIB, "--timesteps", "8", "-o", "made")
    status, out, _ = cli("simulate", "made", "--data", TEST, "--limit", 30, "--json")
    made = json.loads(out)
    assert status == 0
    counted = made["per_inference"]
    assert counted["spikes"] == made["spikes_per_sample"]
    assert counted["membrane_updates"] == 8 * (1024 + 512 + 512 + 10)
    assert made["energy_estimate_joules"] == pytest.approx(
        23.6e-12 * counted["synaptic_operations"] + 81e-12 * counted["membrane_updates"]
    )
    assert "Loihi 1" in made["energy_estimate"]
    # A model is no program for a chip: no energy is made up.
    status, out, _ = cli("simulate", MODEL, "--data", TEST, "--limit", 30, "--json")
    assert status == 0
    assert "energy_estimate_joules" not in json.loads(out)
