"""What one step of a population is in the terms of the chip, as far as that is exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nir
import numpy as np

from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.ir.dynamics import Dynamics, discretize
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.passes.chip_steps import beyond_the_chip, taken_at_a_spike


@dataclass(frozen=True, eq=False)
class Rule:
    """A population as the chip steps it, in real numbers.

        u = current_decay u + gain * arriving + current_bias;   v = decay v + u + bias
        s = v > theta (or >=);   v = 0, or v - taken theta, where s

    It is the contract's step after v' = (v - shift) / unit, which makes a reset to a value a reset to zero, and
    thresholds that differ equal to 1. Arrays have the shape of the population.

    Attributes:
        decay, current_decay: shares that stay, per neuron; `current_decay` is None where u has no memory.
        theta: threshold; None for an integrator.
        v_init: v before the first step.
        gain: factor on what arrives, per neuron.
        potential_gain: the part of `gain` behind u, by which the contract's u becomes this one.
        bias, current_bias: added in every step, per neuron.
        shift, unit: see above, per neuron.
        subtracts: whether the reset subtracts.
        taken: how many times the threshold.
        inclusive: whether a potential that equals the threshold fires.
        max_spikes: most spikes of one step; several take as many thresholds.
    """

    decay: np.ndarray
    current_decay: np.ndarray | None
    theta: float | None
    v_init: float
    gain: np.ndarray
    potential_gain: np.ndarray
    bias: np.ndarray
    current_bias: np.ndarray
    shift: np.ndarray
    unit: np.ndarray
    subtracts: bool
    taken: float
    inclusive: bool
    max_spikes: int


def with_neurons_for_thresholds(graph: Graph) -> Graph:
    """A copy in which a NIR Threshold is a LIF without memory, which does the same."""
    graph = graph.copy()
    for node in graph.of_kind("Threshold"):
        theta = np.asarray(node.op.threshold, np.float64)
        theta = np.broadcast_to(theta, node.shape) if theta.size > 1 else theta.reshape((1,) * len(node.shape))
        op = nir.LIF(tau=np.ones_like(theta), r=np.ones_like(theta), v_leak=0 * theta, v_threshold=theta.copy())
        graph.update(node.name, op=op, dynamics=Dynamics(1.0, "none", decay=0.0, gain=1.0, leak=0.0))
    return graph


def rule_of(node: Node) -> Rule:
    """The rule of a population; HsnnError with all findings (E0444, E0445, E0453) where the chip has none."""
    assert node.dynamics is not None
    step = discretize(node.op, node.dynamics)
    findings = [Finding(code, text, node=node.name, source=node.source, supported=supported, suggestion=suggestion)
                for code, text, supported, suggestion in beyond_the_chip(step)]  # fmt: skip
    if findings:
        raise HsnnError(findings)

    def whole(array: Any) -> np.ndarray:
        array = np.asarray(array, np.float64)
        return np.broadcast_to(array.reshape((1,) * len(node.shape)) if array.size == 1 else array, node.shape)

    decay = whole(step.decay)
    shift = whole(step.v_reset if step.reset == "value" else 0.0)
    unit = whole(1.0)
    theta = None
    if step.threshold is not None:
        above = whole(step.threshold) - shift
        if np.any(above <= 0):
            raise _one(node, "E0453", "a threshold that is not above the reset", "thresholds above the reset", "")
        same = bool(np.all(above == above.flat[0]))
        unit, theta = (unit, float(above.flat[0])) if same else (above, 1.0)
    v_init = (whole(step.v_init) - shift) / unit
    if not np.all(v_init == v_init.flat[0]):
        text = "start potentials that differ, in units of the threshold"
        raise _one(node, "E0445", text, "one start potential per population", "--dynamics v_init=")
    gain = whole(step.gain) / unit
    cuba = step.current_decay is not None
    current_leak = whole(0.0 if step.current_leak is None else step.current_leak)
    return Rule(
        decay=decay,
        current_decay=None if step.current_decay is None else whole(step.current_decay),
        theta=theta,
        v_init=float(v_init.flat[0]),
        gain=gain * whole(step.w_in) if cuba else gain,
        potential_gain=gain,
        bias=(whole(step.leak) - (1 - decay) * shift) / unit,
        current_bias=gain * current_leak,
        shift=shift,
        unit=unit,
        subtracts=step.reset == "subtract",
        taken=taken_at_a_spike(step),
        inclusive=step.inclusive,
        max_spikes=step.max_spikes if step.threshold is not None else 1,
    )


def _one(node: Node, code: str, message: str, supported: str, suggestion: str) -> HsnnError:
    return HsnnError(
        Finding(code, message, node=node.name, source=node.source, supported=supported, suggestion=suggestion)
    )
