"""Rate-based backpropagation: gradients of rates instead of steps, in memory that does not grow with the steps.

The spike pass (`hsnn_compiler.training.rate_spikes`) runs T steps without gradients and leaves of every population
the rate rho and its slope g. The rate pass runs the graph once, on rates, with gradients:

    r_out = rho + g (c - stopgrad(c)),    c = what the layer makes of r_in

Linear ops act on rates as on steps, so a network without its populations is what it is in the graph. Values are those
of the spikes; where the input of a population does not change over the steps, the gradients are those of
backpropagation through time, elsewhere they leave out what changes of the input's course in time would do.
Source: Yu et al., "Advancing Training Efficiency of Deep Spiking Neural Networks through Rate-based Backpropagation",
NeurIPS 2024, arXiv 2410.11488. Weights of steps other than equal ones, for codes in which time counts, are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.reference import codes
from hsnn_compiler.reference.batches import has_time
from hsnn_compiler.reference.float_run import presented
from hsnn_compiler.reference.host_calls import run_call
from hsnn_compiler.reference.values import add
from hsnn_compiler.training.parameters import key_of, split_key
from hsnn_compiler.training.rate_norm import MOMENTUM, Statistics, normalised, normalised_rates
from hsnn_compiler.training.rate_plan import MEAN, RatePlan, Weighting, is_measured, weighting, worth
from hsnn_compiler.training.rate_population import INPUT
from hsnn_compiler.training.rate_spikes import SpikePass, Sums
from hsnn_compiler.training.trainable import Trainable


class RateTrainable(Trainable):
    """A `Trainable` whose gradients are those of rates; everything else is the same.

    Args:
        graph: see `Trainable`; feed-forward, see `RatePlan`.
        detach_reset: whether a reset carries no gradient.
        batch_norm: ``"kept"``: batch normalisations stay as the graph has them; ``"batch"``: while gradients are
            computed they use the statistics of the batch, and those that the graph keeps follow.
        options: see `Trainable`.

    Attributes:
        buffers: by ``node:name``, the statistics that batch normalisations keep, where they follow those of batches.

    Raises:
        HsnnError: E0560, E0561 with one finding for each node; E0562; and those of `Trainable`.
    """

    def __init__(self, graph: Graph, *, detach_reset: bool = False, batch_norm: str = "kept", **options: Any) -> None:
        if batch_norm not in ("kept", "batch"):
            raise refuse("E0562", f"batch_norm={batch_norm!r}", supported="kept, batch")
        self.detach_reset, self.batch_norm = detach_reset, batch_norm == "batch"
        self._plans: dict[tuple[str, ...], RatePlan] = {(): RatePlan(graph)}
        super().__init__(graph, **options)
        self.coefficients = {
            node: tuple(names) for node, names in self.by_node.items() if self.executor.graph[node].is_neuron
        }
        norms = [node.name for node in graph.of_kind("BatchNorm")] if self.batch_norm else []
        self.buffers = {key_of(n, what): self.executor.parameters[n, what] for n in norms for what in ("mean", "var")}
        self._buffers_at_start = {key: kept.clone() for key, kept in self.buffers.items()}

    def features(
        self, x: Tensor | Mapping[str, Tensor], nodes: Iterable[str]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The outputs, and what some nodes put out, [batch, ...] averaged over the steps, by name."""
        self.bind()
        graph, watched = self.executor.graph, tuple(nodes)
        named = x if isinstance(x, Mapping) else {graph.of_kind("Input")[0].name: x}
        if watched not in self._plans:
            self._plans[watched] = RatePlan(graph, watched)
        done = RatePass(self, self._plans[watched], named)
        return done.read([node.name for node in graph.of_kind("Output")]), done.read(watched)

    def graph(self) -> Graph:
        """The graph with the parameters, and the statistics, as they are now."""
        done = super().graph()
        for key, kept in self.buffers.items():
            if torch.equal(kept, self._buffers_at_start[key]):
                continue
            name, what = split_key(key)
            op = done[name].op
            done.update(name, op=replace(op, **{what: kept.cpu().numpy().astype(getattr(op, what).dtype)}))
        return done

    def follow(self, name: str, found: Statistics) -> None:
        """Let the statistics that a BatchNorm keeps follow those of a batch."""
        for what, now in (("mean", found.centre), ("var", found.variance)):
            kept = self.buffers[key_of(name, what)]
            kept.mul_(1 - MOMENTUM).add_(now.to(kept), alpha=MOMENTUM)


