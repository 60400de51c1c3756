"""The command line as people use it: what it prints, writes and returns."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from hsnn_compiler.cli.errors import run
from hsnn_compiler.cli.main import VERBS, group
from hsnn_compiler.ir import storage
from hsnn_compiler.ir.records import graphs_equal
from hsnn_compiler.ir.text import arrays_of, parse

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
CALIB, TEST = str(DIGITS / "digits_calib.npz"), str(DIGITS / "digits_test.npz")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "direct"
    assert run(group, [str(DIGITS / "digits_direct.pt"), "--calib", CALIB, "-o", str(folder)]) == 0
    return folder


def test_bare_form_compiles_and_says_what_it_did(cli, tmp_path):
    status, out, err = cli(DIGITS / "digits_cnn.pt", "--target", "loihi2", "--calib", CALIB, "--timesteps", "8")
    assert status == 0, err
    for said in ("35,402 parameters", "256 samples of digits_calib.npz", "Host and chip", "custom microcode",
                 "Passes", "folded 4 batch normalisations", "Quantised weights", "Quantised neurons",
                 "Against one Intel Loihi 2 chip", "1,000,000", "network.py",
                 "hsnn-compile simulate digits_cnn.loihi2 --data"):  # fmt: skip
        assert said in out, said
    manifest = json.loads((tmp_path / "digits_cnn.loihi2" / "manifest.json").read_text())
    assert manifest["timesteps"] == 8
    assert manifest["latency"] == 4


def test_next_command_it_names_works(cli, bundle):
    status, out, err = cli("simulate", bundle, "--data", TEST)
    assert status == 0, err
    accuracy = float(re.search(r"accuracy\s+([\d.]+)%", out).group(1))
    assert accuracy >= 97.8


def test_without_calibration_it_says_what_it_assumed(cli):
    status, _, err = cli(DIGITS / "digits_cnn.pt", "--input-shape", "1,8,8", "--dry-run")
    assert status == 0
    assert "W0214" in err
    assert "uniform noise" in err


def test_dry_run_writes_nothing(cli, tmp_path):
    status, out, _ = cli(DIGITS / "digits_direct.pt", "--calib", CALIB, "--dry-run")
    assert status == 0
    assert "nothing was written" in out
    assert list(tmp_path.iterdir()) == []


def test_dump_ir_writes_a_graph_after_every_pass_that_parses_back(cli, tmp_path, bundle):
    status, _, _ = cli(DIGITS / "digits_direct.pt", "--calib", CALIB, "--dry-run", "--dump-ir", "ir")
    files = sorted((tmp_path / "ir").iterdir())
    assert status == 0
    assert [file.name for file in files][:3] == ["00-captured.txt", "01-remove-noops.txt", "02-lower-spike-logic.txt"]
    final = storage.read(bundle / "graphs" / "program.nir")
    assert graphs_equal(parse(files[-1].read_text(), arrays_of(final)), final)


def test_pipeline_option_chooses_passes(cli, tmp_path):
    status, out, _ = cli(
        DIGITS / "digits_cnn.pt", "--calib", CALIB, "-p", "remove-noops,fold-batchnorm", "--dry-run", "--dump-ir", "ir"
    )
    assert status == 0
    assert "partition" not in out
    assert len(list((tmp_path / "ir").iterdir())) == 3
    status, _, err = cli(DIGITS / "digits_cnn.pt", "--calib", CALIB, "-p", "remove-noops,fold-batchnorm", "-o", "out")
    assert status == 2
    assert "E0206" in err
    assert not (tmp_path / "out").exists()


def test_layer_option_reaches_the_layer(cli, tmp_path):
    assert cli(DIGITS / "digits_cnn.pt", "--calib", CALIB, "--layer", "conv2:bits=4", "-o", "b")[0] == 0
    integers = storage.read(tmp_path / "b" / "graphs" / "program.nir")["conv2"].quant.integers
    assert np.all(integers % 32 == 0)


@pytest.mark.parametrize(
    ("options", "neurons"),
    [
        ([], ["relu1", "conv2.readout", "relu3", "relu4", "fc1.readout"]),
        (["--max-crossings", "2"], ["relu1", "conv2.readout"]),
        (["--layer", "relu1:place=host"], ["relu3", "relu4", "fc1.readout"]),
    ],
)
def test_a_layer_pinned_to_the_host_takes_a_turn_between_those_of_the_chip(cli, tmp_path, options, neurons):
    pinned = ["--layer", "relu2:place=host", *options]
    assert cli(DIGITS / "digits_cnn.pt", "--calib", CALIB, *pinned, "-o", "b")[0] == 0
    graph = storage.read(tmp_path / "b" / "graphs" / "program.nir")
    assert {node.name for node in graph if node.is_neuron} == set(neurons)
    status, out, _ = cli("inspect", "b", "--partition")
    assert status == 0
    assert "pinned to the host" in " ".join(out.split())
    assert "Alternatives" in out
    status, out, _ = cli("simulate", "b", "--data", TEST)
    assert status == 0
    assert float(re.search(r"accuracy\s+([\d.]+)%", out).group(1)) >= 99


def test_reset_zero_uses_only_native_processes(cli, tmp_path):
    assert cli(DIGITS / "digits_cnn.pt", "--calib", CALIB, "--reset", "zero", "-o", "b")[0] == 0
    emitted = (tmp_path / "b" / "network.py").read_text()
    assert "SoftResetLIF" not in emitted
    assert "LIFReset(" in emitted
    assert "microcode" not in (tmp_path / "b" / "report.md").read_text()


@pytest.mark.parametrize("backend", ["float", "reference"])
def test_simulate_json_and_trace(cli, bundle, tmp_path, backend):
    status, out, _ = cli(
        "simulate", bundle, "--data", TEST, "--limit", "7", "--backend", backend, "--json", "--trace", "t.npz"
    )
    assert status == 0
    result = json.loads(out)
    assert (result["samples"], result["backend"]) == (7, backend)
    trace = np.load(tmp_path / "t.npz")
    assert trace["lif2.s"].shape == (7, 16, 32, 4, 4)
    assert trace["output.output"].shape == (7, 10)
    total = sum(trace[key].sum() for key in trace if key.endswith(".s"))
    assert result["spikes_per_sample"] == pytest.approx(total / 7)


def test_simulate_on_lava_compares_with_the_reference(cli, bundle):
    pytest.importorskip("lava")
    status, out, err = cli("simulate", bundle, "--data", TEST, "--limit", "2", "--backend", "lava", "--compare")
    assert status == 0, err
    assert "identical to the reference: yes (12 signals)" in out


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("table", "v = 0.8999 v + I"),
        ("dot", '"conv2" -> "lif2"'),
        ("text", "NeuronQuant("),
        ("json", '"timesteps": 16'),
    ],
)
def test_inspect_a_bundle(cli, bundle, form, said):
    status, out, _ = cli("inspect", bundle, "--format", form)
    assert status == 0
    assert said in out


def test_inspect_a_model_as_captured_and_a_graph_file(cli, bundle):
    status, out, _ = cli("inspect", DIGITS / "digits_direct.pt", "--input-shape", "1,8,8")
    assert status == 0
    assert "body.conv1" in out
    status, out, _ = cli("inspect", bundle / "graphs" / "chip.nir")
    assert status == 0
    assert "lif_out" in out


def test_check_lists_and_returns_the_status_of_the_first_error(cli, tmp_path):
    assert cli("check", DIGITS / "digits_cnn.pt", "--calib", CALIB)[0] == 0
    status, out, _ = cli("check", DIGITS / "digits_cnn.pt", "--input-shape", "1,9,9", "--json")
    assert status == 4
    assert json.loads(out)["findings"][0]["code"] == "E0433"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(cli, verb):
    status, out, _ = cli(verb, "--help")
    assert status == 0
    assert "Usage: hsnn-compile" in out


def test_passes_targets_explain_doctor(cli):
    assert "percentile=99.9" in cli("passes")[1]
    assert "Rueckauer" in cli("passes", "convert-activations")[1]
    status, out, _ = cli("targets", "loihi2")
    assert status == 0
    assert "lava/proc/lif/models.py" in out
    assert "What to do" in cli("explain", "e0401")[1]
    assert cli("explain", "E0000")[0] == 2
    status, out, _ = cli("doctor", "--json")
    parts = {part["name"]: part for part in json.loads(out)["parts"]}
    assert parts["torch"]["works"]
    assert {"lava-nc", "sPyNNaker", "nest-simulator"} <= set(parts)
    assert status == (0 if all(part["works"] for part in parts.values()) else 7)


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("x.pt", "--target", "nope", "--input-shape", "3"), 2, "E0201"),
        (("x.pt",), 2, "E0215"),
        (("x.pt", "--input-shape", "a,b"), 2, "E0218"),
        (("x.pt", "--input-shape", "3"), 3, "E0301"),
        ((DIGITS / "digits_cnn.pt", "--calib", CALIB, "--layer", "nope:bits=2"), 2, "E0211"),
        ((DIGITS / "digits_cnn.pt", "--calib", CALIB, "--layer", "conv2"), 2, "E0211"),
        ((DIGITS / "digits_cnn.pt", "--calib", CALIB, "-p", "nope"), 2, "E0212"),
        ((DIGITS / "digits_cnn.pt", "--calib", CALIB, "-p", "quantise{bits=x}"), 2, "E0212"),
        ((DIGITS / "digits_cnn.pt", "--calib", CALIB, "-p", "quantise"), 2, "E0220"),
        ((DIGITS / "digits_cnn.pt", "--calib", CALIB, "--timesteps", "0"), 2, "E0217"),
        (("simulate", "nowhere", "--data", TEST), 3, "E0340"),
    ],
)
def test_refusals_name_their_code_and_status(cli, words, status, code):
    got, out, err = cli(*words)
    assert code in err, out + err
    assert got == status
    assert "Traceback" not in out + err


def test_usage_errors_end_with_2(cli):
    assert cli("simulate")[0] == 2
    assert cli("--nonsense")[0] == 2


def test_interrupt_ends_with_130(cli, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("hsnn_compiler.driver.lower", interrupt)
    status, _, err = cli(DIGITS / "digits_direct.pt", "--calib", CALIB)
    assert status == 130
    assert "interrupted" in err


def test_internal_errors_are_one_line_and_a_file(cli, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("boom")

    monkeypatch.setattr("hsnn_compiler.driver.lower", fail)
    status, _, err = cli(DIGITS / "digits_direct.pt", "--calib", CALIB)
    assert status == 1
    assert "boom" in err
    report = Path(re.search(r"\S*hsnn-error-\S*\.txt", err).group(0))
    assert "RuntimeError: boom" in report.read_text()
    report.unlink()
