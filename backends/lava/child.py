"""The process Lava runs in: ``python -m hsnn_compiler.backends.lava.child JOBDIR``.

A fresh interpreter without torch, because Lava forks its process models and a fork of a
process that has run multi-threaded torch hangs. The parent (``runner.py``) writes the job
into JOBDIR, and finds there afterwards ``out/`` with the recordings, or ``error.json``.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import secrets
import shutil
import signal
import sys
import threading
import time
import traceback
import warnings
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any, NoReturn

_PARENT_POLL_S = 0.5
SHARED_MEMORY = Path("/dev/shm")


def name_shared_memory(prefix: str) -> None:
    """Give all shared memory and semaphores this process creates names starting with ``prefix``.

    Python draws the names at random, so what a killed Lava leaves behind could not be told
    from anybody else's.
    """

    def make_filename() -> str:
        return f"/{prefix}{secrets.token_hex(4)}"

    shared_memory._make_filename = make_filename  # type: ignore[attr-defined]
    config: dict[str, Any] = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    config["semprefix"] = f"/{prefix}"


def remove_shared_memory(prefix: str) -> None:
    """Remove what is left of shared memory with such names."""
    for pattern in (f"{prefix}*", f"sem.{prefix}*"):
        for path in SHARED_MEMORY.glob(pattern):
            path.unlink(missing_ok=True)


# Held by the one thread that ends this process: the main thread when the run is over, or the
# one that watches the parent, whose cleaning up must not be cut short by the other's exit.
_ENDING = threading.Lock()


def _end_all(prefix: str, job: Path) -> NoReturn:
    """End this process group, leaving nothing."""
    processes = multiprocessing.active_children()
    for process in processes:
        process.kill()
    for process in processes:
        process.join(1.0)  # what still lives could write into the folder again
    remove_shared_memory(prefix)
    shutil.rmtree(job, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)
    raise AssertionError("a process outlived SIGKILL")


def _end_with_parent(parent: int, prefix: str, job: Path) -> None:
    """Leave nothing once the parent is gone (even by SIGKILL)."""
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_S)
    with _ENDING:
        _end_all(prefix, job)


def _on_terminate(*_: object) -> NoReturn:
    # Raised in the main thread, so that the run ends the process models before it ends.
    raise SystemExit(143)


def _run(job: Path, spec: dict[str, Any]) -> None:
    # The package beside network.py comes first: a bundle runs with the copy it was made with.
    sys.path.insert(0, spec["network_dir"])
    sys.path.append(str(Path(__file__).resolve().parent))
    import numpy as np

    hsnn_lava = importlib.import_module("hsnn_lava")
    module = importlib.import_module("network")
    inputs = {name: np.load(job / file) for name, file in spec["inputs"].items()}
    hsnn_lava.simulate(module.Network(inputs), spec["record"], directory=job / "out", tag=spec["tag"])


def main(job: Path) -> NoReturn:
    """Run the job; never returns, so that nothing Lava left behind can hold up the exit."""
    spec = json.loads((job / "job.json").read_text())
    name_shared_memory(spec["prefix"])
    signal.signal(signal.SIGTERM, _on_terminate)
    watcher = threading.Thread(target=_end_with_parent, args=(spec["parent"], spec["prefix"], job), daemon=True)
    watcher.start()
    # Python 3.12 warns of every fork beside a thread; this thread only sleeps.
    warnings.filterwarnings("ignore", message=".*use of fork.*", category=DeprecationWarning)
    status, report = 1, None
    try:
        _run(job, spec)
        status = 0
    except SystemExit:
        status = 143
    except BaseException as error:
        process = getattr(error, "process", "")  # a LavaError of whichever copy of hsnn_lava
        report = {
            "process": process,
            "message": str(error).split("\n", 1)[0] or type(error).__name__,
            "traceback": getattr(error, "traceback", "") if process else traceback.format_exc(),
            "missing": (error.name or "") if isinstance(error, ModuleNotFoundError) else "",
        }
    sys.stdout.flush()
    sys.stderr.flush()
    with _ENDING:
        if os.getppid() != spec["parent"]:
            _end_all(spec["prefix"], job)
        if report is not None:
            (job / "error.json").write_text(json.dumps(report))
        os._exit(status)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