class RatePass:
    """One batch: in every turn, what happens once, the steps, and the rates.

    Args:
        owner: its executor has the parameters as they are now.
        plan: of its graph.
        inputs: [batch, ...], or [batch, time, ...] where the input has time.
    """

    def __init__(self, owner: RateTrainable, plan: RatePlan, inputs: Mapping[str, Tensor]) -> None:
        self.owner, self.executor, self.graph = owner, owner.executor, owner.executor.graph
        self.inputs = {name: value.to(self.executor.device, self.executor.dtype) for name, value in inputs.items()}
        self.steps = self._steps()
        self.once: dict[str, Tensor] = {}
        self.rates: dict[tuple[str, Weighting], Tensor] = {}
        learns = torch.is_grad_enabled()
        self.by_batch = owner.batch_norm and learns
        spikes = SpikePass(
            self.executor,
            plan,
            self.steps,
            trained=owner.coefficients,
            detached=owner.detach_reset,
            slopes=learns,
            batch_norm=self.by_batch,
        )
        for turn in plan.turns:
            for name in turn.once:
                self.once[name] = self._once(self.graph[name])
            if not turn.steps:
                continue
            sums = spikes.run(turn, self.once, self.inputs)
            for name in turn.steps:
                for kind in plan.weightings[name]:
                    self.rates[name, kind] = self._rate(self.graph[name], kind, sums)
            for name, found in sums.statistics.items():
                owner.follow(name, found)

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """What nodes put out, [batch, ...], averaged over the steps."""
        return {name: self._signal(name, MEAN) for name in names}

    def _steps(self) -> int:
        for name, value in self.inputs.items():
            if has_time(self.graph[name]):
                return value.shape[1]
        return self.graph.timesteps or 1

    def _signal(self, name: str, kind: Weighting) -> Tensor:
        return self.once[name] if name in self.once else self.rates[name, kind]

    def _parts(self, node: Node, kind: Weighting) -> list[Tensor]:
        return [self._signal(edge.src, kind) for edge in self.graph.in_edges(node.name)]

    def _once(self, node: Node) -> Tensor:
        if node.kind == "Input":
            return self.inputs[node.name]
        if node.kind == "Decode":
            return add(self._parts(node, weighting(node))) * worth(node, self.steps)
        if node.kind == "Collect":
            total = add(self._parts(node, weighting(node))) * worth(node, self.steps)
            return total + self.executor.parameters[node.name, "bias"]
        if node.kind == "Encode":
            return presented(node, add(self._parts(node, MEAN)))
        if node.kind == "BatchNorm" and self.by_batch:
            value, found = normalised(self.executor, node, add(self._parts(node, MEAN)))
            self.owner.follow(node.name, found)
            return value
        return self._stateless(node, self._parts(node, MEAN))

    def _rate(self, node: Node, kind: Weighting, sums: Sums) -> Tensor:
        key = (node.name, kind)
        if node.kind == "Input":
            return sums.rates[key]
        if not is_measured(node):
            parts = self._parts(node, kind)
            if node.name in sums.statistics:
                return normalised_rates(self.executor, node, add(parts), sums.statistics[node.name])
            return self._stateless(node, parts)
        rate, parts = sums.rates[key], self._parts(node, MEAN)
        if node.kind == "MaxPool2d":
            return rate + _only_gradient(self._stateless(node, self._parts(node, kind)))
        if node.is_event_source:
            return rate + _only_gradient(codes.passed_through(node.op, add(parts), self.steps))
        if node.kind == "FirstSpike":
            threshold = self.executor.parameters[node.name, "threshold"]
            return rate + _only_gradient(codes.first_spike_passed_through(add(parts), threshold, self.steps))
        for name, slope in sums.slopes.get(key, {}).items():
            source = add(parts) if name == INPUT else getattr(self.executor.neurons[node.name], name)
            rate = rate + slope * _only_gradient(source)
        return rate

    def _stateless(self, node: Node, parts: list[Tensor]) -> Tensor:
        if node.kind == "Concat":
            return torch.cat(parts, dim=node.op.axis % len(node.shape) + 1)
        if node.kind == "HostCall":
            return run_call(self.executor.bound[node.name], parts, False)
        return self.executor.bound[node.name](add(parts))


def _only_gradient(value: Tensor) -> Tensor:
    """Zero, with the gradient of `value`."""
    return value - value.detach()
