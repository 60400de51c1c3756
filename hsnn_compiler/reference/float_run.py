"""One pass of a batch through a graph in floating point, a stretch of time after the other.

Value nodes hold [batch, ...], everything per step [time, batch, ...]. What feeds forward is
evaluated layer by layer over the whole stretch; the nodes of a loop together, step by step.
States of neurons and what is on its way along delayed edges wait here for the next stretch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.dynamics import delay_steps
from hsnn_compiler.ir.graph import Edge, Node
from hsnn_compiler.ir.order import is_later, is_loop
from hsnn_compiler.ir.quant import STATE_SHIFT, CurrentQuant
from hsnn_compiler.reference.batches import has_time
from hsnn_compiler.reference.result import Record

if TYPE_CHECKING:
    from hsnn_compiler.reference.float_executor import FloatExecutor


class FloatRun:
    """States and signals of one batch.

    Args:
        executor: the bound graph.
        record: signals to keep.
        reset_interval: steps between two returns of a population to its start state, see
            `FloatExecutor.run`.
    """

    def __init__(self, executor: FloatExecutor, record: Collection[Record], reset_interval: int | None) -> None:
        self.executor = executor
        self.graph = executor.graph
        self.record = set(record)
        self.reset_interval = reset_interval
        self.step = 0  # steps done before this stretch
        self.signals: dict[str, Tensor] = {}
        self.trace: dict[Record, Tensor] = {}
        self.spikes: dict[str, float] = {}
        self._states: dict[str, Any] = {}
        self._tails: dict[object, Tensor] = {}

    def advance(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run one stretch: inputs [batch, ...] or [time, batch, ...]; returns the outputs, time first."""
        self.signals, self.trace = {}, {}
        outputs = {}
        steps = 0
        for position, group in enumerate(self.executor.groups):
            if is_loop(self.graph, group):
                self._loop(group)
            else:
                self.signals[group[0].name] = self._evaluate(group[0], inputs)
            for node in group:
                value = self.signals[node.name]
                steps = len(value) if has_time(node) else steps
                if (node.name, "s") in self.record:
                    self.trace[node.name, "s"] = value
                if node.kind == "Output":
                    outputs[node.name] = value
                if node.is_spiking:
                    self.spikes[node.name] = self.spikes.get(node.name, 0) + float(
                        value.detach().sum(dtype=torch.float64)
                    )
            for name in self.executor.last_use.get(position, ()):
                del self.signals[name]
        self.step += steps
        return outputs

    # -- over the whole stretch ---------------------------------------------------------------

    def _evaluate(self, node: Node, inputs: Mapping[str, Tensor]) -> Tensor:
        if node.kind == "Input":
            return inputs[node.name]
        parts = [self._along(edge) for edge in self.graph.in_edges(node.name)]
        if node.kind == "Encode":
            return self._encode(node, add(parts))
        if node.kind == "Decode":
            return decode(node, add(parts))
        if node.kind == "Delay":
            return self._delay(node, add(parts))
        if node.name in self.executor.neurons:
            return self._scan(node, add(parts))
        if node.kind == "Concat":
            return torch.cat(parts, dim=node.op.axis % len(node.shape) + (2 if has_time(node) else 1))
        return self._stateless(node, add(parts))

    def _along(self, edge: Edge) -> Tensor:
        """What arrives over an edge: the signal of its source, `delay` steps later."""
        value = self.signals[edge.src]
        return value if not edge.delay else self._later(edge, value, edge.delay)

    def _later(self, key: object, value: Tensor, steps: int) -> Tensor:
        """[time, ...] moved by some steps; the first ones come from the stretch before, or are zero."""
        whole = self._with_tail(key, value, steps)
        return whole[: len(value)]

    def _with_tail(self, key: object, value: Tensor, steps: int) -> Tensor:
        tail = self._tails.get(key)
        if tail is None:
            tail = value.new_zeros((steps, *value.shape[1:]))
        whole = torch.cat([tail, value])
        self._tails[key] = whole[len(value) :]
        return whole

    def _delay(self, node: Node, value: Tensor) -> Tensor:
        assert node.dynamics is not None
        steps = torch.from_numpy(delay_steps(node.op, node.dynamics))
        longest = int(steps.max())
        whole = self._with_tail(node.name, value, longest)
        if steps.numel() == 1 or bool((steps == longest).all()):
            return whole[: len(value)]
        steps = steps.expand(node.shape)
        out = torch.zeros_like(value)
        for wait in steps.unique().tolist():
            start = longest - wait
            out = torch.where(steps == wait, whole[start : start + len(value)], out)
        return out

    def _stateless(self, node: Node, value: Tensor) -> Tensor:
        function = self.executor.bound[node.name]
        if not has_time(node):
            return function(value)
        if value.stride(0) == 0:  # the same at every step
            return function(value[0]).expand(len(value), *[-1] * (len(node.shape) + 1))
        if self.executor.method == "steps":
            # Not folded into the batch: convolution kernels are chosen by batch size, and only the
            # source's own batch size gives the source's own rounding.
            return torch.stack([function(step) for step in value])
        return function(value.flatten(0, 1)).unflatten(0, value.shape[:2])

    def _encode(self, node: Node, value: Tensor) -> Tensor:
        if self.graph.timesteps is None:
            raise refuse("E0105", "an Encode in a graph that does not say its number of time steps", node=node.name)
        if isinstance(node.quant, CurrentQuant):
            value = torch.from_numpy(node.quant.present(value.numpy())[0]).to(self.executor.dtype)
            value = value * (2.0**node.quant.exponent / (node.quant.scale * 2**STATE_SHIFT))
        return value.unsqueeze(0).expand(self.graph.timesteps, *[-1] * value.ndim)

    # -- neurons ------------------------------------------------------------------------------

    def _state(self, node: Node, step: int, shape: tuple[int, ...]) -> Any:
        """State in which a population begins a step, counted from 0."""
        if node.name not in self._states or self._returns(node, step):
            self._states[node.name] = self.executor.neurons[node.name].start(shape)
        return self._states[node.name]

    def _returns(self, node: Node, step: int) -> bool:
        if self.reset_interval is None:
            return False
        layer = self.executor.layers[node.name]
        return step >= layer and (step - layer) % self.reset_interval == 0

    def _scan(self, node: Node, current: Tensor) -> Tensor:
        neuron = self.executor.neurons[node.name]
        outputs = []
        kept: dict[str, list[Tensor]] = {v: [] for v in neuron.VARIABLES if (node.name, v) in self.record}
        for t, i in enumerate(current):
            state = self._state(node, self.step + t, i.shape)
            outputs.append(neuron.step(i, state))
            for variable, values in kept.items():
                values.append(getattr(state, variable))
        self.trace.update({(node.name, variable): torch.stack(values) for variable, values in kept.items()})
        return torch.stack(outputs)

    # -- loops --------------------------------------------------------------------------------

    def _loop(self, group: list[Node]) -> None:
        """Evaluate the nodes of a loop, step by step."""
        members = {node.name for node in group}
        edges = {node.name: self.graph.in_edges(node.name) for node in group}
        outside = {e: self._along(e) for feeds in edges.values() for e in feeds if e.src not in members}
        if not outside:
            raise refuse("E0105", "a loop that nothing feeds", node=group[0].name)
        first = next(iter(outside.values()))
        loop = _Loop(self, edges, outside, first.shape[1])
        for t in range(len(first)):
            for node in group:
                loop.evaluate(node, t)
            for node in group:
                loop.finish(node, t)
        loop.keep()


