"""One population in floating point: its step, written out, and the scan over time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.dynamics import discretize
from hsnn_compiler.ir.graph import Node
from hsnn_compiler.nn.surrogate import SURROGATES


@dataclass
class State:
    """What a population remembers from one step to the next, each [batch, ...].

    Attributes:
        v: membrane potential.
        u: synaptic current.
        fired: spikes of the last step, where the reset waits for the next, or with reset_at="undelayed" where v
            is still above the threshold; else None.
        held: refractory steps left; None where there are none.
        onward: potential that the next step begins with, where that is not `v` (reset_to_current); else None.
    """

    v: Tensor
    u: Tensor
    fired: Tensor | None = None
    held: Tensor | None = None
    onward: Tensor | None = None


class FloatNeuron:
    """The step of `Dynamics`, in torch.

    Args:
        node: a neuron with dynamics, its type known.
        dtype: of all states and outputs.
        parameter: makes the tensor of a parameter from its name and values; lets the caller keep
            hold of it, for gradients.
        surrogate: name of the surrogate gradient, None for none.
        relative: whether its distance to threshold is counted in thresholds.

    Attributes:
        detach_reset: whether a reset carries no gradient; False at first.
    """

    VARIABLES = ("u", "v")

    def __init__(
        self,
        node: Node,
        dtype: torch.dtype,
        parameter: Callable[[str, np.ndarray], Tensor],
        surrogate: str | None = None,
        relative: bool = False,
    ) -> None:
        if node.dynamics is None:
            raise refuse("E0105", "a neuron without dynamics", node=node.name)
        self.step_rule = c = discretize(node.op, node.dynamics)
        self.surrogate = SURROGATES[surrogate] if surrogate else None
        self.relative, self.detach_reset = relative, False
        self.dtype = dtype
        rank = len(node.shape)

        def tensor(name: str, array: np.ndarray) -> Tensor:
            # Parameters of shape () or (1,) broadcast against anything; others have the node's rank.
            return parameter(name, array.reshape((1,) * rank) if array.size == 1 else array)

        def maybe(name: str, array: np.ndarray | None) -> Tensor | None:
            return None if array is None else tensor(name, array)

        self.decay, self.gain, self.leak = tensor("decay", c.decay), tensor("gain", c.gain), tensor("leak", c.leak)
        self.v_reset, self.v_init = tensor("v_reset", c.v_reset), tensor("v_init", c.v_init)
        self.threshold, self.v_min = maybe("threshold", c.threshold), maybe("v_min", c.v_min)
        self.current_decay, self.w_in = maybe("current_decay", c.current_decay), maybe("w_in", c.w_in)
        self.current_leak, self.u_init = maybe("current_leak", c.current_leak), maybe("u_init", c.u_init)
        self.leaks = bool(c.leak.any()) or self.leak.requires_grad

    def start(self, shape: tuple[int, ...]) -> State:
        """The state before the first step, for inputs [batch, ...] of this shape."""
        v = self.v_init.expand(shape)
        zero = torch.zeros(shape, dtype=self.dtype, device=v.device)
        waits = self.step_rule.reset_at in ("before", "after")
        u = zero if self.u_init is None else self.u_init.expand(shape)
        fired = zero if waits else None
        if self.step_rule.reset_at == "undelayed" and self.threshold is not None:
            fired = self._spikes(v).detach()
        return State(v, u, fired, zero if self.step_rule.refractory else None)

    def step(self, i: Tensor, state: State) -> Tensor:
        """One step on input `i` [batch, ...]; changes the state and returns what the population puts out."""
        c = self.step_rule
        v = began = state.v if state.onward is None else state.onward
        if state.fired is not None and c.reset_at == "before":
            v = self._reset(v, state.fired)
        before = state.u
        if self.current_decay is not None and self.w_in is not None:
            state.u = self.current_decay * before + self.w_in * i
            if self.current_leak is not None:
                state.u = state.u + self.current_leak
        else:
            state.u = i
        integrated = self.decay * v + self.gain * (state.u if c.current_first else before)
        if self.leaks:
            integrated = integrated + self.leak
        v = integrated if state.held is None else torch.where(state.held > 0, v, integrated)
        if c.reset_to_current:
            v = self._reset_to_current(v, began - before, state)
        elif state.fired is not None and c.reset_at in ("after", "undelayed"):
            v = self._reset(v, state.fired)
            if c.reset_current:
                state.u = torch.where(state.fired > 0, torch.zeros_like(state.u), state.u)
        if self.v_min is not None:
            v = torch.maximum(v, self.v_min)
        if self.threshold is None:
            state.v = v
            return v
        s = self._spikes(v)
        if state.held is not None:
            s = torch.where(state.held > 0, torch.zeros_like(s), s)
            state.held = torch.where(s > 0, torch.full_like(s, c.refractory), (state.held - 1).clamp(min=0))
        if c.reset_at == "crossing":
            v = torch.where(s > 0, self._after_crossing(state.v, self.gain * state.u + self.leak), v)
        elif state.fired is None:
            v = self._reset(v, s)
        elif c.reset_at == "undelayed":
            v = self._reset(v, s - state.fired)
            state.fired = self._spikes(v).detach()
        else:
            state.fired = s
        state.v = v
        return s

    def _reset_to_current(self, v: Tensor, apart: Tensor, state: State) -> Tensor:
        """What is tested, where a reset takes the threshold from u and v goes on from u; changes the state.

        Args:
            v: integrated potential.
            apart: v - u as the step began.
            state: of the population, u integrated.
        """
        assert state.fired is not None
        assert self.threshold is not None
        assert self.w_in is not None
        fired = state.fired > 0
        state.u = torch.where(fired, state.u - self.w_in * self.threshold, state.u)
        state.onward = torch.where(fired, state.u, v)
        return torch.where(fired, v + apart / self.w_in, v)

    def _after_crossing(self, v: Tensor, drive: Tensor) -> Tensor:
        """Potential at the end of a step in which v reaches the threshold on its way.

        With v(t) = v_inf + (v - v_inf) exp(-t/tau), the crossing is at exp(t*/tau) = (v_inf - v) / (v_inf - threshold),
        and from v_reset it goes on for dt - t*. Where v is there already as the step begins, t* is 0.
        """
        assert self.threshold is not None
        final = drive / (1 - self.decay)
        left = torch.where(v < self.threshold, self.decay * (final - v) / (final - self.threshold), self.decay)
        start = torch.zeros_like(self.v_reset) if self.step_rule.reset == "zero" else self.v_reset
        return final + (start - final) * left

    def _spikes(self, v: Tensor) -> Tensor:
        assert self.threshold is not None
        c = self.step_rule
        if c.max_spikes == 1:
            s = (v >= self.threshold if c.inclusive else v > self.threshold).to(v.dtype)
            if self.surrogate is None:
                return s
            unit = self._unit()
            soft: Tensor = self.surrogate.apply(v / unit, self.threshold / unit)  # type: ignore[no-untyped-call]
            return s + (soft - soft.detach())
        ratio = v / self.threshold
        s = (ratio.floor() if c.inclusive else ratio.ceil() - 1).clamp(min=0, max=c.max_spikes or None)
        if self.surrogate is None:
            return s
        # As often as the threshold fits in: on average one spike per threshold, wherever v is positive.
        soft = ratio.clamp(min=0)
        return s.detach() + (soft - soft.detach())

    def _unit(self) -> Tensor | float:
        """What the surrogate's distance to threshold is counted in."""
        if not self.relative or self.threshold is None:
            return 1.0
        return torch.where(self.threshold > 0, self.threshold, torch.ones_like(self.threshold))

    def _reset(self, v: Tensor, s: Tensor) -> Tensor:
        reset = self.step_rule.reset
        if self.detach_reset:
            s = s.detach()
        if reset == "subtract" and self.threshold is not None:
            return v - s * self.threshold
        if reset == "zero":
            return v * (1 - s) if self.step_rule.max_spikes == 1 else torch.where(s > 0, torch.zeros_like(v), v)
        if reset == "value":
            return torch.where(s > 0, self.v_reset, v)
        return v


