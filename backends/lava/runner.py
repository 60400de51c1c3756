"""Runs a generated Lava network in a child process that cannot hang, and leaves nothing.

Lava waits without a time limit for process models that may have raised or died, and
forgets processes and shared memory when it fails. So it never runs in the user's process:
the child has a session of its own, a deadline, and names of its own in shared memory; when
it ends, in whatever way, its process group and its shared memory go with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from hsnn_compiler.backends.lava.child import remove_shared_memory
from hsnn_compiler.backends.lava.presence import LAVA_MODULES, lava_missing, lava_version
from hsnn_compiler.diagnostics import HsnnError, refuse

_POLL_S = 0.02
_GRACE_S = 2.0
_TRACEBACK_LINES = 8
_LONGEST_SOCKET = 107 - len("/pymp-12345678/listener-12345678")
"""Bytes of a folder in which `multiprocessing` can make its sockets: their whole path has 108 with its end."""
# Every process model is a process of its own: threads of a BLAS only get in their way.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def run_network(
    network_dir: Path,
    inputs: Mapping[str, np.ndarray],
    record: Mapping[str, Sequence[str]],
    *,
    deadline_s: float,
    tag: str = "fixed_pt",
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[tuple[str, str], np.ndarray]:
    """Run ``network_dir/network.py`` on Lava's CPU backend.

    Args:
        network_dir: folder with ``network.py`` (a class ``Network``) and ``hsnn_lava/``.
        inputs: arrays given to ``Network(inputs)``.
        record: population names, and of each the signals to record: ``s`` (what it sent),
            ``u``, ``v`` (state after each step's update) or another Var.
        deadline_s: seconds after which the run is ended, start-up included.
        tag: process models to use, ``fixed_pt`` or ``floating_pt``.
        on_progress: called with (steps done, steps in all) whenever there is news.

    Returns:
        ``{(population, signal): array [steps, *shape]}``; row t - 1 is step t.

    Raises:
        HsnnError: E0110 a process model raised, E0111 one died, E0112 the child died,
            E0113 the network could not be built, E0701 Lava is missing, E0801 the deadline
            passed.
        KeyboardInterrupt: passed on, after the same cleaning up.
    """
    if lava_version() is None:
        raise lava_missing("Lava (lava-nc) is not installed")
    job = Path(tempfile.mkdtemp(prefix="hsnn-lava-"))
    # The process id tells whose it is, should anybody wonder.
    prefix = f"hsnn_{os.getpid()}_{secrets.token_hex(4)}_"
    try:
        _write_job(job, prefix, network_dir, inputs, record, tag)
        child = _start(job)
        try:
            _wait(child, job, deadline_s, on_progress)
        finally:
            _end(child)
            remove_shared_memory(prefix)
        if child.returncode != 0:
            raise _failure(child.returncode, job)
        # The mapped files outlive the folder they lie in.
        return {
            (name, signal_name): np.load(job / "out" / f"{index:04d}.{signal_name}.npy", mmap_mode="c")
            for index, (name, signals) in enumerate(record.items())
            for signal_name in signals
        }
    finally:
        shutil.rmtree(job, ignore_errors=True)


def _write_job(
    job: Path,
    prefix: str,
    network_dir: Path,
    inputs: Mapping[str, np.ndarray],
    record: Mapping[str, Sequence[str]],
    tag: str,
) -> None:
    files = {name: f"input{index}.npy" for index, name in enumerate(inputs)}
    for name, file in files.items():
        np.save(job / file, inputs[name], allow_pickle=False)
    spec = {
        "parent": os.getpid(),
        "prefix": prefix,
        "network_dir": str(network_dir.resolve()),
        "inputs": files,
        "record": {name: list(signals) for name, signals in record.items()},
        "tag": tag,
    }
    (job / "job.json").write_text(json.dumps(spec))


def _start(job: Path) -> subprocess.Popen[bytes]:
    with (job / "log.txt").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "hsnn_compiler.backends.lava.child", str(job)],
            cwd=job,  # `-m` puts the working directory on the path: let it be an empty one
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_ONE_THREAD, **_short_folder()},
            start_new_session=True,
        )


def _short_folder() -> dict[str, str]:
    """Another place for sockets, where the paths would be too long in the one for temporary files."""
    is_long = len(os.fsencode(tempfile.gettempdir())) > _LONGEST_SOCKET
    return {"TMPDIR": "/tmp"} if is_long and Path("/tmp").is_dir() else {}


def _exited(child: subprocess.Popen[bytes]) -> bool:
    # Looks without reaping: while the child is a zombie its process-group id stays ours, so
    # that killing the group cannot hit somebody else's.
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _wait(
    child: subprocess.Popen[bytes],
    job: Path,
    deadline_s: float,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    deadline = time.monotonic() + deadline_s
    shown: tuple[int, int] | None = None
    while True:
        over = _exited(child)
        progress = _progress(job)
        if on_progress is not None and progress is not None and progress != shown:
            on_progress(*progress)
            shown = progress
        if over:
            return
        if time.monotonic() > deadline:
            reached = f"reached step {progress[0]} of {progress[1]}" if progress else "was still starting"
            raise refuse(
                "E0801",
                f"Lava did not finish within {deadline_s:g} s; it {reached}",
                suggestion="a longer deadline, fewer samples, or the reference backend, which is far faster",
            )
        time.sleep(_POLL_S)


def _progress(job: Path) -> tuple[int, int] | None:
    """Steps every recorder has finished, and steps in all."""
    counts = [np.fromfile(path, np.int64).tolist() for path in (job / "out").glob("*.progress")]
    ready = [(count[0], count[1]) for count in counts if len(count) == 2 and count[1] > 0]
    return min(ready, default=None)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child and everything it started."""
    if not _exited(child):
        # Asked first, so that it reaps its process models; killed, it leaves that to init.
        child.terminate()
        patience = time.monotonic() + _GRACE_S
        while not _exited(child) and time.monotonic() < patience:
            time.sleep(_POLL_S)
    # Nobody needs to be waited for but the child: only it creates shared memory.
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for zombies
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _tail(text: str) -> str:
    return "\n".join(f"      | {line}" for line in text.strip().splitlines()[-_TRACEBACK_LINES:])


def _failure(returncode: int, job: Path) -> HsnnError:
    error_file = job / "error.json"
    if not error_file.exists():
        how = signal.Signals(-returncode).name if returncode < 0 else f"status {returncode}"
        log = (job / "log.txt").read_text(errors="replace")
        return refuse(
            "E0112",
            f"the process running Lava ended with {how} and no result\n{_tail(log)}".rstrip(),
            suggestion="fewer samples at a time, if the system ran out of memory",
        )
    error = json.loads(error_file.read_text())
    if error["missing"].split(".")[0] in LAVA_MODULES:
        return lava_missing(f"Lava does not import: {error['message']}")
    message = f"{error['message']}\n{_tail(error['traceback'])}".rstrip()
    if error["process"]:
        return refuse("E0110" if error["traceback"] else "E0111", message)
    return refuse("E0113", f"the Lava network could not be run: {message}")
