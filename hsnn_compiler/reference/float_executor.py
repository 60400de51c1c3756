"""The float executor: what a graph means, in torch, batched.

Value nodes run once per sample on [batch, ...]; everything between Encode and Decode runs
per time step on [time, batch, ...], layer by layer. A signal that is the same at every step
(direct coding) is kept once and expanded, so that linear ops on it run once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.dynamics import StepCoefficients, discretize
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.quant import STATE_SHIFT, CurrentQuant
from hsnn_compiler.ir.types import Coding
from hsnn_compiler.reference.batches import BATCH_SIZE, Inputs, run_in_batches
from hsnn_compiler.reference.result import Record, Result
from hsnn_compiler.reference.torch_ops import bind, tensor


class FloatExecutor:
    """Runs a graph in floating point.

    Args:
        graph: any legal graph, acyclic.
        dtype: torch.float32 (as the source model usually is) or torch.float64.
    """

    def __init__(self, graph: Graph, dtype: torch.dtype = torch.float32) -> None:
        self.graph = graph
        self.dtype = dtype
        self.order = graph.topological()
        self._last_use = _last_uses(graph, self.order)
        self._bound = {
            node.name: bind(node.op, dtype)
            for node in self.order
            if not node.is_neuron and node.kind not in ("Encode", "Decode", "Concat")
        }
        self._neurons = {node.name: _Neuron(node, dtype) for node in self.order if node.is_neuron}

    def run(
        self,
        inputs: Inputs,
        record: Collection[Record] = (),
        batch_size: int = BATCH_SIZE,
        progress: Callable[[int, int], None] | None = None,
    ) -> Result:
        """Run samples in batches.

        Args:
            inputs: [samples, ...], or one such array per input node.
            record: signals to keep, see `Record`.
            batch_size: samples at a time; bounds the memory.
            progress: called as (samples done, all samples).
        """
        return run_in_batches(self.graph, inputs, batch_size, lambda batch: self.run_batch(batch, record), progress)

    @torch.no_grad()
    def run_batch(self, inputs: Mapping[str, np.ndarray], record: Collection[Record] = ()) -> Result:
        """Run one batch."""
        signals: dict[str, Tensor] = {}
        result = Result()
        for position, node in enumerate(self.order):
            if node.kind == "Input":
                value = tensor(inputs[node.name], self.dtype)
            elif node.is_neuron:
                neuron = self._neurons[node.name]
                keep = {variable for name, variable in record if name == node.name}
                value, states = neuron.scan(self._input(node, signals), keep)
                result.trace.update({(node.name, v): _samples_first(state) for v, state in states.items()})
                if node.is_spiking:
                    result.spikes[node.name] = int(value.sum(dtype=torch.float64))
            else:
                value = self._stateless(node, signals)
            signals[node.name] = value
            if (node.name, "s") in record:
                result.trace[node.name, "s"] = _samples_first(value) if _per_step(node) else value.numpy().copy()
            if node.kind == "Output":
                result.outputs[node.name] = _samples_first(value) if _per_step(node) else value.numpy().copy()
            for name in self._last_use.get(position, ()):
                del signals[name]
        return result

    def _input(self, node: Node, signals: Mapping[str, Tensor]) -> Tensor:
        """Everything that arrives at a node's one port, added up."""
        edges = self.graph.in_edges(node.name)
        total = signals[edges[0].src]
        for edge in edges[1:]:
            total = total + signals[edge.src]
        return total

    def _stateless(self, node: Node, signals: Mapping[str, Tensor]) -> Tensor:
        if node.kind == "Encode":
            return self._encode(node, self._input(node, signals))
        if node.kind == "Decode":
            return _decode(node, self._input(node, signals))
        if node.kind == "Concat":
            parts = [signals[edge.src] for edge in self.graph.in_edges(node.name)]
            axis = node.op.axis % len(node.shape)
            return torch.cat(parts, dim=axis + (2 if _per_step(node) else 1))
        value = self._input(node, signals)
        function = self._bound[node.name]
        if not _per_step(node):
            return function(value)
        if value.stride(0) == 0:  # the same at every step
            return function(value[0]).expand(len(value), *[-1] * (len(node.shape) + 1))
        # Step by step, not folded into the batch: convolution kernels are chosen by batch size, and
        # only the source's own batch size gives the source's own rounding.
        return torch.stack([function(step) for step in value])

    def _encode(self, node: Node, value: Tensor) -> Tensor:
        if self.graph.timesteps is None:
            raise refuse("E0105", "an Encode in a graph that does not say its number of time steps", node=node.name)
        if isinstance(node.quant, CurrentQuant):
            value = torch.from_numpy(node.quant.present(value.numpy())[0]).to(self.dtype)
            value = value * (2.0**node.quant.exponent / (node.quant.scale * 2**STATE_SHIFT))
        return value.unsqueeze(0).expand(self.graph.timesteps, *[-1] * value.ndim)


