"""Netlists on NEST, in a child process: it is a global singleton, prints, and is licensed under the GPL."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from hsnn_compiler.backends.spinnaker.child_process import LOG, run_module
from hsnn_compiler.backends.spinnaker.execute import Given, Progress, TurnResult, check_given
from hsnn_compiler.backends.spinnaker.nest_child import GIVEN, JOB, MOST_SYNAPSES, PROGRESS, RECORDED
from hsnn_compiler.backends.spinnaker.netlist import Netlist, Turn
from hsnn_compiler.backends.spinnaker.presence import spinnaker_missing
from hsnn_compiler.backends.spinnaker.progress import watcher
from hsnn_compiler.diagnostics import HsnnError, refuse
from hsnn_compiler.reference.result import Record

NEEDED = {"nest": "nest-simulator", "pyNN": "PyNN", "scipy": "scipy"}
"""Modules the child needs beside ours, and the packages they come in."""
_CHILD = "hsnn_compiler.backends.spinnaker.nest_child"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_TAIL_LINES = 8


def check_nest() -> None:
    """Refuse (E0706) where NEST or PyNN is not installed."""
    missing = []
    for package in NEEDED.values():
        try:
            version(package)
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        raise spinnaker_missing(f"the backend nest needs {' and '.join(missing)}, which {_is(missing)} not installed")


def run_nest(
    turn: Turn,
    timesteps: int,
    given: Given,
    record: Collection[Record],
    progress: Progress | None = None,
    *,
    deadline_s: float = 600.0,
    most_synapses: int = MOST_SYNAPSES,
) -> TurnResult:
    """A turn on NEST, see `TurnRunner`.

    Args:
        turn, timesteps, given, record, progress: see `TurnRunner`.
        deadline_s: seconds after which the run is ended, start-up included.
        most_synapses: of all copies of the network that run side by side.

    Raises:
        HsnnError: E0706 NEST or PyNN is missing; E0802 the deadline passed; E0114 the child died; E0115 NEST failed.
    """
    check_nest()
    check_given(turn, timesteps, given)
    own = {p.name for p in turn.populations.values() if p.is_neural}
    wanted = [key for key in record if key[0] in own]
    with tempfile.TemporaryDirectory(prefix="hsnn-nest-") as folder:
        job = Path(folder)
        Netlist("turn", timesteps, (turn,)).save(job)
        np.savez(job / GIVEN, **_arrays(given))  # type: ignore[arg-type]
        text = {
            "turn": 0,
            "spikes": list(given.spikes),
            "currents": list(given.currents),
            "samples": given.samples,
            "record": wanted,
            "most_synapses": most_synapses,
        }
        (job / JOB).write_text(json.dumps(text), encoding="utf-8")
        look = watcher(job / PROGRESS, progress)
        error = run_module(
            _CHILD,
            job,
            deadline_s,
            title="NEST",
            env={**_ONE_THREAD, "HOME": str(job), "TMPDIR": str(job), "PYNEST_QUIET": "1"},
            on_poll=look,
        )
        if error is not None:
            raise _failed(error, job)
        look()
        with np.load(job / RECORDED) as file:
            recorded = dict(file)
    result = TurnResult(saturated=dict.fromkeys(own, 0))
    for name, variable in wanted:
        shape = (given.samples, timesteps, *turn.populations[name].shape)
        array = recorded[f"{name}:{variable}"].reshape(shape)
        (result.spikes if variable == "s" else result.potential)[name] = array
    result.spikes |= {name: given.spikes[name].astype(np.uint8) for name, _ in record if name in given.spikes}
    return result


def _arrays(given: Given) -> dict[str, np.ndarray]:
    spikes = {f"spikes/{name}": (array != 0).astype(np.uint8) for name, array in given.spikes.items()}
    return spikes | {f"currents/{name}": array for name, array in given.currents.items()}


def _failed(error: dict[str, str], job: Path) -> HsnnError:
    if error["missing"].split(".")[0] in NEEDED:
        return spinnaker_missing(f"NEST does not import: {error['message']}")
    log = (job / LOG).read_text("utf-8", errors="replace").strip().splitlines()
    tail = "\n".join(f"      | {line}" for line in log[-_TAIL_LINES:])
    return refuse("E0115", f"NEST could not run the network: {error['message']}\n{tail}".rstrip())


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
