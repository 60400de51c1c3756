# SPDX-License-Identifier: BSD-3-Clause
"""A Lava runtime that notices when a process fails, and cleans up.

Lava runs every process model as an operating-system process and waits for all of them
without a time limit. If one raises or dies, the others and the caller wait for ever.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from lava.magma.compiler.builders.py_builder import PyProcessBuilder
from lava.magma.compiler.executable import Executable
from lava.magma.core.process.message_interface_enum import ActorType
from lava.magma.core.run_conditions import RunSteps
from lava.magma.runtime.runtime import Runtime

_POLL_S = 0.01
_PATIENCE_S = 5.0


class LavaError(RuntimeError):
    """A process model raised or died.

    Attributes:
        process: name and class of the Lava process, e.g. ``relu1 (LIFReset)``.
        traceback: the process model's traceback; empty if it died without one.
    """

    def __init__(self, process: str, reason: str, traceback: str = "") -> None:
        self.process = process
        self.traceback = traceback
        super().__init__(f"Lava process {process} {reason}" + (f"\n{traceback}" if traceback else ""))


class GuardedRuntime(Runtime):
    """Lava's Runtime, asking in short intervals whether all processes are well."""

    exception_q: list[Any]

    def __init__(self, executable: Executable) -> None:
        super().__init__(executable, ActorType.MultiProcessing, loglevel=logging.WARNING)
        executable.assign_runtime_to_all_processes(self)
        # Lava starts its actors in exactly this order.
        self.actor_names: Sequence[str] = [
            f"{process.name} ({type(process).__name__})"
            for process, builder in executable.proc_builders.items()
            if isinstance(builder, PyProcessBuilder)
        ] + ["runtime service" for _ in executable.runtime_service_builders]

    def _start_ports(self) -> None:
        # Runtime.initialize() calls this last, then waits on the queues for every actor to
        # say that it was built. One that was killed says nothing, so we wait in its place.
        super()._start_ports()
        for messages, name in zip(self.exception_q, self.actor_names, strict=True):
            while True:
                try:
                    error = messages.get(timeout=_POLL_S)
                    break
                except queue.Empty:
                    self.check()
            if error is not None:
                raise LavaError(name, "could not be built", error.trace)
        self.exception_q = []

    def check(self) -> None:
        """Raise LavaError if a process model raised or died.

        To be called only while all of them ought to be running.
        """
        actors: list[Any] = self._messaging_infrastructure.actors
        # Exceptions first: a process that raised explains one that ended because of it.
        for name, actor in zip(self.actor_names, actors, strict=False):
            if actor.exception is not None:
                raise LavaError(name, "raised an exception", actor.exception[1])
        for name, actor in zip(self.actor_names, actors, strict=False):
            if actor.exitcode is not None:
                raise LavaError(name, _describe_exit(actor.exitcode))

    def run(self, steps: int, is_recorded: Callable[[], bool]) -> None:
        """Run ``steps`` steps; raise LavaError as soon as a process fails.

        Args:
            steps: how many.
            is_recorded: whether all that was asked for is recorded. If so, the run is over even where Lava's
                processes still wait for each other, which has been seen to go on for ever (one run of 300).
        """
        self.start(RunSteps(num_steps=steps, blocking=False))
        recorded_at: float | None = None
        while not all(port.probe() for port in self.service_to_runtime):
            self.check()
            if recorded_at is None:
                recorded_at = time.monotonic() if is_recorded() else None
            elif time.monotonic() - recorded_at > _PATIENCE_S:
                return
            time.sleep(_POLL_S)
        self.wait()

    def abort(self) -> None:
        """End all processes, whatever they are doing, and free the shared memory."""
        self._is_started = self._is_running = False  # else __del__ would stop() and hang
        infrastructure = self._messaging_infrastructure
        if infrastructure is None or infrastructure.smm is None:
            return
        for actor in infrastructure.actors:
            if actor.is_alive():
                os.kill(actor.pid, signal.SIGKILL)
        infrastructure.stop()


def _describe_exit(exitcode: int) -> str:
    if exitcode >= 0:
        return f"ended before its time (exit status {exitcode})"
    name = signal.Signals(-exitcode).name
    hint = "; the system may be out of memory" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"
