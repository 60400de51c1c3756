"""``hsnn-compile verify`` as people use it: what it prints, and the status it ends with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hsnn_compiler.bundle import read_bundle, write_bundle
from hsnn_compiler.cli.errors import run
from hsnn_compiler.cli.main import group
from hsnn_compiler.loading import load_model

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
MODEL, CALIB, TEST = DIGITS / "digits_direct.pt", DIGITS / "digits_calib.npz", DIGITS / "digits_test.npz"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "direct"
    assert run(group, [str(MODEL), "--calib", str(CALIB), "-o", str(folder)]) == 0
    return folder


def test_verified_bundle_ends_with_0(cli, bundle, tmp_path):
    words = ("--against", MODEL, "--data", TEST, "--calib", CALIB, "--limit", 60, "--alone", "--bisect")
    status, out, err = cli("verify", bundle, *words, "--plot", "waterfall.svg")
    assert status == 0, err
    for said in ("direct, T = 16, 60 samples", "map-direct-coding", "quantise: weights", "lif2", "lif_out",
                 "no stage departs beyond what its contract allows", "verified"):  # fmt: skip
        assert said in out, said
    assert err == ""
    assert (tmp_path / "waterfall.svg").read_text().startswith("<svg")


def test_json_holds_everything(cli, bundle):
    status, out, _ = cli("verify", bundle, "--against", MODEL, "--data", TEST, "--limit", 20, "--json")
    made = json.loads(out)
    assert status == 0
    assert made["ok"]
    assert made["samples"] == 20
    assert [finding["code"] for finding in made["findings"]] == ["W0605"]  # no --calib
    last = made["stages"][-1]
    assert set(last["layers"]) == {"lif1", "lif2", "lif3", "lif_out"}
    assert 0 < last["layers"]["lif2"]["rate"] < 1
    assert last["accuracy"] > 0.9


def test_data_without_labels_has_agreement_only(cli, bundle, tmp_path):
    np.save(tmp_path / "x.npy", np.load(TEST)["x"][:20])
    status, out, _ = cli("verify", bundle, "--against", MODEL, "--data", "x.npy", "--calib", CALIB, "--json")
    assert status == 0
    last = json.loads(out)["stages"][-1]
    assert last["accuracy"] is None
    assert last["agreement"] > 0.9


def test_a_bundle_with_another_graph_ends_with_6(cli, bundle, tmp_path):
    """The hashes fit, as after an honest write; the graph is not what compiling gives."""
    program = read_bundle(bundle)
    quant = program.graph["lif2"].quant
    program.graph.update("lif2", quant=type(quant)(**{**vars(quant), "vth": quant.vth + 40}))
    write_bundle(program, tmp_path / "other")
    words = ("--against", MODEL, "--data", TEST, "--calib", CALIB, "--limit", 20)
    status, out, err = cli("verify", "other", *words, "--bisect")
    assert status == 6
    assert "NOT verified" in out
    assert "E0602 lif2" in err
    assert "vth" in err
    assert "first departure: program: lif2, neuron" in out


def test_another_model_ends_with_6_and_is_said(cli, bundle, tmp_path):
    module = load_model(MODEL).module
    with torch.no_grad():
        next(p for name, p in module.named_parameters() if "conv2" in name and p.dim() > 1)[0] *= 2
    torch.save(module, tmp_path / "other.pt")
    words = ("--data", TEST, "--calib", CALIB, "--limit", 20)
    status, _, err = cli("verify", bundle, "--against", "other.pt", *words)
    assert status == 6
    assert "W0607 other.pt is not the file" in err
    assert "E0602 conv2" in err


def test_lava_agrees_with_the_integers(cli, bundle, lava):
    words = ("--against", MODEL, "--data", TEST, "--calib", CALIB, "--limit", 10, "--lava", 1)
    status, out, err = cli("verify", bundle, *words)
    assert status == 0, err
    assert "Lava: 1 samples compared, every spike, u and v" in out


def test_a_difference_from_lava_ends_with_6(cli, bundle, monkeypatch):
    """Lava's part is played by an integer run in which one spike was flipped."""
    from hsnn_compiler.program import Program

    simulate = Program.simulate

    def played(self, x, backend="reference", record=(), **options):
        options.pop("deadline_s", None)
        result = simulate(self, x, "reference", record, **options)
        if backend == "lava":
            result.trace["lif3", "s"][0, 4, 2, 1, 1] ^= 1
        return result

    monkeypatch.setattr(Program, "simulate", played)
    words = ("--against", MODEL, "--data", TEST, "--calib", CALIB, "--limit", 10, "--lava", 2)
    status, _, err = cli("verify", bundle, *words)
    assert status == 6
    assert "E0603 lif3" in err
    assert "sample 0 at step 4" in err


def test_another_kind_of_picture_is_refused(cli, bundle):
    words = ("--against", MODEL, "--data", TEST, "--plot", "waterfall.png")
    status, _, err = cli("verify", bundle, *words)
    assert status == 2
    assert "E0207" in err


def test_a_missing_folder_for_the_plot_is_said_first(cli, bundle):
    words = ("--against", MODEL, "--data", TEST, "--plot", "nowhere/waterfall.svg")
    status, _, err = cli("verify", bundle, *words)
    assert status == 2
    assert "E0207" in err
