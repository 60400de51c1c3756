"""The integers of one population, what they mean in real numbers, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from hsnn_compiler.diagnostics import Finding, refuse
from hsnn_compiler.ir.dynamics import Dynamics
from hsnn_compiler.ir.graph import Node
from hsnn_compiler.ir.quant import STATE_SHIFT, NeuronQuant
from hsnn_compiler.passes.connections import vars_of
from hsnn_compiler.passes.loihi_format import (
    DECAY_UNITY,
    STATE_MAX,
    bias_exponent,
    current_decay_integer,
    decay_integer,
    late_reset,
    one_or_each,
)
from hsnn_compiler.passes.raw.neurons import Rule

FORGETS = 4095
"""The du of a current without memory."""
FAR_OFF = 0.1
"""A time constant that rounding changes by more than this share is warned about (W0459)."""


class Integers(NamedTuple):
    """Integers of a population, and whether its threshold test is that of the contract exactly."""

    quant: NeuronQuant
    is_exact: bool


def integers_of(node: Node, rule: Rule, scale: float, vth: int) -> Integers:
    """Biases, decays and the start potential at a scale. Refused: E0453 a start potential beyond 24 bits.

    The chip tests with >. A potential v that does not decay is kept one larger, so that v + 1 > vth is v >= vth, where
    the reset subtracts; where it resets to zero and everything added is a multiple of 64, as a weight is, >= vth is
    > vth - 1 in multiples of 64.
    """
    unit = scale * 2**STATE_SHIFT
    exponent = bias_exponent(float(np.abs(rule.bias).max(initial=0.0)) * unit)
    mantissa = np.rint(rule.bias * unit / 2.0**exponent).astype(np.int32)
    dv = one_or_each(decay_integer(rule.decay), node.shape)
    du = one_or_each(current_decay_integer(0.0 if rule.current_decay is None else rule.current_decay), node.shape)
    v_init, exact = round(rule.v_init * unit), True
    if rule.theta is not None and rule.inclusive:
        added = [v_init, *(mantissa.astype(np.int64) << exponent).flat]
        keeps = bool(np.all(np.asarray(dv) == 0))
        if keeps and rule.subtracts:
            v_init += 1
        elif keeps and np.all(np.asarray(du) == FORGETS) and not any(number % 2**STATE_SHIFT for number in added):
            vth -= 1
        else:
            exact = False
    if abs(v_init) > STATE_MAX:
        raise refuse(
            "E0453",
            f"a start potential of {rule.v_init:.4g}, far from the threshold",
            node=node.name,
            source=node.source,
            supported=f"up to {STATE_MAX / unit:.4g}",
            suggestion="--dynamics v_init=0",
        )
    taken = late_reset(rule.taken, vth, dv) if rule.subtracts else None
    return Integers(NeuronQuant(du, dv, vth, v_init, mantissa, exponent, scale, taken), exact)


def in_real_numbers(node: Node, rule: Rule, quant: NeuronQuant) -> tuple[Any, Dynamics]:
    """The op and the dynamics that the integers stand for."""
    assert node.dynamics is not None
    op = node.op
    if rule.theta is not None:
        theta = np.full_like(np.asarray(op.v_threshold, np.float64), quant.vth / quant.scale)
        op = type(op)(**{**vars_of(op), "v_threshold": theta, "v_reset": 0 * theta})
    has_current = rule.current_decay is not None
    dynamics = Dynamics(
        node.dynamics.dt,
        "none",
        "subtract" if rule.subtracts else "zero",
        v_init=quant.v_init / (quant.scale * 2**STATE_SHIFT),
        decay=1 - quant.dv / DECAY_UNITY,
        current_decay=_current_decay(quant) if has_current else None,
        gain=1.0,
        current_gain=1.0 if has_current else None,
        leak=_bias(quant),
        reset_at="spike" if quant.taken is None else "after",
        max_spikes=rule.max_spikes,
    )
    return op, dynamics


def costs(node: Node, rule: Rule, integers: Integers, weights_off: float, *, has_input: bool) -> list[Finding]:
    """What the integers of a population are, and how far off (I0457, W0459, W0460).

    Args:
        node: the population.
        rule: what it is in real numbers.
        integers: of it.
        weights_off: largest error of a weight, as a share of the largest weight.
        has_input: whether a bias comes from an input of its own.
    """
    quant = integers.quant
    parts = [f"1 is {quant.scale:.5g} units"]
    if rule.theta is not None:
        parts.append(f"threshold {rule.theta:.4g} is {rule.theta * quant.scale:.0f}")
    parts.append(f"weights off by at most {100 * weights_off:.2g}% of the largest")
    found = []
    for what, wanted, got in _decays(rule, quant):
        off = np.abs(got - wanted)
        if off.any():
            values = f"{got.flat[0]:.6g}" if np.all(got == got.flat[0]) else f"{got.min():.6g} to {got.max():.6g}"
            parts.append(f"{what} {values}, off by {'at most ' if np.ptp(off) else ''}{off.max():.1g}")
        far = np.flatnonzero(off > FAR_OFF * (1 - wanted))
        if far.size:
            text = f"a {what} of {wanted.flat[far[0]]:.6g} becomes {got.flat[far[0]]:.6g}, a multiple of 1/4096"
            found.append(Finding("W0459", text, node=node.name, source=node.source, suggestion="a larger --dt"))
    if np.any(rule.bias):
        parts.append(f"bias off by at most {np.abs(_bias(quant) - rule.bias).max():.2g}")
    if has_input:
        parts.append("a bias that acts through the current, or not from step 0 on, is an input of its own")
    found.append(Finding("I0457", "; ".join(parts), node=node.name, source=node.source))
    if not integers.is_exact:
        text = "a potential that equals the threshold fires in real numbers, but not in integers"
        supported = "threshold_test=>= where the potential does not decay"
        found.append(Finding("W0460", text, node=node.name, source=node.source, supported=supported))
    return found


def _decays(rule: Rule, quant: NeuronQuant) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Each decay: its name, what it should be, what it is, per neuron."""
    yield "decay", rule.decay, np.broadcast_to(1 - quant.dv / DECAY_UNITY, rule.decay.shape)
    if rule.current_decay is not None:
        yield "current decay", rule.current_decay, np.broadcast_to(_current_decay(quant), rule.decay.shape)


def _current_decay(quant: NeuronQuant) -> float | np.ndarray:
    return 1 - (quant.du + 1) / DECAY_UNITY


def _bias(quant: NeuronQuant) -> np.ndarray:
    added: np.ndarray = (quant.bias_mant.astype(np.int64) << quant.bias_exp) / (quant.scale * 2**STATE_SHIFT)
    return added