class _Neuron:
    """One population: its step coefficients as tensors, and the scan over time."""

    def __init__(self, node: Node, dtype: torch.dtype) -> None:
        if node.dynamics is None:
            raise refuse("E0105", "a neuron without dynamics", node=node.name)
        c = discretize(node.op, node.dynamics)
        self.reset, self.inclusive = c.reset, c.inclusive
        rank = len(node.shape)
        self.decay, self.gain, self.leak, self.v_reset, self.v_init = (
            _broadcastable(a, rank, dtype) for a in (c.decay, c.gain, c.leak, c.v_reset, c.v_init)
        )
        self.threshold = None if c.threshold is None else _broadcastable(c.threshold, rank, dtype)
        self.current = _current(c, rank, dtype)
        self.leaks = bool((self.leak != 0).any())

    def scan(self, current: Tensor, keep: set[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """Integrate `current` [time, batch, ...]; returns the output and the states in `keep`."""
        v = self.v_init.expand(current.shape[1:])
        u = torch.zeros_like(current[0])
        output = torch.empty(current.shape, dtype=current.dtype)
        states = {name: torch.empty(current.shape, dtype=current.dtype) for name in keep & {"u", "v"}}
        for t, i in enumerate(current):
            u = i if self.current is None else self.current[0] * u + self.current[1] * i
            v = self.decay * v + self.gain * u
            if self.leaks:
                v = v + self.leak
            if self.threshold is None:
                output[t] = v
            else:
                s = (v >= self.threshold if self.inclusive else v > self.threshold).to(v.dtype)
                v = self._after_spike(v, s)
                output[t] = s
            for name, state in states.items():
                state[t] = u if name == "u" else v
        return output, states

    def _after_spike(self, v: Tensor, s: Tensor) -> Tensor:
        if self.reset == "subtract" and self.threshold is not None:
            return v - s * self.threshold
        if self.reset == "zero":
            return v * (1 - s)
        if self.reset == "value":
            return torch.where(s > 0, self.v_reset, v)
        return v


def _current(c: StepCoefficients, rank: int, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    if c.current_decay is None or c.w_in is None:
        return None
    return _broadcastable(c.current_decay, rank, dtype), _broadcastable(c.w_in, rank, dtype)


def _broadcastable(array: np.ndarray, rank: int, dtype: torch.dtype) -> Tensor:
    """Parameters of shape () or (1,) broadcast against anything; others have the node's rank."""
    return tensor(array.reshape((1,) * rank) if array.size == 1 else array, dtype)


def _decode(node: Node, value: Tensor) -> Tensor:
    kind = node.op.kind
    out = value[-1] if kind == "last" else value.sum(0) if kind == "sum" else value.mean(0)
    return out if node.op.gain == 1 else out * node.op.gain


def _per_step(node: Node) -> bool:
    return node.type is not None and node.type.coding is not Coding.VALUE


def _samples_first(value: Tensor) -> np.ndarray:
    return np.ascontiguousarray(value.transpose(0, 1).numpy())


def _last_uses(graph: Graph, order: list[Node]) -> dict[int, list[str]]:
    """For every position in the order, the signals that nothing after it needs."""
    position = {node.name: i for i, node in enumerate(order)}
    uses: dict[int, list[str]] = {}
    for node in order:
        last = max((position[edge.dst] for edge in graph.out_edges(node.name)), default=position[node.name])
        uses.setdefault(last, []).append(node.name)
    return uses
