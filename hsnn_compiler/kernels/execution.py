"""How a call of the compiled code is put together: its memory, and the threads that run it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hsnn_compiler.kernels.call_loop import run_call
from hsnn_compiler.kernels.dense import DenseSums
from hsnn_compiler.kernels.jobs import CALL, FEED, FIRST_COUNT, JOB, Record, address
from hsnn_compiler.kernels.pace import Pace
from hsnn_compiler.kernels.sharing import run_shared, with_listeners
from hsnn_compiler.kernels.tables import ROWS, Tables
from hsnn_compiler.kernels.workers import THREADS, invite

WORTH_SHARING = 150_000.0
"""Nanoseconds of work that pay for waking another thread."""
WORTH_WAITING = 250_000.0
"""The same for work between two points where threads wait for each other: should others use the machine, it is long."""
WORTH_TRYING = 50_000.0
"""Work on one sample that may be done faster with threads that are awake."""
SHARED_PARTS = 4
"""Parts of a layer that threads which are awake take in turn."""
CURRENT_BYTES = 2**20
"""Dense currents are computed for as many samples at a time as this holds: they should stay in the cache."""
NEURON = 1.0
"""Nanoseconds to read a neuron's current and update it."""
NO_FEEDS = np.zeros(0, FEED)
ENDLESS = 2**40
JOB_PLACES, FEED_PLACES, CALL_PLACES = (
    {name: place for place, name in enumerate(record.names or ())} for record in (JOB, FEED, CALL)
)
SAMPLES, STEPS, PARTS, SCRATCH, COUNTERS, JOBS, FEEDS = (
    CALL_PLACES[name] for name in ("samples", "steps", "parts", "scratch", "counters", "jobs", "feeds")
)
"""Places of what every run fills in."""

Arrays = Mapping[str, np.ndarray]
"""By field of `JOB`: those of some samples, and ``resets``."""


def describe(tables: Tables, bias: np.ndarray, leak: np.ndarray, start: np.ndarray, coefficients: np.ndarray) -> Record:
    """The part of a `JOB` that is the same for every run, [1]; the arrays stay the caller's."""
    job = np.zeros(1, JOB)
    groups, segments, columns = tables.masks.shape
    blocks, depth, lanes = tables.weights.shape
    fields = {
        **{
            name: address(getattr(tables, name))
            for name in ("segments", "shifts", "masks", "parts", "weights", "narrow", "unit", "blocks")
        },
        "channels": tables.channels,
        "segment_count": segments,
        "groups": groups,
        "columns": columns,
        "part_count": len(tables.parts),
        "depth": depth,
        "block_count": blocks,
        "lanes": lanes,
        "bias": address(bias),
        "bias_rows": bias.shape[0],
        "bias_width": bias.shape[1],
        "leak": address(leak),
        "leak_samples": leak.shape[0],
        "leak_rows": leak.shape[1],
        "start": address(start),
        "start_count": len(start),
        "coefficients": address(coefficients),
        "coefficient_rows": coefficients.shape[1],
        "apart": coefficients.shape[1] * coefficients.shape[2],
        "target_at": -1,
    }
    for name, value in fields.items():
        job[name] = value
    return job


class Memory(NamedTuple):
    """What a run works in.

    Attributes:
        order: all that the compiled code is told, and its counters.
        ready: that before a run.
        start: the address of `order`.
        scratch: see `CALL`.
    """

    order: np.ndarray
    ready: np.ndarray
    start: int
    scratch: np.ndarray


