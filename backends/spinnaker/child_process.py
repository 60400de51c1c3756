"""A Python module in a child process with a deadline, that leaves nothing behind.

sPyNNaker and NEST are global singletons that print, and may hang. The child has a session of its own; afterwards its
process group is killed. It ends with its parent, in whatever way that ends, and takes the folder of the job with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from hsnn_compiler.diagnostics import HsnnError, refuse

ERROR = "error.json"
LOG = "log.txt"
_POLL_S = 0.02
_PARENT_POLL_S = 0.5
_TAIL_LINES = 8


def run_module(
    module: str,
    job: Path,
    deadline_s: float,
    *,
    title: str,
    env: Mapping[str, str] | None = None,
    on_poll: Callable[[], None] | None = None,
) -> dict[str, str] | None:
    """Run ``python -m module`` with the folder of the job as its working directory.

    Args:
        module: whose main calls `report_errors`.
        job: an existing folder; what the child prints goes to ``log.txt`` in it.
        deadline_s: seconds after which the child is killed, start-up included.
        title: of what runs, for messages.
        env: added to the environment.
        on_poll: called now and then while the child runs.

    Returns:
        None where all went well, or the error the child reported: ``type``, ``message``, ``missing`` (a module), and
        ``traceback``.

    Raises:
        HsnnError: E0802 the deadline passed; E0114 the child died without saying why.
    """
    with (job / LOG).open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", module, str(os.getpid())],
            cwd=job,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    deadline = time.monotonic() + deadline_s
    try:
        # Looks without reaping: a zombie keeps its process-group id, so that the kill below hits nobody else.
        while os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > deadline:
                raise refuse(
                    "E0802", f"{title} did not finish within {deadline_s:.1f} s", suggestion="a longer deadline"
                )
            if on_poll is not None:
                on_poll()
            time.sleep(_POLL_S)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if (job / ERROR).exists():
        found: dict[str, str] = json.loads((job / ERROR).read_text("utf-8"))
        return found
    if child.returncode != 0:
        raise _died(title, child.returncode, (job / LOG).read_text("utf-8", errors="replace"))
    return None


def report_errors(main: Callable[[], None]) -> None:
    """Called by the child: run `main`, and put what it raises where the parent finds it."""
    _end_with_parent(int(sys.argv[1]))
    try:
        main()
    except BaseException as error:
        report = {
            "type": type(error).__name__,
            "message": str(error).strip() or type(error).__name__,
            "missing": (error.name or "") if isinstance(error, ModuleNotFoundError) else "",
            "traceback": traceback.format_exc(),
        }
        Path(ERROR).write_text(json.dumps(report), encoding="utf-8")
        raise


def _end_with_parent(parent: int) -> None:
    """Leave nothing once the parent is gone, even by SIGKILL."""
    job = Path.cwd()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_POLL_S)
        group = os.getpgrp()
        if os.fork() == 0:  # another process removes the folder: this one could go on writing to it
            os.setsid()
            os.killpg(group, signal.SIGKILL)
            shutil.rmtree(job, ignore_errors=True)
            os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _died(title: str, returncode: int, log: str) -> HsnnError:
    how = signal.Signals(-returncode).name if returncode < 0 else f"status {returncode}"
    tail = "\n".join(f"      | {line}" for line in log.strip().splitlines()[-_TAIL_LINES:])
    return refuse("E0114", f"the process running {title} ended with {how} and no result\n{tail}".rstrip())
