"""Runs emitted networks on Lava in processes forked from one that has imported Lava already.

What runs is the same as with `run_network`; only Lava's import, most of the time of a tiny network, is
paid once. (`run_network` itself, with its deadline and its cleaning up, has tests of its own.)
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import hsnn_compiler.backends.lava.child as child
from hsnn_compiler.backends.lava import runner

Recorded = dict[tuple[str, str], np.ndarray]
_NUMBERS = itertools.count()
# Ours first: it makes lava-nc importable on Python 3.11 and newer.
IMPORTS = ("hsnn_compiler.backends.lava.hsnn_lava", "lava.proc.conv.models", "lava.proc.dense.models")


class PreloadedLava:
    """`run` stands in for `run_network`."""

    def __init__(self) -> None:
        self._prefix = f"hsnn_{os.getpid()}_test{next(_NUMBERS)}_"
        self._parent = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **runner._ONE_THREAD},
        )  # fmt: skip

    def close(self) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        self._parent.wait(10)

    def run(
        self,
        network_dir: Path,
        inputs: Mapping[str, np.ndarray],
        record: Mapping[str, Sequence[str]],
        *,
        deadline_s: float,
        on_progress: object = None,
    ) -> Recorded:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            job, prefix = Path(folder), self._prefix
            runner._write_job(job, prefix, network_dir, inputs, record, "fixed_pt")
            print(deadline_s, job, file=self._parent.stdin, flush=True)
            status = self._parent.stdout.readline().strip()
            child.remove_shared_memory(prefix)
            if status != "0":
                error = job / "error.txt"
                raise RuntimeError(error.read_text() if error.exists() else f"ended with status {status!r}")
            return {
                (name, variable): np.load(job / "out" / f"{index:04d}.{variable}.npy")
                for index, (name, variables) in enumerate(record.items())
                for variable in variables
            }


class PreloadedPool:
    """Several, for threads that run networks side by side: one mostly waits for its many processes."""

    def __init__(self, size: int = 2) -> None:
        self._all = [PreloadedLava() for _ in range(size)]
        self._free: queue.SimpleQueue[PreloadedLava] = queue.SimpleQueue()
        for lava in self._all:
            self._free.put(lava)

    def close(self) -> None:
        for lava in self._all:
            lava.close()

    def run(self, *args: object, **options: object) -> Recorded:
        lava = self._free.get()
        try:
            return lava.run(*args, **options)  # type: ignore[arg-type]
        finally:
            self._free.put(lava)


def _serve() -> None:
    for name in IMPORTS:
        importlib.import_module(name)
    for line in sys.stdin:
        deadline, job = line.split(maxsplit=1)
        pid = os.fork()
        if pid == 0:
            _run(Path(job.strip()), float(deadline))
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        print(status, flush=True)


def _run(job: Path, deadline_s: float) -> None:
    os.setsid()
    os.dup2(2, 1)  # Lava prints
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.setitimer(signal.ITIMER_REAL, deadline_s)
    status = 1
    try:
        spec = json.loads((job / "job.json").read_text())
        child.name_shared_memory(spec["prefix"])
        child._run(job, spec)
        status = 0
    except BaseException:
        (job / "error.txt").write_text(traceback.format_exc())
    os._exit(status)


if __name__ == "__main__":
    _serve()
