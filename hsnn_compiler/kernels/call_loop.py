"""What a compiled call does: layers one after the other, for one sample after the other, on any number of threads.

All threads run the same code, and take tasks from a counter until there are none. A task waits only for earlier
ones, which others are already at: whoever comes late, or never, is not missed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit

from hsnn_compiler.kernels.event_loop import run_rows
from hsnn_compiler.kernels.jobs import CALL, DONE, FEED, FIRST_COUNT, JOB, NEXT, THREAD, Record
from hsnn_compiler.kernels.packing import pack_planes, pack_row
from hsnn_compiler.kernels.stamp import STAMP
from hsnn_compiler.kernels.vectors import LINE, WORD, Pointer, ahead, at, fetch_add, records


@njit
def _clear(job: Record, feed: Record, bits: Pointer, kept: int, count: int) -> None:
    """Zeros for what reaches a job in the first window, but where the layer before it has written (its only feed)."""
    if not feed.written:
        for word in range(kept + count * job.row_words):
            bits[word] = np.uint64(0)
        return
    for t in range(count):
        step = ahead(bits, t * job.row_words)
        for word in range(feed.place):
            step[word] = np.uint64(0)
        for word in range(feed.place + feed.size // WORD, job.row_words):
            step[word] = np.uint64(0)


@njit
def _gather(
    call: Record,
    jobs: Record,
    feeds: Record,
    i: int,
    sample: int,
    begin: int,
    count: int,
    scratch: int,
    counters: Pointer,
) -> None:
    """Pack what reaches job i in a window; what still comes from the window before, with a delay, is moved up."""
    job, byte = jobs[i], np.uint8(0)
    bits = at(scratch + job.bits_at, np.uint64(0))
    kept = job.reach * job.row_words
    if begin:
        # All windows but the last are of the same size.
        for word in range(kept):
            bits[word] = bits[call.window * job.row_words + word]
    else:
        _clear(job, feeds[job.first_feed], bits, kept, count)
    for f in range(job.first_feed, job.last_feed):
        feed, is_outside = feeds[f], feeds[f].layer < 0
        if feed.written:
            continue
        found = above = 0
        first = (sample * call.steps + begin) * feed.size
        source = ahead(at(feed.signal, byte), first)
        if not is_outside:
            other = jobs[feed.layer]
            source = ahead(at(other.spikes, byte), first) if other.spikes else at(scratch + other.spikes_at, byte)
        for t in range(count):
            row, target = ahead(source, t * feed.size), ahead(bits, (t + feed.delay) * job.row_words + feed.place)
            if feed.channels == 1:
                active, more = pack_row(row, feed.size, target, is_outside)
            else:
                active, more = pack_planes(row, feed.channels, feed.size, target)
            found += active
            above |= more
        if is_outside:
            fetch_add(counters, FIRST_COUNT + 2 * call.job_count + 2 * f, above)
            fetch_add(counters, FIRST_COUNT + 2 * call.job_count + 2 * f + 1, found)


@njit
def _work(
    call: Record, jobs: Record, feeds: Record, like: float, counters: Pointer, words: np.ndarray, sums: np.ndarray
) -> None:
    """Take tasks: whole samples, or, in parts, for every layer of a sample one to gather, then one for each part."""
    stages, windows = 1 + call.parts, -(-call.steps // call.window)
    tasks = call.samples * (windows * call.job_count * stages if call.parts else 1)
    scratch = call.scratch + (0 if call.parts else fetch_add(counters, THREAD, 1) * call.scratch_size)
    task = fetch_add(counters, NEXT, 1)
    while task < tasks:
        sample, begin, end, first, last, part, parts = task, 0, call.steps, 0, call.job_count, 0, 1
        gathers = runs = True
        if call.parts:
            rest, stage = task // stages, task % stages
            while fetch_add(counters, DONE, 0) < rest * stages + min(stage, 1):
                pass
            first, rest = rest % call.job_count, rest // call.job_count
            begin, sample = rest % windows * call.window, rest // windows
            end, last, part, parts = begin + 1, first + 1, stage - 1, call.parts
            gathers, runs = stage == 0, stage > 0
        for start in range(begin, end, call.window):
            count = min(call.window, call.steps - start)
            for i in range(first, last):
                job = jobs[i]
                if gathers and job.first_feed < job.last_feed:
                    _gather(call, jobs, feeds, i, sample, start, count, scratch, counters)
                if runs:
                    rows = (job.rows * part // parts, job.rows * (part + 1) // parts)
                    spikes, saturated = run_rows(
                        job, like, sample, call.steps, start, count, rows[0], rows[1], scratch, words, sums
                    )
                    fetch_add(counters, FIRST_COUNT + 2 * i, spikes)
                    fetch_add(counters, FIRST_COUNT + 2 * i + 1, saturated)
        fetch_add(counters, DONE, 1)
        task = fetch_add(counters, NEXT, 1)
    while fetch_add(counters, DONE, 0) < tasks:
        pass


@njit
def work_on(address: int, like: float) -> None:
    """Do what is left to do of a call, and wait for what others do of it.

    Args:
        address: of a `CALL`.
        like: any number of the layers' type.
    """
    call = carray(records(address), 1, CALL)[0]
    jobs = carray(records(call.jobs), call.job_count, JOB)
    feeds = carray(records(call.feeds), call.feed_count, FEED)
    counters = at(call.counters, np.int64(0))
    words = np.empty(call.words, np.uint64)
    sums = np.full(call.sums + LINE, like)
    _work(call, jobs, feeds, like, counters, words, sums)


def _compiled(stamp: str) -> Any:
    @njit(cache=True, nogil=True)
    def run_call(address: int, like: float) -> None:
        """As `work_on`, for callers that are not compiled."""
        _ = stamp
        work_on(address, like)

    return run_call


run_call = _compiled(STAMP)