class _Loop:
    """The signals of one loop during one stretch, each with what earlier steps left."""

    def __init__(self, run: FloatRun, edges: dict[str, list[Edge]], outside: dict[Edge, Tensor], batch: int) -> None:
        self.run, self.edges, self.outside, self.batch = run, edges, outside, batch
        self.reach = max(e.delay for feeds in edges.values() for e in feeds)
        self.past: dict[str, list[Tensor]] = {name: self._tail(name) for name in edges}
        self.arrived: dict[str, list[Tensor]] = {}
        self.states: dict[Record, list[Tensor]] = {}
        self.delays = {}
        for name in edges:
            node = run.graph[name]
            if node.kind == "Delay":
                assert node.dynamics is not None
                steps = torch.from_numpy(delay_steps(node.op, node.dynamics)).expand(node.shape)
                self.delays[name] = steps
                longest = int(steps.max())
                tail = run._tails.get((name, "arrived"))
                self.arrived[name] = list(self._zeros(name, longest) if tail is None else tail)

    def _zeros(self, name: str, steps: int) -> Tensor:
        return torch.zeros((steps, self.batch, *self.run.graph[name].shape), dtype=self.run.executor.dtype)

    def _tail(self, name: str) -> list[Tensor]:
        tail = self.run._tails.get(name)
        return list(self._zeros(name, self.reach) if tail is None else tail)

    def evaluate(self, node: Node, t: int) -> None:
        """What a node puts out in step t of the stretch."""
        run, name = self.run, node.name
        if name in self.delays:
            if not self._breaks(node):
                self._arrive(node, t)
            value = self._delayed(name, t)
        else:
            parts = self._parts(name, t)
            if name in run.executor.neurons:
                state = run._state(node, run.step + t, parts[0].shape)
                neuron = run.executor.neurons[name]
                value = neuron.step(add(parts), state)
                for variable in neuron.VARIABLES:
                    if (name, variable) in run.record:
                        self.states.setdefault((name, variable), []).append(getattr(state, variable))
            elif node.kind == "Concat":
                value = torch.cat(parts, dim=node.op.axis % len(node.shape) + 1)
            else:
                value = run.executor.bound[name](add(parts))
        self.past[name].append(value)

    def finish(self, node: Node, t: int) -> None:
        """Take in what a Delay gets in this step, once everything else is known."""
        if node.name in self.delays and self._breaks(node):
            self._arrive(node, t)

    def keep(self) -> None:
        """Hand the signals over, and keep the last steps for the next stretch."""
        for name, values in self.past.items():
            self.run.signals[name] = torch.stack(values[self.reach :])
            if self.reach:
                self.run._tails[name] = torch.stack(values[-self.reach :])
        for name, values in self.arrived.items():
            longest = int(self.delays[name].max())
            if longest:
                self.run._tails[name, "arrived"] = torch.stack(values[-longest:])
        self.run.trace.update({key: torch.stack(values) for key, values in self.states.items()})

    def _parts(self, name: str, t: int) -> list[Tensor]:
        return [
            self.outside[e][t] if e in self.outside else self.past[e.src][self.reach + t - e.delay]
            for e in self.edges[name]
        ]

    def _breaks(self, node: Node) -> bool:
        return all(is_later(self.run.graph, edge) for edge in self.edges[node.name])

    def _arrive(self, node: Node, t: int) -> None:
        self.arrived[node.name].append(add(self._parts(node.name, t)))

    def _delayed(self, name: str, t: int) -> Tensor:
        steps, arrived = self.delays[name], self.arrived[name]
        longest = int(steps.max())
        out = torch.zeros((self.batch, *steps.shape), dtype=self.run.executor.dtype)
        for wait in steps.unique().tolist():
            out = torch.where(steps == wait, arrived[longest + t - wait], out)
        return out


def add(parts: list[Tensor]) -> Tensor:
    """Everything that arrives at a port, added up."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def decode(node: Node, value: Tensor) -> Tensor:
    """[time, batch, ...] to [batch, ...]."""
    kind = node.op.kind
    out = value[-1] if kind == "last" else value.sum(0) if kind == "sum" else value.mean(0)
    return out if node.op.gain == 1 else out * node.op.gain
