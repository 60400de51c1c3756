"""The event-driven layer: synaptic sums and neurons of some output rows of one sample, over some steps.

A row of output positions stays in the cache over all its steps: rows are the outer loop, time the inner.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hsnn_compiler.kernels.accumulate import Pointers, sum_row
from hsnn_compiler.kernels.jobs import Record
from hsnn_compiler.kernels.updates import step
from hsnn_compiler.kernels.vectors import WORD, Pointer, ahead, aligned, at, bit_count, nonzero_bits, pointer


@njit
def _restart(u: Pointer, v: Pointer, size: int, has_current: bool, starts: Pointer, first: int, count: int) -> None:
    for j in range(size):
        v[j] = starts[first + j] if count > 1 else starts[0]
    if has_current:
        for j in range(size):
            u[j] = 0


@njit
def _copy(source: Pointer, goal: Pointer, size: int) -> None:
    for j in range(size):
        goal[j] = source[j]


@njit
def _add(source: Pointer, goal: Pointer, size: int) -> None:
    for j in range(size):
        goal[j] += source[j]


@njit
def count_spikes(spikes: Pointer, size: int) -> int:
    """How many of some bytes are not 0."""
    found, whole = 0, size // WORD * WORD
    for j in range(0, whole, WORD):
        found += bit_count(nonzero_bits(spikes, j))
    for j in range(whole, size):
        found += spikes[j] != 0
    return found


@njit
def _pack_spikes(spikes: Pointer, size: int, target: Pointer) -> int:
    """As `count_spikes`, of a multiple of 64 bytes, which are written as bits."""
    found = 0
    for j in range(0, size, WORD):
        word = nonzero_bits(spikes, j)
        target[j // WORD] = word
        found += bit_count(word)
    return found


@njit
def run_rows(
    job: Record,
    like: float,
    sample: int,
    time: int,
    begin: int,
    count: int,
    first_row: int,
    last_row: int,
    scratch: int,
    words: np.ndarray,
    sums: np.ndarray,
) -> tuple[int, int]:
    """Run the neurons of some output rows; returns their spikes, and how often one of Loihi wrapped or saturated.

    Args:
        job: a `JOB`.
        like: any number of the layer's type.
        sample: in the arrays of all samples.
        time: steps of these arrays.
        begin, count: first of the steps to run, and how many.
        first_row, last_row: range of rows.
        scratch: address of the memory for one sample.
        words, sums: memory for a row. The caller's: numba frees an array after its last use, and a use of a pointer
            into it is none.
    """
    byte, word, number = np.uint8(0), np.uint64(0), np.int64(0)
    p = Pointers(
        at(job.segments, number),
        at(job.shifts, word),
        at(job.masks, word),
        at(job.parts, number),
        at(job.weights, like),
        at(job.narrow, np.int16(0)),
        at(job.unit, like),
        at(job.blocks, number),
        job.channels,
        job.segment_count,
        job.groups,
        job.columns,
        job.part_count,
        job.depth,
        job.block_count,
        pointer(words),
        aligned(pointer(sums)),
    )
    a, neurons, size, apart = p.sums, job.neurons, job.columns * job.channels, job.apart
    lanes, row_words, resets, extra = job.lanes, job.row_words, job.resets, job.extra
    u_record, v_record, spiking = job.u_record, job.v_record, job.spiking
    has_current, is_graded, starts_here = job.has_current != 0, job.payload != 0, job.v == 0 and begin == 0
    all_u, all_v = at(scratch + job.u_at, like), at(scratch + job.v_at, like)
    if job.v != 0:
        all_u, all_v = ahead(at(job.u, like), sample * neurons), ahead(at(job.v, like), sample * neurons)
    # From here on, steps are counted from the first to run.
    since = sample * time + begin
    bits = ahead(at(job.bits, word), since * job.row_words) if job.bits != 0 else at(scratch + job.bits_at, word)
    all_spikes = ahead(at(job.spikes, byte), since * neurons) if job.spikes != 0 else at(scratch + job.spikes_at, byte)
    target = at(scratch + job.target_at, word)
    keeps = spiking != 0 and (job.spikes != 0 or job.target_at < 0)
    spikes = saturated = 0
    for row in range(first_row, last_row):
        first = row * size
        u, v = ahead(all_u, first), ahead(all_v, first)
        bias = ahead(at(job.bias, like), row % job.bias_rows * job.bias_width)
        leak = ahead(at(job.leak, like), (sample % job.leak_samples * job.leak_rows + row % job.leak_rows) * size)
        c = ahead(at(job.coefficients, like), row % job.coefficient_rows * size if apart > 1 else 0)
        if starts_here:
            _restart(u, v, size, has_current, at(job.start, like), first, job.start_count)
        for t in range(count):
            here = (since + t) * neurons + first
            if resets != 0 and at(resets, byte)[begin + t]:
                _restart(u, v, size, has_current, at(job.start, like), first, job.start_count)
            if p.part_count:
                place = t * row_words
                payload = ahead(at(job.payload, like), (since * row_words + place) * WORD)
                sum_row(p, lanes, job.narrow != 0, bias, ahead(bits, place), row, payload, is_graded)
            else:
                _copy(bias, a, size)
            if extra != 0:
                _add(ahead(at(extra, like), here), a, size)
            fired = ahead(all_spikes, t * neurons + first if keeps else first)
            saturated += step(size, a, u, v, fired, c, apart, leak, has_current)
            if job.target_at >= 0:
                spikes += _pack_spikes(fired, size, ahead(target, t * job.target_words + first // WORD))
            elif spiking:
                spikes += count_spikes(fired, size)
            if u_record != 0:
                _copy(a, ahead(at(u_record, like), here), size)
            if v_record != 0:
                _copy(v, ahead(at(v_record, like), here), size)
    return spikes, saturated
