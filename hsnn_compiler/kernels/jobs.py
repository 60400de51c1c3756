"""What the compiled code is told, as records of integers: addresses (0 for none), sizes, and numbers of elements.

Numba takes longer to unpack a few dozen arrays than a small layer takes to run. Whoever fills in an address keeps
its array alive.
"""

from __future__ import annotations

from ctypes import addressof, c_char
from typing import Any

import numpy as np

Record = Any
"""For annotations: an array of one of the types below, or an element of it."""


def _integers(names: str) -> np.dtype:
    return np.dtype([(name, np.int64) for name in names.split()])


JOB = _integers(
    "segments shifts masks parts weights narrow unit blocks"
    " channels segment_count groups columns part_count depth block_count lanes"
    " neurons rows spiking has_current"
    " bias bias_rows bias_width leak leak_samples leak_rows start start_count coefficients coefficient_rows apart"
    " bits row_words payload extra resets u v spikes u_record v_record"
    " first_feed last_feed reach bits_at u_at v_at spikes_at target_at target_words"
)
"""One layer of a call.

The tables and the neurons:
    segments, shifts, masks, parts, weights, narrow, unit, blocks, channels: as in `Tables`.
    segment_count, groups, columns, part_count, depth, block_count, lanes: their sizes; depth is rows of weights.
    neurons, rows: of the population; a row has columns * channels neurons.
    spiking, has_current: whether there is a threshold, and whether u has a memory.
    bias: [bias_rows, bias_width] added to the synaptic sums; a row has lanes to spare.
    leak: [leak_samples, leak_rows, columns * channels] added to Loihi's v at every step.
    start: [start_count] v after a reset, one number or one for each neuron.
    coefficients: of the neurons, see `updates`: [k, 1], or [k, coefficient_rows * columns * channels].
    apart: from the array of one coefficient to the next.

The arrays of a run, of all samples and steps:
    bits: [samples, time, row_words] uint64, the inputs; 0 if they are packed from `FEED` s.
    payload: [samples, time, 64 * row_words] the value of every bit; 0 if all inputs are 0 or 1.
    extra: [samples, time, neurons] more input.
    resets: [time] bool, whether the state starts anew before the step.
    u, v: [samples, neurons] the state, written; if v is 0, every sample starts anew.
    spikes: [samples, time, neurons] uint8, written.
    u_record, v_record: [samples, time, neurons] written.

What is for one sample only, where the arrays above are 0:
    first_feed, last_feed: range of the call's feeds.
    reach: the longest delay of those, in steps.
    bits_at, u_at, v_at, spikes_at: where in the scratch memory that is, in bytes.
    target_at: where the layer's spikes are written as bits: in the inputs of the only layer that they feed; or -1.
    target_words: from one step to the next there.
"""

FEED = _integers("layer signal channels size place delay written")
"""Spikes that reach a layer.

layer: the number of the job that they come from; -1 if they come from outside.
signal: if so, [samples, time, channels, size / channels] uint8; what is not 0 is a spike.
channels: 1 if nothing is to be transposed: the kernels want channels last.
size: inputs per sample and step.
place: first word in a row of bits.
delay: in steps.
written: whether that layer writes its spikes here by itself.
"""

CALL = _integers("jobs job_count feeds feed_count samples steps window parts scratch scratch_size counters words sums")
"""All that one call of the compiled code is told.

jobs, feeds: [job_count], [feed_count], `JOB` and `FEED`.
window: steps that a sample spends in one layer before the next one has its turn.
parts: into which the rows of one sample's layer are cut; 0 if each thread takes whole samples.
scratch: [threads, or 1 if there are parts; scratch_size] bytes.
counters: int64, see `NEXT`.
words, sums: most words of inputs, and most sums with lanes to spare, of a row of any layer.
"""

NEXT, DONE, THREAD, FIRST_COUNT = 0, 1, 2, 3
"""Places of the counters: tasks given out and finished, threads that came; from `FIRST_COUNT` on, for each job

spikes, and how often a neuron of Loihi wrapped or saturated; then for each feed from outside, whether a byte was more
than 1 (as a number above 0), and how many inputs were active.
"""


def address(array: np.ndarray | None) -> int:
    """Of the first element; 0 if there is none."""
    if array is None or not array.size:
        return 0
    try:
        return addressof(c_char.from_buffer(array.data))
    except (TypeError, ValueError, BufferError):  # what is read-only has to be asked: that takes five times as long
        return array.__array_interface__["data"][0]
