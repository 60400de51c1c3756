"""The spike pass of rate-based backpropagation: T steps without gradients, of which only sums over time are kept.

For a population whose input is c at every step, the pass gives, with weights w_t that add up to 1,

    rho = sum_t w_t s_t,    g = sum_t w_t ds_t/dc

ds_t/dc is carried along with the potential, through the executor's own step (`rate_population`): with the surrogate
slope s'_t in the place of the derivative of the threshold test, f_t = dv_t/dc before the reset of step t, decay
lambda and threshold theta,

    ds_t/dc = s'_t f_t,   f_0 = gain
    f_(t+1) = gain + lambda f_t                                    reset by subtraction, detached
    f_(t+1) = gain + lambda f_t (1 - theta s'_t)                   reset by subtraction
    f_(t+1) = gain + lambda f_t ((1 - s_t) - v_t s'_t)             reset to zero

(for gain = theta = 1 those of Yu et al., "Advancing Training Efficiency of Deep Spiking Neural Networks through
Rate-based Backpropagation", NeurIPS 2024). The same is done for each coefficient of the neuron that is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hsnn_compiler.ir.graph import Node
from hsnn_compiler.reference import codes
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.reference.float_neuron import FloatNeuron
from hsnn_compiler.reference.values import add
from hsnn_compiler.training.rate_norm import Statistics, normalised
from hsnn_compiler.training.rate_plan import RatePlan, Turn, Weighting, is_measured
from hsnn_compiler.training.rate_population import Population

Counted = tuple[str, Weighting]


@dataclass
class Sums:
    """What is kept of a turn.

    Attributes:
        rates: by node and weighting, rho [batch, ...].
        slopes: by node and weighting, and the name of a coefficient or `INPUT`, d rho by it [batch, ...].
        statistics: by batch normalisation, those of its input.
    """

    rates: dict[Counted, Tensor] = field(default_factory=dict)
    slopes: dict[Counted, dict[str, Tensor]] = field(default_factory=dict)
    statistics: dict[str, Statistics] = field(default_factory=dict)


class SpikePass:
    """The steps of one turn.

    Args:
        executor: with the parameters as they are now.
        plan: of its graph.
        steps: T.
        trained: by population, names of coefficients that are trained.
        detached: whether a reset carries no gradient.
        slopes: whether derivatives are wanted.
        batch_norm: whether batch normalisations use the statistics of the batch, step by step.
    """

    def __init__(
        self,
        executor: FloatExecutor,
        plan: RatePlan,
        steps: int,
        *,
        trained: Mapping[str, tuple[str, ...]],
        detached: bool,
        slopes: bool,
        batch_norm: bool,
    ) -> None:
        self.executor, self.plan, self.steps = executor, plan, steps
        self.trained, self.detached, self.slopes, self.batch_norm = trained, detached, slopes, batch_norm
        self.graph = executor.graph

    def run(self, turn: Turn, once: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> Sums:
        """Run one turn.

        Args:
            turn: which nodes.
            once: what does not change over the steps, [batch, ...].
            inputs: those with a time axis, [batch, time, ...].
        """
        sums, own = Sums(), set(turn.steps)
        states: dict[str, Any] = {}
        readers = {edge.src: name for name in turn.again for edge in self.graph.in_edges(name)}  # the last of each
        with torch.no_grad():
            for t in range(self.steps):
                signals: dict[str, Tensor] = {}
                for name in turn.again:
                    node = self.graph[name]
                    if node.kind == "Input":
                        signals[name] = inputs[name][:, t]
                        continue
                    parts = [signals[e.src] if e.src in signals else once[e.src] for e in self.graph.in_edges(name)]
                    signals[name], slopes = self._step(node, parts, t, states, sums if name in own else None)
                    if name in own and is_measured(node):
                        self._count(node, t, signals[name], slopes, sums)
                    for edge in self.graph.in_edges(name):
                        if readers[edge.src] == name:
                            signals.pop(edge.src, None)
        for name in own:
            if self.graph[name].kind == "Input":
                self._count_input(name, inputs[name], sums)
        return sums

    def _step(
        self, node: Node, parts: list[Tensor], t: int, states: dict[str, Any], sums: Sums | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        name = node.name
        if node.is_neuron:
            if name not in states:
                neuron = self.executor.neurons[name]
                assert isinstance(neuron, FloatNeuron)
                wanted = self.slopes and sums is not None
                states[name] = Population(neuron, self.trained.get(name, ()), self.detached, wanted)
            population: Population = states[name]
            return population.step(add(parts), t == self.steps - 1)
        if node.is_event_source or node.kind == "FirstSpike":
            if t == 0:
                states[name] = self._levels(node, add(parts))
            kind = node.op if node.is_event_source else codes.Decode("ttfs")
            return codes.spikes_of_step(kind, states[name], t, self.steps).to(self.executor.dtype), {}
        if node.kind == "Concat":
            return torch.cat(parts, dim=node.op.axis % len(node.shape) + 1), {}
        if node.kind == "BatchNorm" and self.batch_norm:
            value, found = normalised(self.executor, node, add(parts))
            if sums is not None:
                sums.statistics[name] = found.after(sums.statistics.get(name))
            return value, {}
        return self.executor.bound[name](add(parts)), {}

    def _levels(self, node: Node, value: Tensor) -> Tensor:
        if node.is_event_source:
            return codes.levels(node.op, value, self.steps)[0]
        threshold = self.executor.parameters[node.name, "threshold"]
        whole = value.unsqueeze(0).expand(self.steps, *value.shape)
        return codes.first_spike_levels(whole, threshold).to(torch.int64)

    def _count(self, node: Node, t: int, value: Tensor, slopes: Mapping[str, Tensor], sums: Sums) -> None:
        for weighting in self.plan.weightings[node.name]:
            weight = weighting.weights(self.steps)[t]
            if weight == 0:
                continue
            key = (node.name, weighting)
            _add(sums.rates, key, value, weight)
            for direction, slope in slopes.items():
                _add(sums.slopes.setdefault(key, {}), direction, slope, weight)

    def _count_input(self, name: str, value: Tensor, sums: Sums) -> None:
        for weighting in self.plan.weightings[name]:
            weights = torch.tensor(weighting.weights(self.steps)).to(value)
            sums.rates[name, weighting] = torch.tensordot(weights, value.transpose(0, 1), 1)


def _add(sums: dict[Any, Tensor], key: Any, value: Tensor, weight: float) -> None:
    if key in sums:
        sums[key].add_(value, alpha=weight)
    else:
        sums[key] = value * weight
