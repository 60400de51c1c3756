"""The event-driven layer: synaptic sums and neurons over all steps, in one compiled call.

A row of output positions stays in the cache over all its steps: rows are the outer loop, time the inner.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from hsnn_compiler.kernels.accumulate import Pointers, sum_row
from hsnn_compiler.kernels.stamp import STAMP
from hsnn_compiler.kernels.tables import ROWS
from hsnn_compiler.kernels.updates import step
from hsnn_compiler.kernels.vectors import LINE, WORD, Pointer, ahead, aligned, pointer


@njit
def _restart(u: Pointer, v: Pointer, size: int, has_current: bool, starts: Pointer, start: float, differ: bool) -> None:
    for j in range(size):
        v[j] = starts[j] if differ else start
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
def _run(
    task: tuple[int, ...],
    tables: tuple[Any, ...],
    inputs: tuple[Any, ...],
    outputs: tuple[Any, ...],
    words: np.ndarray,
    sums: np.ndarray,
) -> int:
    """As `run_tasks`. The scratch arrays are the caller's: numba frees an array after its last use, and a use of
    a pointer into it is none.
    """
    first_sample, last_sample, first_row, last_row, first_block, last_block = task
    segments, shifts, masks, parts, weights, blocks, channels = tables
    bits, payload, bias, extra, resets, leak, start, coefficients = inputs
    u, v, spikes, u_record, v_record = outputs

    lanes = weights.shape[2]
    width = masks.shape[2] * channels
    p = Pointers(
        pointer(segments),
        pointer(shifts),
        pointer(masks),
        pointer(parts),
        pointer(weights),
        pointer(blocks),
        channels,
        shifts.size,
        masks.shape[0],
        masks.shape[2],
        parts.shape[0],
        weights.shape[1],
        blocks.size,
        pointer(words),
        aligned(pointer(sums)),
    )
    # The neurons of an output row that this task is about.
    offset = blocks[first_block]
    size = (width if last_block == blocks.size else blocks[last_block]) - offset
    a = ahead(p.sums, offset)

    _, steps, row_words = bits.shape
    neurons = v.shape[1]
    apart = coefficients.shape[1] * coefficients.shape[2]
    has_current, is_graded, silent = u.size > 0, payload.size > 0, spikes.shape[1] < steps
    saturated = 0
    for sample in range(first_sample, last_sample):
        for row in range(first_row, last_row):
            first = row * width + offset
            row_u, row_v = ahead(pointer(u), sample * neurons + first), ahead(pointer(v), sample * neurons + first)
            row_bias = ahead(pointer(bias), row % bias.shape[0] * bias.shape[1])
            row_leak = ahead(
                pointer(leak), (sample % leak.shape[0] * leak.shape[1] + row % leak.shape[1]) * width + offset
            )
            row_c = ahead(pointer(coefficients), row % coefficients.shape[1] * width + offset if apart > 1 else 0)
            for t in range(steps):
                at = sample * steps + t
                here = at * neurons + first
                if resets.size and resets[t]:
                    _restart(row_u, row_v, size, has_current, ahead(pointer(start), first), start[0], start.size > 1)
                if p.part_count:
                    place = at * row_words
                    sum_row(
                        p,
                        lanes,
                        first_block,
                        last_block,
                        row_bias,
                        ahead(pointer(bits), place),
                        row,
                        ahead(pointer(payload), place * WORD),
                        is_graded,
                    )
                else:
                    _copy(ahead(row_bias, offset), a, size)
                if extra.size:
                    _add(ahead(pointer(extra), here), a, size)
                fired = ahead(pointer(spikes), first if silent else here)
                saturated += step(size, a, row_u, row_v, fired, row_c, apart, row_leak, has_current)
                if u_record.size:
                    _copy(a, ahead(pointer(u_record), here), size)
                if v_record.size:
                    _copy(row_v, ahead(pointer(v_record), here), size)
    return saturated


def _compiled(stamp: str) -> Any:
    @njit(cache=True, nogil=True)
    def run_tasks(
        task: tuple[int, ...], tables: tuple[Any, ...], inputs: tuple[Any, ...], outputs: tuple[Any, ...]
    ) -> int:
        """Run neurons; returns how often a neuron of Loihi wrapped or saturated.

        Args:
            task, tables, inputs, outputs: a `Task`, `Tables`, `Inputs` and `Outputs`, as plain tuples: numba takes
                much longer to look at named ones.
        """
        _ = stamp
        _, _, masks, _, weights, _, channels = tables
        _, depth, lanes = weights.shape
        columns = masks.shape[2]
        words = np.empty(columns * (depth // ROWS), np.uint64)
        sums = np.empty(columns * channels + lanes + LINE, weights.dtype)
        return _run(task, tables, inputs, outputs, words, sums)

    return run_tasks


run_tasks = _compiled(STAMP)