@dataclass
class SigmaDeltaState:
    """State of a sigma-delta population, each [batch, ...]; ``u`` is sigma, ``v`` the activation."""

    u: Tensor
    v: Tensor
    residue: Tensor
    error: Tensor


class FloatSigmaDelta:
    """A `SigmaDelta` or `DeltaEncoder` in torch; arguments and methods as `FloatNeuron`.

    Like Lava's floating-point model it fires where ``|delta| >= threshold``.
    """

    VARIABLES = ("u", "v")

    def __init__(self, node: Node, dtype: torch.dtype, parameter: Callable[[str, np.ndarray], Tensor]) -> None:
        self.op = node.op
        self.encodes = node.kind == "DeltaEncoder"
        self.dtype = dtype
        self.threshold = parameter("threshold", np.asarray(node.op.threshold))
        self.bias = None if self.encodes else parameter("bias", np.asarray(node.op.bias))

    def start(self, shape: tuple[int, ...]) -> SigmaDeltaState:
        """All zero."""
        zero = torch.zeros(shape, dtype=self.dtype, device=self.threshold.device)
        return SigmaDeltaState(zero, zero, zero, zero)

    def step(self, i: Tensor, state: SigmaDeltaState) -> Tensor:
        """One step; returns the payload, zero where nothing is sent."""
        state.u = i if self.encodes else state.u + i
        act = state.u if self.bias is None else state.u + self.bias
        if not self.encodes and self.op.activation == "relu":
            act = act.clamp(min=0)
        delta = act - state.v + state.residue
        state.v = act
        compared = delta
        if self.op.cumulative:
            state.error = compared = state.error + delta
        sent = torch.where(compared.abs() >= self.threshold, delta, torch.zeros_like(delta))
        if self.op.cumulative:
            state.error = torch.where(sent != 0, torch.zeros_like(delta), state.error)
        state.residue = delta - sent
        return sent