class Program:
    """Jobs, ready to run but for what changes from run to run.

    All that the compiled code is told lies in one array, which each run copies: a thread that comes late to a run
    still finds its counters there.

    Args:
        jobs: `JOB` s.
        feeds: `FEED` s.
        window: see `CALL`.
        scratch_size: see `CALL`.
        like: a number of the layers' type.
    """

    def __init__(self, jobs: Record, feeds: Record, window: int, scratch_size: int, like: np.generic) -> None:
        self.like = like
        self._scratch_size, self._window, self._job_count = scratch_size, window, len(jobs)
        self._divisible = bool(jobs["rows"].max() > 1)
        self._counters = len(CALL_PLACES)
        self._jobs = self._counters + FIRST_COUNT + 2 * len(jobs) + 2 * len(feeds)
        self._feeds = self._jobs + jobs.nbytes // 8
        call = np.zeros(1, CALL)
        call["job_count"], call["feed_count"], call["window"] = len(jobs), len(feeds), window
        call["scratch_size"] = scratch_size
        call["words"] = (jobs["columns"] * (jobs["depth"] // ROWS)).max()
        call["sums"] = (jobs["columns"] * jobs["channels"] + jobs["lanes"]).max()
        counters = np.zeros(self._jobs - self._counters, np.int64)
        self._template = np.concatenate([call.view(np.int64), counters, jobs.view(np.int64), feeds.view(np.int64)])
        self._spare: list[Memory] = []
        self._pace = Pace()

    def __getstate__(self) -> object:
        raise TypeError("a program holds addresses: it cannot be copied or pickled")

    def job_field(self, job: int, name: str) -> int:
        """Where a run can put something."""
        return self._jobs + job * len(JOB_PLACES) + JOB_PLACES[name]

    def feed_field(self, feed: int, name: str) -> int:
        """The same for feeds."""
        return self._feeds + feed * len(FEED_PLACES) + FEED_PLACES[name]

    def run(self, samples: int, steps: int, fields: Iterable[tuple[int, int]], nanoseconds: float) -> list[int]:
        """Run on all samples, with other threads if it will take long; returns the counters.

        Args:
            samples, steps: how many.
            fields: what to put where.
            nanoseconds: that it will take, about.
        """
        if THREADS == 1 or nanoseconds < (WORTH_TRYING if samples == 1 else WORTH_SHARING):
            return self._alone(samples, steps, fields)
        stages = samples * self._job_count * -(-steps // self._window)
        divides = self._divisible and samples < 2 * THREADS and nanoseconds >= WORTH_WAITING * stages
        parts = 2 * THREADS if divides else 0
        if not divides and samples == 1:
            return self._at_pace(steps, fields) if self._divisible else self._alone(samples, steps, fields)
        memory = self._memory(1 if parts else THREADS)
        order = memory.order
        order[SAMPLES], order[STEPS], order[PARTS] = samples, steps, parts
        for place, value in fields:
            order[place] = value

        def work(memory: Memory = memory) -> None:  # keeps it, also for whoever comes late
            run_call(memory.start, self.like)

        invite(work)
        work()
        return order[self._counters : self._jobs].tolist()

    def _at_pace(self, steps: int, fields: Iterable[tuple[int, int]]) -> list[int]:
        """Run on one sample, alone or with the threads that are awake, whichever was faster of late."""
        start = time.perf_counter_ns()
        found = self._alone(1, steps, fields, SHARED_PARTS if self._pace.shares else 0)
        self._pace.took(time.perf_counter_ns() - start)
        return found

    def _alone(self, samples: int, steps: int, fields: Iterable[tuple[int, int]], parts: int = 0) -> list[int]:
        """Run on this thread, in memory that the next run uses again: for a short one it takes long to get.

        In parts, threads that are awake help.
        """
        try:
            memory = self._spare.pop()  # nobody else has it then
            memory.order[:] = memory.ready
        except IndexError:
            memory = self._memory(1)
        order = memory.order
        order[SAMPLES], order[STEPS], order[PARTS] = samples, steps, parts
        for place, value in fields:
            order[place] = value
        if parts:
            run_shared(with_listeners(self.like), memory.start, self.like)
        else:
            run_call(memory.start, self.like)
        found = order[self._counters : self._jobs].tolist()
        self._spare.append(memory)
        return found

    def _memory(self, threads: int) -> Memory:
        """For a run on so many threads that do not share their scratch memory."""
        order, scratch = self._template.copy(), np.empty(self._scratch_size * threads, np.uint8)
        start = address(order)
        order[SCRATCH] = address(scratch)
        order[COUNTERS] = start + 8 * self._counters
        order[JOBS], order[FEEDS] = start + 8 * self._jobs, start + 8 * self._feeds
        return Memory(order, order.copy(), start, scratch)


def one_layer(job: Record, like: np.generic) -> Program:
    """One layer, on inputs that are packed, or currents: all its steps are one window.

    Args:
        job: as `describe` makes it.
        like: see `Program`.
    """
    # Where neurons that do not spike write bytes all the same.
    return Program(job, NO_FEEDS, ENDLESS, 0 if job["spiking"].item() else job["neurons"].item(), like)


def run_events(program: Program, arrays: Arrays, shape: tuple[int, int], nanoseconds: float) -> int:
    """Run `one_layer`; returns how often a neuron of Loihi wrapped or saturated.

    Args:
        program: of the layer.
        arrays: of all samples.
        shape: samples and steps.
        nanoseconds: see `Program.run`.
    """
    fields = [(program.job_field(0, name), address(array)) for name, array in arrays.items()]
    if "leak" in arrays:
        fields.append((program.job_field(0, "leak_samples"), shape[0]))
    return program.run(*shape, fields, nanoseconds)[FIRST_COUNT + 1]


def run_dense(
    program: Program, sums: DenseSums, signals: Sequence[np.ndarray], arrays: Arrays, shape: tuple[int, int]
) -> int:
    """As `run_events`, with the synaptic sums of the signals from matrix products and convolutions.

    Args:
        program: of the neurons without their synapses.
        sums: of these.
        signals: [samples, time, n] of each synapse.
        arrays, shape: as in `run_events`.
    """
    samples, time = shape
    step = max(CURRENT_BYTES // max(time * arrays["v"][:1].nbytes, 1), 1)
    counted = 0
    for first in range(0, samples, step):
        part = slice(first, min(first + step, samples))
        currents = sums([signal[part] for signal in signals])
        some = of_samples(arrays, part)
        if "extra" in some:
            currents += some["extra"]
        here = (part.stop - first, time)
        counted += run_events(program, {**some, "extra": currents}, here, currents.size * NEURON)
    return counted


def of_samples(arrays: Arrays, part: slice) -> dict[str, np.ndarray]:
    """Those of some samples."""
    return {name: array if name == "resets" else array[part] for name, array in arrays.items()}
