"""What snnTorch's neurons share: from their coefficients and options to a node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
import torch

from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.feedback import Feedback
from hsnn_compiler.frontends.torch.registry import Unsupported
from hsnn_compiler.frontends.torch.stateful import arrays, initial, neuron, scalar
from hsnn_compiler.ir.dynamics import Dynamics

Tensor = torch.Tensor


@dataclass(frozen=True)
class Rule:
    """What a neuron of this call computes; the coefficients are tensors that broadcast as in the library."""

    call: Call
    mod: Any
    current: Tensor
    reset_at: str
    decay: Tensor
    gain: Tensor | float = 1.0
    current_decay: Tensor | None = None

    def emitted(
        self,
        given: Sequence[tuple[str, Tensor | None]],
        names: str,
        recurrent: Any = None,
        spikes: Tensor | None = None,
    ) -> str:
        """The node that puts out the spikes.

        Args:
            given: states handed to the call.
            names: what the call returns: ``s``, ``u`` and ``v``.
            recurrent: the op of the weights from its own spikes, if it has them.
            spikes: its spikes of the step before as they were handed to the call.
        """
        call, mod, tracer = self.call, self.mod, self.call.tracer
        check_spikes(mod)
        has_u = self.current_decay is not None
        parts = [self.decay, self.gain, mod.threshold, self.current_decay if has_u else 0.0]
        decay, gain, threshold, current_decay = arrays(call.shape(self.current), *parts)
        given = [(name, fitting(state, self.current)) for name, state in given]
        self._check_start(given, threshold)
        dynamics = Dynamics(
            integrator="none",
            decay=scalar(decay),
            gain=scalar(gain),
            leak=0.0,
            current_decay=scalar(current_decay) if has_u else None,
            current_gain=1.0 if has_u else None,
            reset=mod.reset_mechanism,
            reset_at=self.reset_at,
        )
        feed = feedback = None
        if recurrent is not None:
            self._check_spikes_given(spikes)
            feedback = Feedback(call, mod, recurrent)
            feed = feedback.added_to(call.node(self.current))
        integrates = mod.reset_mechanism == "none"
        op = op_of(decay, current_decay if has_u else None, None if integrates else threshold)
        kept = {"u": getattr(mod, "syn", None), "v": mod.mem}  # read by the model's code, perhaps
        out = (call.out, *(kept[what] for what in names[1:])) if mod.init_hidden and not mod.output else call.out
        results = list(zip(out, names, strict=True))
        states = [(tensor, what) for tensor, what in results if what != "s" or not integrates]
        node = neuron(call, mod, op, dynamics, self.current, given, states, feed=feed)
        behind = call.emit(nir.Threshold(threshold), node, stem=f"{call.stem}.spikes") if integrates else node
        behind = tracer.behind[node] = graded(call, mod, behind)
        own = [(tensor, made, state) for tensor, made, state in call.results or [] if tensor is not out[0]]
        call.results = [(out[0], behind, None), *own]
        return behind

    def _check_start(self, given: Sequence[tuple[str, Tensor | None]], threshold: np.ndarray) -> None:
        """A potential that starts above the threshold is reset in the first step: not in the contract."""
        waits = self.reset_at in ("before", "after") and self.mod.reset_mechanism != "none"
        for name, state in given:
            if name != "v" or (state is not None and self.call.is_traced(state)):
                continue
            start = 0.0 if state is None else np.asarray(initial(self.call, state))  # kept by itself: from zero
            if waits and np.any(start > threshold):
                raise Unsupported("a membrane potential that starts above the threshold", "one that starts below it")

    def _check_spikes_given(self, spikes: Tensor | None) -> None:
        """Recurrent spikes that are handed to the call have to be those of the call before."""
        call, calls = self.call, self.call.tracer.calls.get(id(self.mod), [])
        if spikes is None or spikes.shape != self.current.shape:
            return
        if call.is_traced(spikes):
            if not calls or call.node(spikes) != call.tracer.behind[calls[-1]]:
                message = f"{type(self.mod).__name__} gets other spikes than its own of the step before"
                raise Unsupported(message, "the spikes that its call before returned", code="E0407")
        elif calls or np.any(initial(call, spikes)):
            message = f"{type(self.mod).__name__} gets constant spikes as those of the step before"
            raise Unsupported(message, "zeros at the first step, then its own spikes", code="E0407")


def op_of(decay: np.ndarray, current_decay: np.ndarray | None, threshold: np.ndarray | None) -> Any:
    """The NIR neuron; `Dynamics` holds the real coefficients, time constants only describe them."""
    tau = 1 / np.maximum(1 - decay, 1e-12)
    shared: dict[str, Any] = {"r": tau.copy(), "v_leak": np.zeros_like(tau)}
    if threshold is not None:
        shared |= {"v_threshold": threshold, "v_reset": np.zeros_like(tau)}
    if current_decay is None:
        return (nir.LI if threshold is None else nir.LIF)(tau=tau, **shared)
    tau_syn = 1 / np.maximum(1 - current_decay, 1e-12)
    kind = nir.CubaLI if threshold is None else nir.CubaLIF
    return kind(tau_mem=tau, tau_syn=tau_syn, w_in=np.ones_like(tau), **shared)


def reset_at(mod: Any, delayed_zero: str, delayed: bool = False) -> str:
    """When the reset acts; `delayed_zero` says where in the next step a delayed reset to zero does."""
    if mod.reset_mechanism == "none":
        return "spike"
    if delayed or mod.reset_delay:
        return delayed_zero if mod.reset_mechanism == "zero" else "after"
    if mod.reset_mechanism == "subtract":
        return "undelayed"
    if bool((mod.threshold < 0).any()):
        raise Unsupported("reset_delay=False with a threshold below zero", "a threshold of zero or more")
    return "spike"


def recurrent_weights(call: Call, mod: Any, input_: Tensor) -> Any:
    """The op of a recurrent neuron's weights."""
    recurrent, shape = mod.recurrent, call.shape(input_)
    if type(recurrent) is torch.nn.Linear:
        weight = call.array(recurrent.weight)
        return nir.Linear(weight) if recurrent.bias is None else nir.Affine(weight, call.array(recurrent.bias))
    if type(recurrent) is torch.nn.Conv2d and recurrent.padding_mode == "zeros":
        weight = call.array(recurrent.weight)
        bias = np.zeros(len(weight), np.float32) if recurrent.bias is None else call.array(recurrent.bias)
        size = (shape[1], shape[2])
        return nir.Conv2d(size, weight, recurrent.stride, recurrent.padding, recurrent.dilation, recurrent.groups, bias)
    if type(recurrent).__name__ == "RecurrentOneToOne":
        return nir.Scale(np.array(np.broadcast_to(call.array(recurrent.V), shape)))
    raise Unsupported(f"recurrent weights of class {type(recurrent).__name__}", "nn.Linear, nn.Conv2d, V")


def graded(call: Call, mod: Any, node: str) -> str:
    """Behind a neuron whose spikes carry a weight: that factor."""
    factor = mod.graded_spikes_factor
    if bool((factor == 1).all()):
        return node
    shape = call.tracer.graph[node].shape
    (array,) = arrays(shape, factor)
    return call.emit(nir.Scale(np.array(np.broadcast_to(array, shape), np.float32)), node, stem=f"{call.stem}.graded")


def fitting(state: Tensor | None, input_: Tensor) -> Tensor | None:
    """A state of another shape than the input's is replaced by zeros."""
    return state if state is not None and state.shape == input_.shape else None


def check_spikes(mod: Any) -> None:
    """Refuse options that change which spikes there are."""
    kind = type(mod).__name__
    for option in ("inhibition", "state_quant"):
        if getattr(mod, option, False):
            raise Unsupported(f"{kind} with {option}", f"{kind} without {option}")
    probe = torch.tensor([-2.0, -1e-3, 0.0, 1e-3, 0.5, 3.0])
    if not torch.equal(mod.spike_grad(probe).float(), (probe > 0).float()):
        raise Unsupported(f"{kind} whose spike_grad is no step function", "the functions of snntorch.surrogate")
