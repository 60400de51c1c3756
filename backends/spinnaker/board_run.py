"""Netlists on a board, by sPyNNaker and the same ``network.py`` that a bundle holds; in a child process.

No board was at hand when this was written: what is tested is the same script, driven the same way, on NEST.
"""

from __future__ import annotations

import configparser
import json
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

import numpy as np

from hsnn_compiler.backends.spinnaker.board_child import GIVEN, JOB, PROGRESS, RECORDED
from hsnn_compiler.backends.spinnaker.child_process import LOG, run_module
from hsnn_compiler.backends.spinnaker.execute import Given, Progress, TurnResult, check_given
from hsnn_compiler.backends.spinnaker.netlist import Netlist, Turn
from hsnn_compiler.backends.spinnaker.presence import part_status, spinnaker_missing
from hsnn_compiler.backends.spinnaker.progress import watcher
from hsnn_compiler.backends.spinnaker.script import CONFIG, write_script
from hsnn_compiler.diagnostics import HsnnError, refuse
from hsnn_compiler.reference.result import Record

HOME_CONFIG = ".spynnaker.cfg"
PLACES = ("machinename", "spallocserver", "remotespinnakerurl")
"""Options of [Machine] that name a board; sPyNNaker takes them with and without capitals and underscores."""
_TAIL_LINES = 8


def board_config(folders: Collection[Path]) -> Path:
    """The configuration that names a board: ``spynnaker.cfg`` in one of the folders, or ``~/.spynnaker.cfg``.

    Raises:
        HsnnError: E0708 where none does, E0706 where sPyNNaker is not installed.
    """
    status = part_status("sPyNNaker")
    if not status.importable:
        raise spinnaker_missing(f"a board is reached through sPyNNaker: {status.reason}")
    looked = [*(folder / CONFIG for folder in folders), Path.home() / HOME_CONFIG]
    for path in looked:
        if path.is_file() and _names_board(path):
            return path
    raise refuse(
        "E0708",
        "no SpiNNaker board is configured here",
        supported=f"one named in {' or '.join(str(path) for path in looked)}",
        suggestion="[Machine] with machine_name = ADDRESS and version = 5 for a board in your network, or "
        "spalloc_server = URL for a shared machine; without one: --backend nest or --backend spinnaker-fixed",
    )


def run_board(
    turn: Turn,
    timesteps: int,
    given: Given,
    record: Collection[Record],
    progress: Progress | None = None,
    *,
    deadline_s: float = 600.0,
    config: Path | None = None,
    simulator: str = "spinnaker",
) -> TurnResult:
    """A turn on a board, see `TurnRunner`: spikes, and of readouts the potential as the window ends (NaN before).

    Args:
        turn, timesteps, given, record, progress: see `TurnRunner`.
        deadline_s: seconds after which the run is ended.
        config: that names a board.
        simulator: for ``network.py``; ``nest`` runs the same script without a board.

    Raises:
        HsnnError: E0204 for potentials of neurons that fire; E0802 the deadline passed; E0116 sPyNNaker failed.
    """
    check_given(turn, timesteps, given)
    readouts = {part.name for part in turn.populations.values() if part.kind == "readout"}
    for name, variable in record:
        if variable == "v" and name not in readouts:
            raise refuse("E0204", f"potentials of {name} are not read from a board", node=name, supported="spikes (s)")
    kinds = {name: "potential" if variable == "v" else "spikes" for name, variable in record}
    with tempfile.TemporaryDirectory(prefix="hsnn-spinnaker-") as folder:
        job = Path(folder)
        netlist = Netlist("turn", timesteps, (turn,), kinds)
        netlist.save(job)
        write_script(netlist, job, "One turn.")
        (job / HOME_CONFIG).touch()
        if config is not None:
            shutil.copyfile(config, job / CONFIG)
        arrays = {name: array.reshape(given.samples, timesteps, -1) for name, array in given.spikes.items()}
        np.savez(job / GIVEN, **arrays, **given.currents)  # type: ignore[arg-type]
        (job / JOB).write_text(json.dumps({"samples": given.samples, "simulator": simulator}), encoding="utf-8")
        error = run_module(
            "hsnn_compiler.backends.spinnaker.board_child",
            job,
            deadline_s,
            title="the board" if simulator == "spinnaker" else "NEST",
            env={"HOME": str(job), "TMPDIR": str(job)},
            on_poll=watcher(job / PROGRESS, progress),
        )
        if error is not None:
            raise _failed(error, job)
        with np.load(job / RECORDED) as file:
            recorded = dict(file)
    result = TurnResult(saturated={part.name: 0 for part in turn.populations.values() if part.is_neural})
    for name, kind in kinds.items():
        shape = (given.samples, timesteps, *turn.populations[name].shape)
        if kind == "spikes":
            result.spikes[name] = recorded[name].reshape(shape).astype(np.uint8)
        else:
            result.potential[name] = np.full(shape, np.nan)
            result.potential[name][:, -1] = recorded[name].reshape(shape[:1] + shape[2:])
    return result


def _names_board(path: Path) -> bool:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = lambda option: option.lower().replace("_", "")  # type: ignore[assignment, method-assign]
    try:
        parser.read_string(path.read_text("utf-8"))
    except (configparser.Error, OSError, UnicodeDecodeError):
        return False
    if not parser.has_section("Machine"):
        return False
    machine = parser["Machine"]
    is_virtual = machine.get("virtualboard", "False").strip().lower() == "true"
    return not is_virtual and any(machine.get(name, "None").strip() not in ("", "None") for name in PLACES)


def _failed(error: dict[str, str], job: Path) -> HsnnError:
    log = (job / LOG).read_text("utf-8", errors="replace").strip().splitlines()
    tail = "\n".join(f"      | {line}" for line in log[-_TAIL_LINES:])
    return refuse("E0116", f"sPyNNaker could not run the network: {error['message']}\n{tail}".rstrip())
