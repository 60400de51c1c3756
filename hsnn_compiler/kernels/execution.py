"""How a layer's work is divided: into pieces that fit the cache, and among threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hsnn_compiler.kernels.call import Inputs, Outputs, Task
from hsnn_compiler.kernels.dense import DenseSums
from hsnn_compiler.kernels.event_loop import run_tasks
from hsnn_compiler.kernels.tables import Tables
from hsnn_compiler.kernels.workers import THREADS, share

WORTH_SHARING = 150_000.0
"""Nanoseconds of work that pay for waking another thread."""
CURRENT_BYTES = 2**20
"""Dense currents are computed for as many samples at a time as this holds: they should stay in the cache."""
NEURON = 1.0
"""Nanoseconds to read a neuron's current and update it."""


def run_events(tables: Tables, inputs: Inputs, outputs: Outputs, nanoseconds: float) -> int:
    """Run the event kernel on all samples, with other threads if it will take long; returns what it counts."""
    rows = outputs.v.shape[1] // (tables.masks.shape[2] * tables.channels)
    everything = Task(0, len(outputs.v), 0, rows, 0, len(tables.blocks))
    plain = tuple(tables), tuple(inputs), tuple(outputs)
    if nanoseconds < WORTH_SHARING or THREADS == 1:
        return run_tasks(tuple(everything), *plain)
    return share(lambda task: run_tasks(tuple(task), *plain), list(_divide(everything)))


def run_dense(
    neurons_only: Tables,
    sums: DenseSums,
    signals: Sequence[np.ndarray],
    inputs: Inputs,
    outputs: Outputs,
) -> int:
    """As `run_events`, with the synaptic sums from matrix products and convolutions."""
    samples, time, _ = signals[0].shape
    neurons = outputs.v.shape[1]
    step = max(CURRENT_BYTES // (time * neurons * outputs.v.itemsize), 1)
    counted = 0
    for first in range(0, samples, step):
        part = slice(first, first + step)
        currents = sums([signal[part] for signal in signals])
        some, written = inputs.of(part), outputs.of(part)
        if some.extra.size:
            currents += some.extra
        counted += run_events(neurons_only, some._replace(extra=currents), written, currents.size * NEURON)
    return counted


def _divide(task: Task) -> Iterator[Task]:
    """Cut a task by samples, or if they are few by rows of positions, or if there is one by blocks of channels."""
    samples, rows, blocks = task.last_sample, task.last_row, task.last_block
    if samples >= 2 * THREADS:
        for first, last in _ranges(samples, 4 * THREADS):
            yield Task(first, last, 0, rows, 0, blocks)
        return
    for sample in range(samples):
        if rows > 1:
            for first, last in _ranges(rows, THREADS):
                yield Task(sample, sample + 1, first, last, 0, blocks)
        else:
            yield Task(sample, sample + 1, 0, 1, 0, blocks)


def _ranges(size: int, parts: int) -> Iterator[tuple[int, int]]:
    step = -(-size // parts)
    for first in range(0, size, step):
        yield first, min(first + step, size)
