"""Chips and boards on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hsnn_compiler.targets import TARGETS

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
CALIB = DIGITS / "digits_calib.npz"


def test_all_are_listed(cli):
    status, out, _ = cli("targets")
    assert status == 0
    for name, chips in zip(TARGETS, ("1", "8", "1,152", "48", "1"), strict=True):
        (line,) = [line for line in out.splitlines() if line.split()[:1] == [name]]
        assert f" {chips} " in line
    assert [target["name"] for target in json.loads(cli("targets", "--json")[1])] == list(TARGETS)
    for words in (("compile", "--help"), ("doctor",)):
        said = " ".join(cli(*words)[1].split())
        assert all(name in said for name in TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_a_board_shows_the_limits_of_its_chips(cli, name):
    status, out, _ = cli("targets", name)
    assert status == 0
    assert "system.chips" in out
    said = {"spinnaker": "SpiNNMachine", "spinnaker2": "s2_nir.py"}
    assert said.get(name, "lava/proc/lif/models.py") in out
    assert f"on {name.partition('-')[0]}" in out
    assert ("hold for each chip" in out) == (name not in ("loihi2", "spinnaker2"))


def test_a_board_can_be_compiled_for(cli, tmp_path):
    board = "loihi2-kapoho-point"
    status, out, err = cli(DIGITS / "digits_cnn.pt", "--target", board, "--calib", CALIB, "--timesteps", "4")
    assert status == 0, err
    said = " ".join(out.split())
    assert "Against Kapoho Point (8 Intel Loihi 2 chips)" in said
    assert "1 of 8 chips are used" in said
    manifest = json.loads((tmp_path / f"digits_cnn.{board}" / "manifest.json").read_text())
    assert manifest["target"] == board
    (chip,) = manifest["chips"]
    report = json.loads((tmp_path / f"digits_cnn.{board}" / "report.json").read_text())
    assert report["Chips"]["rows"][0]["cores"] == sum(part["cores"] for part in chip)
    assert cli("check", DIGITS / "digits_cnn.pt", "--target", board, "--calib", CALIB)[0] == 0


def test_an_unknown_one_lists_all(cli):
    status, _, err = cli("x.pt", "--target", "kapoho", "--input-shape", "3")
    assert status == 2
    said = " ".join(err.split())
    assert all(name in said for name in TARGETS)
