"""The nodes of a loop in integers, evaluated together step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.dynamics import delay_steps
from hsnn_compiler.ir.graph import Node
from hsnn_compiler.ir.payloads import fires_once
from hsnn_compiler.reference.loihi_parameters import is_population
from hsnn_compiler.reference.values import add

if TYPE_CHECKING:
    from hsnn_compiler.reference.loihi_run import LoihiRun


class Loop:
    """One loop during one stretch of time.

    Every signal that the loop reads is kept with its last `reach` steps before the stretch, so that
    step t of the stretch is row `reach` + t.

    Args:
        run: the pass it is part of; signals of what feeds the loop are there.
        group: its nodes in an order in which one step can be evaluated.
    """

    def __init__(self, run: LoihiRun, group: list[Node]) -> None:
        self.run_, self.group = run, group
        self.edges = {node.name: run.graph.in_edges(node.name) for node in group}
        self.waits = {node.name: _waits(node) for node in group if node.kind == "Delay"}
        self.reach = max(
            edge.delay + (int(self.waits[name].max()) if name in self.waits else 0)
            for name, edges in self.edges.items()
            for edge in edges
        )
        self.states: dict[str, dict[str, list[Tensor]]] = {node.name: {} for node in group}
        self.rows: dict[str, list[Tensor]] = {}
        steps = set()
        for source in {edge.src for edges in self.edges.values() for edge in edges} - set(self.edges):
            steps.add(len(run.signals[source]))
            self.rows[source] = list(run.with_tail(f"{group[0].name} reads {source}", run.signals[source], self.reach))
        if not steps:
            raise refuse("E0105", "a loop that nothing feeds", node=group[0].name)
        self.steps = steps.pop()
        for node in group:
            self.rows[node.name] = list(run.tails.get(node.name, ())) or [_zeros(node, run.batch)] * self.reach

    def run(self) -> None:
        """Evaluate the stretch and hand the signals over."""
        for t in range(self.steps):
            for node in self.group:
                self.rows[node.name].append(self._step(node, t))
        for node in self.group:
            rows = self.rows[node.name]
            self.run_.signals[node.name] = torch.stack(rows[self.reach :])
            self.run_.tails[node.name] = torch.stack(rows[-self.reach :])
            self.run_.keep(node, {name: torch.stack(values) for name, values in self.states[node.name].items()})

    def _step(self, node: Node, t: int) -> Tensor:
        if node.name in self.waits:
            return self._delayed(node.name, t)
        parts = self._arriving(node.name, t)
        if node.kind == "Concat":
            return torch.cat(parts, dim=node.op.axis % len(node.shape) + 1)
        if node.kind == "HostCall":
            return self.run_.executor.functions[node.name](*parts)
        if not is_population(node):
            return self.run_.executor.functions[node.name](add(parts))
        population = self.run_.state(node)
        if self.run_.returns(node, t):
            population.restart()
        output = population.step(add(parts)).to(population.dtype)
        for variable in ("u", "v"):
            if (node.name, variable) in self.run_.record:
                value = getattr(population, variable).to(torch.int32)
                self.states[node.name].setdefault(variable, []).append(value)
        return output

    def _arriving(self, name: str, t: int) -> list[Tensor]:
        return [self.rows[edge.src][self.reach + t - edge.delay] for edge in self.edges[name]]

    def _delayed(self, name: str, t: int) -> Tensor:
        """What a Delay puts out, which for long enough waits is known before what arrives there now."""
        waits = self.waits[name]
        out = torch.zeros((), dtype=torch.int32)
        for wait in waits.unique().tolist():
            out = torch.where(waits == wait, add(self._arriving(name, t - wait)), out)
        return out


def _waits(node: Node) -> Tensor:
    assert node.dynamics is not None
    return torch.from_numpy(delay_steps(node.op, node.dynamics)).expand(node.shape)


def _zeros(node: Node, batch: int) -> Tensor:
    is_binary = node.is_spiking and fires_once(node)
    return torch.zeros((batch, *node.shape), dtype=torch.int8 if is_binary else torch.int32)
