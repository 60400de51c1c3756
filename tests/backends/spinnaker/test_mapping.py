"""sPyNNaker really maps: cores, memory, routes, and every synapse read back from its SDRAM images."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from spinnaker_nets import dense, joined, netlist, neurons, source

from hsnn_compiler.backends.spinnaker import presence
from hsnn_compiler.backends.spinnaker.mapping import MAPPING, MappedNetlist, map_netlist
from hsnn_compiler.backends.spinnaker.mapping_tables import mapping_tables
from hsnn_compiler.backends.spinnaker.traps import check
from hsnn_compiler.cli.errors import run
from hsnn_compiler.cli.main import group
from hsnn_compiler.diagnostics import HsnnError

ROOT = Path(__file__).parents[3]
DIGITS = ROOT / "examples" / "digits"


@pytest.fixture
def aside(tmp_path, monkeypatch) -> Path:
    """Where the folders of jobs are made."""
    folder = tmp_path / "aside"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.usefixtures("spynnaker")
def test_784_256_10(board, tmp_path, aside):
    mapped = map_netlist(dense(784, 256, 10), board, 100.0)
    assert not list(aside.iterdir())
    assert mapped.findings == ()
    turn = mapped.turns[0]
    assert turn.cores == 3
    assert (turn.boards, len(turn.chips), turn.chips[0].cores) == (1, 1, 3)
    assert turn.chips[0].routes == turn.chips[0].compressed_routes == 2  # one for each population that sends
    assert all(turn.binaries.values())
    assert "IF_curr_delta.aplx" in turn.binaries
    parts = {part.name: part for part in turn.populations}
    assert [len(part.cores) for part in parts.values()] == [1, 1, 1]
    hidden = parts["layer1"]
    assert hidden.fidelity is not None
    assert hidden.fidelity.synapses == 784 * 256
    assert hidden.fidelity.is_ours
    assert 0.49 < hidden.fidelity.largest_error <= 0.5
    assert hidden.fidelity.resolution == (2.0**-10, 2.0**-10)
    # Two blocks of rows, one for each sign; a synapse is a word, a row has a header of three.
    assert 784 * (256 + 6) * 4 <= hidden.matrix_bytes <= turn.chips[0].sdram_bytes

    mapped.save(tmp_path)
    again = MappedNetlist.load(tmp_path)
    assert again is not None
    assert [replace(part, seconds=turn.seconds) for part in again.turns] == list(mapped.turns)
    again.save(tmp_path / "..")
    assert (tmp_path / ".." / MAPPING).read_bytes() == (tmp_path / MAPPING).read_bytes()

    tables = {table.title: table for table in mapping_tables(mapped, board)}
    summary = tables["Mapping"].to_dicts()["rows"][0]
    assert summary["cores"] == 3
    assert summary["most routes of 1,023"] == 2
    assert summary["most SDRAM of 123,469,792"] == turn.chips[0].sdram_bytes
    assert [row[1] for row in tables["Mapping: populations"].rows] == ["in", "layer1", "layer2"]


@pytest.mark.usefixtures("spynnaker")
def test_skips_of_many_steps_and_populations_on_several_cores(board):
    """Delays within a ring buffer, through one stage of a delay extension, and through several where that is right."""
    parts = [source("in", 100), source("full", 256), neurons("a", 300, 1), neurons("b", 300, 20), neurons("c", 50, 60)]
    parts += [neurons("last", 600, 120)]
    at = {part.name: part for part in parts}
    pairs = [("in", "a"), ("a", "b"), ("in", "b"), ("b", "c"), ("a", "c"), ("in", "c"), ("full", "last"), ("c", "last")]
    projections = [joined(before + after, at[before], at[after], 0.2) for before, after in pairs]
    assert {part.delay for part in projections} == {1, 19, 20, 40, 59, 60, 120}
    program = netlist(parts, projections)
    assert not [finding for finding in check(program, board) if finding.is_error]
    mapped = map_netlist(program, board, 100.0)
    assert mapped.findings == ()
    found = {part.name: part for part in mapped.turns[0].populations}
    assert [len(found[name].cores) for name in ("a", "b", "c", "last")] == [2, 2, 1, 3]
    assert all(part.fidelity.is_ours for part in found.values() if part.fidelity)
    assert len(mapped.turns[0].other_cores) == 2  # delay extensions of `full` and `c`
    assert mapped.turns[0].cores == 2 + 2 + 2 + 1 + 3 + 2


@pytest.mark.usefixtures("spynnaker")
def test_the_digits_network(tmp_path, capsys):
    """Compiled, mapped, written and read back by the command line."""
    folder, calib = tmp_path / "bundle", tmp_path / "calib.npz"
    np.savez(calib, x=np.load(DIGITS / "digits_calib.npz")["x"][:16])
    words = [str(DIGITS / "digits_cnn.pt"), "--target", "spinnaker", "--calib", str(calib)]
    assert run(group, [*words, "--map", "-o", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "Mapping: populations" in out
    assert MAPPING in (folder / "manifest.json").read_text()
    assert "most routes of 1,023" in (folder / "report.md").read_text()

    import hsnn_compiler as hc

    program = hc.load(folder)
    assert program.mapping is not None
    parts = {part.name: part for turn in program.mapping.turns for part in turn.populations}
    assert {name: len(part.cores) for name, part in parts.items() if name.startswith("relu")} == {
        "relu1": 4, "relu2": 8, "relu3": 2, "relu4": 4,
    }  # fmt: skip
    for name in ("relu2", "relu3", "relu4"):
        fidelity = parts[name].fidelity
        assert fidelity is not None
        assert fidelity.is_ours
        assert fidelity.synapses > 200_000


@pytest.mark.usefixtures("spynnaker")
def test_what_spynnaker_refuses(board):
    before, after = source("in", 1), neurons("out", 2, 0)
    far = replace(joined("w", before, after), delay=100_000)
    with pytest.raises(HsnnError, match="could not map turn 0: DelayExtensionException") as caught:
        map_netlist(netlist([before, after], [far]), board, 100.0)
    assert caught.value.findings[0].code == "E0540"


@pytest.mark.usefixtures("spynnaker")
def test_the_deadline(board, aside):
    began = time.monotonic()
    with pytest.raises(HsnnError, match=r"did not finish within 0\.5 s") as caught:
        map_netlist(dense(10, 10), board, 0.5)
    assert caught.value.exit_code == 8
    assert time.monotonic() - began < 5
    assert not list(aside.iterdir())


@pytest.mark.usefixtures("spynnaker")
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_nothing_outlives_a_parent_that_is_killed(tmp_path):
    script = (
        "from spinnaker_nets import dense; from hsnn_compiler.targets import load_target;"
        "from hsnn_compiler.backends.spinnaker.mapping import map_netlist;"
        "map_netlist(dense(784, 256, 10), load_target('spinnaker'), 100.0)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", script], env=env)
    wait(lambda: any(children(path.name) for path in tmp_path.iterdir()))
    (job,) = tmp_path.iterdir()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait(lambda: not children(job.name) and not job.exists())


def children(job: str) -> list[str]:
    """Processes that work in a folder of this name."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            found += [path.parent.name] if path.readlink().name == job else []
        except OSError:
            continue
    return found


def wait(condition, patience_s: float = 30.0) -> None:
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_without_spynnaker(board, monkeypatch, capsys):
    def missing(name: str) -> presence.PartStatus:
        return presence.PartStatus(name, "", False, f"{name} is not installed")

    monkeypatch.setattr(presence, "part_status", missing)
    with pytest.raises(HsnnError, match="doctor --install spinnaker") as caught:
        map_netlist(dense(2, 2), board)
    assert caught.value.findings[0].code == "E0706"
    words = [str(DIGITS / "digits_cnn.pt"), "--calib", str(DIGITS / "digits_calib.npz"), "--dry-run", "--map"]
    assert run(group, [*words, "--target", "spinnaker"]) == 7
    assert run(group, [*words, "--target", "loihi2"]) == 2
    assert "nothing maps programs for loihi2" in capsys.readouterr().err


def test_a_mapping_of_another_version(tmp_path):
    assert MappedNetlist.load(tmp_path) is None
    (tmp_path / MAPPING).write_text('{"format": 99}')
    with pytest.raises(HsnnError, match="a mapping of format 99"):
        MappedNetlist.load(tmp_path)
