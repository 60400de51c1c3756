# SPDX-License-Identifier: BSD-3-Clause
"""Runs a generated network and brings back what it did."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from lava.magma.compiler.compiler_graphs import find_processes
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.run_configs import Loihi2SimCfg

from .processes.recorder import Recorder, is_complete
from .processes.tie import Tie
from .runtime import GuardedRuntime


class Network(Protocol):
    """What a generated ``network.py`` defines.

    Attributes:
        neurons: the populations by name; each has ``s_out``, ``u`` and ``v``.
        steps: steps to run: all samples and the latency of the pipeline.
    """

    neurons: dict[str, Any]
    steps: int


def simulate(
    network: Network,
    record: Mapping[str, Sequence[str]],
    *,
    directory: str | Path,
    tag: str = "fixed_pt",
) -> dict[tuple[str, str], np.ndarray]:
    """Run a network on Lava's CPU backend and record populations.

    A network runs once: Lava cannot start a stopped one again.

    Args:
        network: a freshly built network.
        record: names of populations, and which signals of each: ``s`` for what it sent,
            ``u``, ``v`` or another Var for its state after each step's update.
        directory: where the recordings go, as ``.npy`` files.
        tag: which process models to use, ``fixed_pt`` or ``floating_pt``.

    Returns:
        ``{(population, signal): array [steps, *shape]}``, read from ``directory`` as needed.

    Raises:
        LavaError: a process model raised or died.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[tuple[str, str], Path] = {}
    for index, (name, signals) in enumerate(record.items()):
        stem = folder / f"{index:04d}"  # a population's name need not be a file name
        Recorder(network.neurons[name], signals, steps=network.steps, stem=stem)
        files.update({(name, signal): Path(f"{stem}.{signal}.npy") for signal in signals})

    processes: list[AbstractProcess] = list(network.neurons.values())
    _tie_together(processes)
    executable = processes[0].compile(Loihi2SimCfg(select_tag=tag))
    runtime = GuardedRuntime(executable)
    stems = {path.with_suffix("").with_suffix("") for path in files.values()}
    try:
        runtime.initialize()
        runtime.run(network.steps, lambda: bool(stems) and all(map(is_complete, stems)))
    finally:
        # Not `stop()`, which asks every process to end and waits for its answer: some day one does not come.
        with contextlib.suppress(Exception):
            runtime.abort()
        # Else each process would stop the runtime again when it is garbage-collected.
        for process in executable.proc_builders:
            process.runtime = None
    return {key: np.load(path, mmap_mode="c") for key, path in files.items()}


def _tie_together(processes: Sequence[AbstractProcess]) -> None:
    """Make all populations parts of one network: Lava silently leaves out what is not connected."""
    reached = set(find_processes(processes[0]))
    for process in processes:
        if process not in reached:
            reached.update(find_processes(process))
            Tie(processes[0], process)
