"""One step of a row of neurons, compiled: from synaptic sums to spikes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from hsnn_compiler.kernels.vectors import Pointer, ahead

LIMIT = np.int32(2**23)
"""Loihi's u and v are 24 bits wide."""
TWICE = np.int32(2**24)
STATE_SHIFT = np.int32(6)
LOW_BITS = np.uint32(4095)
DECAY_SHIFT = np.uint32(12)


def step(
    size: int,
    a: Pointer,
    u: Pointer,
    v: Pointer,
    spikes: Pointer,
    c: Pointer,
    apart: int,
    leak: Pointer,
    current: bool,
) -> int:
    """One step of some neurons: Loihi's if their numbers are integers. Only compiled code can call this.

    Args:
        size: number of neurons.
        a: synaptic sums with bias; holds u afterwards.
        u, v, spikes: written.
        c: coefficients, as `_equal` and `_loihi_equal` say.
        apart: 1 if all neurons are equal, else how far the array of one coefficient is from the next.
        leak: Loihi's bias.
        current: whether u has a memory; else `u` is left alone.

    Returns:
        Neurons of which u wrapped, plus neurons of which v saturated: 0 for floats.
    """
    raise NotImplementedError


@overload(step, strict=False)
def _step(
    size: Any, a: Any, u: Any, v: Any, spikes: Any, c: Any, apart: Any, leak: Any, current: Any
) -> Callable[..., int]:
    if isinstance(a.dtype, types.Integer):
        return lambda size, a, u, v, spikes, c, apart, leak, current: _loihi(
            size, a, u, v, spikes, c, apart, leak, current
        )
    return lambda size, a, u, v, spikes, c, apart, leak, current: _float(size, a, u, v, spikes, c, apart, current)


@njit
def _float(
    size: int, a: Pointer, u: Pointer, v: Pointer, spikes: Pointer, c: Pointer, apart: int, current: bool
) -> int:
    if apart == 1:
        _equal(size, a, u, v, spikes, c, current)
    else:
        _different(size, a, u, v, spikes, c, apart, current)
    return 0


@njit
def _equal(size: int, a: Pointer, u: Pointer, v: Pointer, spikes: Pointer, c: Pointer, current: bool) -> None:
    """A float population of equal neurons.

    ``u = current_decay*u + w_in*a`` (if `current`, else u = a), ``v = decay*v + gain*u + leak``, ``s = v > limit``,
    and where s, ``v = keep*v - drop``: every kind of reset is one of these, exactly.

    Here c is: decay, gain, leak, limit, keep, drop, current decay, w_in.
    """
    decay, gain, leak, limit, keep, drop = c[0], c[1], c[2], c[3], c[4], c[5]
    if current:
        current_decay, w_in = c[6], c[7]
        for j in range(size):
            a[j] = u[j] = current_decay * u[j] + w_in * a[j]
    for j in range(size):
        x = decay * v[j] + gain * a[j] + leak
        fires = x > limit
        spikes[j] = fires
        v[j] = keep * x - drop if fires else x


@njit
def _different(
    size: int, a: Pointer, u: Pointer, v: Pointer, spikes: Pointer, c: Pointer, apart: int, current: bool
) -> None:
    """As `_equal`, for neurons that differ: each of the eight coefficients is an array, `apart` from the next."""
    decay, gain, leak, limit = c, ahead(c, apart), ahead(c, 2 * apart), ahead(c, 3 * apart)
    keep, drop, current_decay, w_in = (
        ahead(c, 4 * apart),
        ahead(c, 5 * apart),
        ahead(c, 6 * apart),
        ahead(c, 7 * apart),
    )
    if current:
        for j in range(size):
            a[j] = u[j] = current_decay[j] * u[j] + w_in[j] * a[j]
    for j in range(size):
        x = decay[j] * v[j] + gain[j] * a[j] + leak[j]
        fires = x > limit[j]
        spikes[j] = fires
        v[j] = keep[j] * x - drop[j] if fires else x


