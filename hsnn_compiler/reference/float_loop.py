"""The nodes of a loop, evaluated together, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hsnn_compiler.ir.dynamics import delay_steps
from hsnn_compiler.ir.graph import Edge, Node
from hsnn_compiler.ir.order import is_later
from hsnn_compiler.reference.result import Record
from hsnn_compiler.reference.values import add

if TYPE_CHECKING:
    from hsnn_compiler.reference.float_run import FloatRun


class Loop:
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
                steps = torch.from_numpy(delay_steps(node.op, node.dynamics)).to(run.executor.device).expand(node.shape)
                self.delays[name] = steps
                longest = int(steps.max())
                tail = run.tails.get((name, "arrived"))
                self.arrived[name] = list(self._zeros(name, longest) if tail is None else tail)

    def _zeros(self, name: str, steps: int) -> Tensor:
        executor, shape = self.run.executor, (steps, self.batch, *self.run.graph[name].shape)
        return torch.zeros(shape, dtype=executor.dtype, device=executor.device)

    def _tail(self, name: str) -> list[Tensor]:
        tail = self.run.tails.get(name)
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
                state = run.state(node, run.step + t, parts[0].shape)
                neuron = run.executor.neurons[name]
                value = neuron.step(add(parts), state)
                for variable in neuron.VARIABLES:
                    if (name, variable) in run.record:
                        self.states.setdefault((name, variable), []).append(getattr(state, variable))
            elif node.kind == "Concat":
                value = torch.cat(parts, dim=node.op.axis % len(node.shape) + 1)
            elif node.kind == "HostCall":
                value = run.executor.bound[name](*parts)
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
                self.run.tails[name] = torch.stack(values[-self.reach :])
        for name, values in self.arrived.items():
            longest = int(self.delays[name].max())
            if longest:
                self.run.tails[name, "arrived"] = torch.stack(values[-longest:])
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
        executor = self.run.executor
        out = torch.zeros((self.batch, *steps.shape), dtype=executor.dtype, device=executor.device)
        for wait in steps.unique().tolist():
            out = torch.where(steps == wait, arrived[longest + t - wait], out)
        return out
