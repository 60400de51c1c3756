"""The crossings between values, once per sample, and steps, T per sample; and the ops that read the time of a spike.

They are in NIR's own style, see `hsnn_compiler.ir.ops`. Steps count from 0. Spikes of a code, and what a spike of it is
worth at each step, are computed in `hsnn_compiler.reference.codes`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

EVENT_KINDS = ("bitplane", "rate", "ttfs", "delta", "phase")
"""Kinds of `Encode` that put out spikes."""

WEIGHTED_KINDS = ("bitplane", "ttfs", "phase")
"""Kinds of `Decode` in which the step of a spike counts."""

DECODE_KINDS = ("mean", "sum", "last", *WEIGHTED_KINDS)
"""Kinds of `Decode`."""

COLLECT_CODES = ("bitplane", "rate", "ttfs", "phase")
"""Codes that `Collect` reads."""

MOST_BITPLANES = 16
"""Bits of a level, and so steps of the bitplane code and the longest period of the phase code."""


def _period() -> int:
    """A field: the steps of a period of phase coding, the bits of a level."""
    return field(default=8, metadata={"quiet": True})  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class Encode:
    """Crossing from values to steps. ``direct``: the value is presented at every step, a current.

    The others (`EVENT_KINDS`) give spikes, 0 or 1, T steps per sample. They bring the value to u = x / high in
    [0, 1], clipping it, and round u to a level n:

        bitplane   n = rint(u (2^T - 1)); a spike where bit T - 1 - t of n is set; T at most 16
        phase      n = rint(u (2^K - 1)); a spike where bit K - 1 - (t mod K) of n is set: the same K bits again in
                   every period of K steps; K at most 16, T a multiple of K (Kim et al. 2018, Neurocomputing 311)
        rate       n = rint(u T); a spike where floor((t + 1) n / T) > floor(t n / T): n of them, evenly spaced
        ttfs       n = rint(u T); one spike at t = T - n, none if n = 0
        delta      n = rint(u T); a spike at each t < n: send-on-delta from zero, in steps of 1/T

    `Decode` of the same kind (``mean`` for rate and delta) gives n over the largest level back.

    Attributes:
        kind: see above.
        high: value of u = 1, positive; a number that calibration froze.
        doubled: whether axis 0 (the channels) holds the parts of x above zero, then those below, [2 C, ...].
        period: K, of phase coding.
    """

    kind: str = "direct"
    high: float = field(default=1.0, metadata={"quiet": True})
    doubled: bool = field(default=False, metadata={"quiet": True})
    period: int = _period()


@dataclass(frozen=True, eq=False)
class Decode:
    """Crossing from steps to values: `gain` times what T steps s_t make together.

        sum        sum_t s_t
        mean       sum_t s_t / T
        last       s_(T-1)
        bitplane   sum_t 2^(T-1-t) s_t / (2^T - 1); T at most 16
        phase      sum_t 2^-(1 + t mod K) s_t * (K / T) 2^K / (2^K - 1); T a multiple of K, K at most 16
        ttfs       sum_t (T - t)/T s_t: of one spike per sample, its value

    The factor of ``phase`` is the one for which a spike in every step gives 1. All are linear in the steps, so steps
    may be spikes, payloads or currents. A membrane potential is read by ``last`` behind a neuron that does not fire:
    nir.I gives the sum of its input, and nir.LI with tau = r = 1 / (1 - beta) sum_t beta^(T-1-t) s_t (by Euler's
    steps, as ``decay=beta, gain=1`` of its `Dynamics` does).

    Attributes:
        kind: see above.
        gain: the value that 1 stands for.
        period: K, of phase coding.
    """

    kind: str = "mean"
    gain: float = 1.0
    period: int = _period()


@dataclass(frozen=True, eq=False)
class Collect:
    """Adds up what arrives during a window of T steps and presents the sum, constant, at every step of the next window.

        c = sum_t value_t I_t + bias

    with value_t of `code` what `Decode` has: ``rate`` 1/T, ``ttfs`` (T - t)/T, ``bitplane`` 2^(T-1-t)/(2^T - 1),
    ``phase`` 2^(K-1 - t mod K)/(2^K - 1) K/T. In the graph both windows are the sample's own steps; the schedule lays
    them one after the other.

    Attributes:
        code: see above.
        bias: broadcasts against the shape; per channel (axis 0) [C, 1, ...] as a rule.
        period: K, of phase coding.
    """

    code: str
    bias: np.ndarray
    period: int = _period()


@dataclass(frozen=True, eq=False)
class FirstSpike:
    """A neuron that fires at most once per sample, the earlier the larger its input, which is constant over the steps.

    For an input z it fires at step T - n, n = clip(floor(z T / threshold + 1/2), 0, T), and never where n = 0:
    a ReLU, clipped at the threshold and rounded to T levels, when a spike at step t counts
    (T - t)/T thresholds. Its potential is z, the ramp that meets it threshold (T - t - 1/2) / T
    (Stanojevic 2024, doi 10.1038/s41467-024-51110-5, in whole steps). z is what arrives at step 0:
    it lies behind a `Collect`, or behind `Encode(direct)` and linear ops.

    Attributes:
        threshold: positive; broadcasts against the shape.
    """

    threshold: np.ndarray


def code_of(op: Any) -> str:
    """The code in which a crossing or `Collect` writes or reads spikes; ``rate`` and ``mean`` are one."""
    name = op.code if isinstance(op, Collect) else op.kind
    return "rate" if name in ("mean", "delta") else str(name)


def wrong_code(op: Any, steps: int | None) -> str:
    """What is wrong with kind, range or period of a crossing or `Collect`, in words; an empty string if nothing.

    Args:
        op: an Encode, Decode or Collect.
        steps: T; None if it is not known.
    """
    name = type(op).__name__
    known = {"Encode": ("direct", *EVENT_KINDS), "Decode": DECODE_KINDS, "Collect": COLLECT_CODES}[name]
    kind = op.code if isinstance(op, Collect) else op.kind
    if kind not in known:
        return f"{name} does not know {kind!r}"
    if isinstance(op, Encode) and not (op.high > 0 and np.isfinite(op.high)):
        return f"the range of an Encode ends at {op.high}"
    if kind == "phase" and not 1 <= op.period <= MOST_BITPLANES:
        return f"a period of {op.period} steps; phase coding takes 1 to {MOST_BITPLANES}"
    if kind == "phase" and steps is not None and steps % op.period:
        return f"{steps} time steps are no multiple of the period {op.period} of phase coding"
    if kind == "bitplane" and steps is not None and steps > MOST_BITPLANES:
        return f"{steps} time steps for bit planes, which are at most {MOST_BITPLANES}"
    return ""
