"""Bundles: whole or not at all, the same bytes every time, and checked when read."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest
import torch

import hsnn_compiler as hc
from hsnn_compiler import bundle as bundles
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir.records import graphs_equal
from hsnn_compiler.ir.text import arrays_of, parse, to_text


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).random((32, 2, 6, 6), dtype=np.float32)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.AvgPool2d(2),
        torch.nn.Conv2d(4, 6, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(6, 3),
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def program(model, data):
    return hc.compile(model, calibration=data, timesteps=8, name="tiny")


ALONE = """
import runpy, sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("hsnn_compiler", "torch"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Nothing())
sys.path.insert(0, sys.argv[1])
runpy.run_path(sys.argv[1] + "/network.py", run_name="__main__")
"""


def files_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_compiling_twice_gives_the_same_bytes(model, data, tmp_path):
    for name in "ab":
        hc.compile(model, calibration=data, timesteps=8, name="tiny").save(tmp_path / name)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_another_process_gives_the_same_bytes(tmp_path):
    digits = Path(__file__).parents[1] / "examples" / "digits"
    for seed in "12":
        command = [sys.executable, "-c", "from hsnn_compiler.cli.main import main; main()"]
        command += [str(digits / "digits_direct.pt"), "--calib", str(digits / "digits_calib.npz"), "-o", f"b{seed}"]
        env = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, env=env)
    assert files_of(tmp_path / "b1") == files_of(tmp_path / "b2")


def test_manifest_has_the_hash_of_every_file(program, tmp_path):
    program.save(tmp_path / "b")
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["files"] == {k: v for k, v in files_of(tmp_path / "b").items() if k != "manifest.json"}
    assert manifest["versions"]["hsnn-compiler"] == hc.__version__
    assert manifest["versions"]["torch"]
    assert manifest["inputs"] == {"input": [2, 6, 6]}
    assert manifest["outputs"] == {"output": [3]}


def test_load_gives_back_the_program(program, data, tmp_path):
    program.save(tmp_path / "b")
    loaded = hc.load(tmp_path / "b")
    assert graphs_equal(loaded.graph, program.graph)
    assert graphs_equal(loaded.floating, program.floating)
    assert loaded.stages == program.stages
    assert np.array_equal(loaded.simulate(data).output, program.simulate(data).output)
    assert np.array_equal(loaded.simulate(data, "float").output, program.simulate(data, "float").output)


def test_a_compiled_graph_survives_text(program):
    for graph in (program.graph, program.floating):
        assert graphs_equal(parse(to_text(graph, whole=True)), graph)
        assert graphs_equal(parse(to_text(graph), arrays_of(graph)), graph)
    assert [node.was is not None for node in program.graph if node.is_spiking] == [True, True]


def test_the_chip_segment_is_a_nir_file(program, tmp_path):
    program.save(tmp_path / "b")
    graph = nir.read(tmp_path / "b" / "graphs" / "chip.nir")
    kinds = sorted(type(node).__name__ for node in graph.nodes.values())
    assert kinds == ["Affine", "Conv2d", "Flatten", "I", "IF", "IF", "Input", "Output"]
    with h5py.File(tmp_path / "b" / "graphs" / "chip.nir") as file:
        assert "metadata" not in file["node"]


def test_a_failure_leaves_nothing(program, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(bundles, "_write_json", fail)
    with pytest.raises(HsnnError) as error:
        program.save(tmp_path / "b")
    assert error.value.findings[0].code == "E0205"
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_the_old_bundle(program, tmp_path, monkeypatch):
    program.save(tmp_path / "b")
    before = files_of(tmp_path)
    monkeypatch.setattr(bundles, "_manifest", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        program.save(tmp_path / "b")
    assert files_of(tmp_path) == before


def test_an_old_bundle_is_replaced_and_other_folders_are_not(program, tmp_path):
    program.save(tmp_path / "b")
    (tmp_path / "b" / "network.py").write_text("changed")
    program.save(tmp_path / "b")
    assert (tmp_path / "b" / "network.py").read_text() != "changed"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(HsnnError) as error:
        program.save(tmp_path / "mine")
    assert error.value.findings[0].code == "E0203"
    assert files_of(tmp_path / "mine").keys() == {"thesis.txt"}


@pytest.mark.parametrize("name", ["arrays.npz", "graphs/program.nir", "network.py", "hsnn_lava/compat.py"])
def test_a_changed_or_missing_file_is_noticed(program, tmp_path, name):
    program.save(tmp_path / "b")
    path = tmp_path / "b" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(HsnnError, match=name) as error:
        hc.load(tmp_path / "b")
    assert error.value.findings[0].code == "E0341"
    path.unlink()
    with pytest.raises(HsnnError, match=name):
        hc.load(tmp_path / "b")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 99}', "\x00"])
def test_a_broken_manifest_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(HsnnError) as error:
        hc.load(tmp_path)
    assert error.value.findings[0].code == "E0340"
    assert error.value.exit_code == 3


def test_the_emitted_script_runs_alone_and_agrees(program, tmp_path):
    pytest.importorskip("lava")
    program.save(tmp_path / "b")
    # Nothing of this package, nor torch, may be needed.
    (tmp_path / "alone.py").write_text(ALONE)
    command = [sys.executable, "alone.py", str(tmp_path / "b")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "equal to the compiler's integer reference: yes" in done.stdout