@njit
def _loihi(
    size: int, a: Pointer, u: Pointer, v: Pointer, spikes: Pointer, c: Pointer, apart: int, bias: Pointer, current: bool
) -> int:
    if apart == 1:
        return _loihi_equal(size, a, u, v, spikes, c, bias, current)
    return _loihi_different(size, a, u, v, spikes, c, apart, bias, current)


@njit
def _loihi_equal(
    size: int, a: Pointer, u: Pointer, v: Pointer, spikes: Pointer, c: Pointer, bias: Pointer, current: bool
) -> int:
    """A Loihi population, bit for bit as ``hsnn_compiler.reference.loihi_neuron.scan``, in 32-bit integers.

    Here c is: what u and v keep of 4096, the threshold in units of v, 1 if a spike subtracts something (else v is
    zero after it), and what. The bias is at most 2^23: then no sum with it leaves 32 bits.
    """
    remain, hold, threshold, soft, taken = np.uint32(c[0]), np.uint32(c[1]), c[2], c[3], c[4]
    # Counted in 32 bits, as wide as the rest: 64 would halve the speed.
    count = np.int32(0)
    if current:
        for j in range(size):
            total = np.int32(np.int32(a[j] << STATE_SHIFT) + shrink(u[j], remain))
            wrapped = wrap(total)
            a[j] = u[j] = wrapped
            count = np.int32(count + np.int32(wrapped != total))
    else:
        for j in range(size):
            total = np.int32(a[j] << STATE_SHIFT)
            wrapped = wrap(total)
            a[j] = wrapped
            count = np.int32(count + np.int32(wrapped != total))
    for j in range(size):
        x = np.int32(np.int32(shrink(v[j], hold) + bias[j]) + a[j])
        clipped = min(max(x, np.int32(1 - LIMIT)), np.int32(LIMIT - 1))
        count = np.int32(count + np.int32(clipped != x))
        fires = clipped > threshold
        spikes[j] = fires
        v[j] = np.int32(clipped - taken) * soft if fires else clipped
    return int(count)


@njit
def _loihi_different(
    size: int, a: Pointer, u: Pointer, v: Pointer, spikes: Pointer, c: Pointer, apart: int, bias: Pointer, current: bool
) -> int:
    """As `_loihi_equal`, for neurons that differ: each coefficient is an array, `apart` from the next.

    All have the same threshold and kind of reset.
    """
    remain, hold, taken = c, ahead(c, apart), ahead(c, 4 * apart)
    threshold, soft = ahead(c, 2 * apart)[0], ahead(c, 3 * apart)[0]
    count = np.int32(0)
    for j in range(size):
        total = np.int32(a[j] << STATE_SHIFT)
        if current:
            total = np.int32(total + shrink(u[j], np.uint32(remain[j])))
        wrapped = wrap(total)
        a[j] = wrapped
        if current:
            u[j] = wrapped
        count = np.int32(count + np.int32(wrapped != total))
    for j in range(size):
        x = np.int32(np.int32(shrink(v[j], np.uint32(hold[j])) + bias[j]) + a[j])
        clipped = min(max(x, np.int32(1 - LIMIT)), np.int32(LIMIT - 1))
        count = np.int32(count + np.int32(clipped != x))
        fires = clipped > threshold
        spikes[j] = fires
        v[j] = np.int32(clipped - taken[j]) * soft if fires else clipped
    return int(count)


@njit
def shrink(x: np.int32, factor: np.uint32) -> np.int32:
    """``sgn(x) * (|x| * factor >> 12)`` in 32 bits, for factors up to 4096: in parts of 12 bits and the rest."""
    sign = np.int32(x >> 31)  # 0 or -1: flipping all bits and adding 1 negates
    size = np.uint32(np.int32(x ^ sign) - sign)
    low = np.uint32((size & LOW_BITS) * factor) >> DECAY_SHIFT
    result = np.int32(np.uint32((size >> DECAY_SHIFT) * factor) + low)
    return np.int32(np.int32(result ^ sign) - sign)


@njit
def wrap(total: np.int32) -> np.int32:
    """Once, as Lava does, into (-2^23, 2^23]."""
    if total > LIMIT:
        return np.int32(total - TWICE)
    return np.int32(total + TWICE) if total <= -LIMIT else total
