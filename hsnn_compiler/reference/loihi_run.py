"""One pass of a batch through a quantised graph, a stretch of time after the other.

Host values are [batch, ...] floats; everything per step is [time, batch, ...] integers. What feeds
forward is evaluated layer by layer over the whole stretch; the nodes of a loop together, step by
step (`loihi_loop`). States of populations and what is on its way along delayed edges wait here for
the next stretch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.dynamics import delay_steps
from hsnn_compiler.ir.graph import Edge, Node
from hsnn_compiler.ir.order import is_loop
from hsnn_compiler.ir.quant import STATE_SHIFT, CollectQuant, CurrentQuant, NeuronQuant
from hsnn_compiler.reference.batches import has_time
from hsnn_compiler.reference.codes import decode_integers
from hsnn_compiler.reference.fused import Feed, from_kernel, ways
from hsnn_compiler.reference.host_calls import run_call
from hsnn_compiler.reference.loihi_collect import FirstSpikes, collect
from hsnn_compiler.reference.loihi_loop import Loop
from hsnn_compiler.reference.loihi_neuron import Population, scan
from hsnn_compiler.reference.loihi_parameters import SIGMA_DELTA_OPS, constant_bias, is_population, population
from hsnn_compiler.reference.result import Record, Result
from hsnn_compiler.reference.values import add, count_events

if TYPE_CHECKING:
    from hsnn_compiler.reference.loihi_executor import LoihiExecutor
    from hsnn_compiler.reference.loihi_front import Front
    from hsnn_compiler.reference.loihi_fused import FusedLoihi


class LoihiRun:
    """States, signals and recordings of one batch.

    Args:
        executor: the bound graph.
        batch: samples.
        record: signals to keep.
        reset_interval: see `LoihiExecutor.run`.
        fused: layers to run on compiled kernels, if any.
    """

    def __init__(
        self,
        executor: LoihiExecutor,
        batch: int,
        record: Collection[Record] = (),
        reset_interval: int | None = None,
        fused: FusedLoihi | None = None,
    ) -> None:
        self.executor, self.graph = executor, executor.graph
        self.batch = batch
        self.record = frozenset(record)
        self.reset_interval = reset_interval
        self.fused = fused
        self.step = 0  # steps done before this stretch
        self.signals: dict[str, Tensor] = {}
        self.populations: dict[str, Population] = {}
        self.tails: dict[Edge | str, Tensor] = {}
        self.done: set[int] = set()  # stages of the host
        self.kept: dict[Record, list[Tensor]] = {}
        self.outputs: dict[str, list[Tensor]] = {}
        self.clipped: dict[str, int] = {}
        self.spikes: dict[str, int] = {}

    def advance(self, inputs: Mapping[str, Tensor], nodes: Collection[str] | None = None) -> None:
        """Run one stretch: inputs [batch, ...] values or [time, batch, ...] integers.

        Args:
            inputs: by name of the input node; other signals may be given as well.
            nodes: which nodes to evaluate, all by default. Of a loop, all populations must then be given.
        """
        self.signals = dict(inputs)
        steps = 0
        inside = set(self.fused.inside) if self.fused else set()
        if self.executor.front is not None:
            inside |= self.executor.front.inside
            self._run_front(self.executor.front, inputs, nodes)
        inside |= self.executor.in_windows - {name for name, _ in self.record}
        last_use = self.fused.last_use if self.fused else self.executor.last_use
        for position, group in enumerate(self.executor.groups):
            if group[0].name in inside:
                continue
            if nodes is None and is_loop(self.graph, group):
                Loop(self, group).run()
            else:
                for node in group:
                    if node.name not in self.signals and (nodes is None or node.name in nodes):
                        self._evaluate_one(node)
            for node in group:
                if node.name in self.signals:
                    steps = max(steps, self._note(node, self.signals[node.name]))
            if nodes is None:
                for name in last_use.get(position, ()):
                    if name not in self.executor.in_windows | self.executor.before_windows:
                        self.signals.pop(name, None)  # inside a stage of the host it never was
        self.step += steps

    def result(self) -> Result:
        """Everything kept so far, samples first."""
        result = Result(saturated=dict(self.clipped), spikes=dict(self.spikes))
        result.saturated.update({name: state.saturated for name, state in self.populations.items()})
        if self.fused:
            result.saturated.update(self.fused.saturated)
        result.how = ways(
            [node.name for node in self.graph if is_population(node)],
            self.executor.loops,
            self.fused.how if self.fused else None,
            "too short a run for compiled kernels",
        )
        for name, parts in self.outputs.items():
            whole = torch.cat(parts)
            result.outputs[name] = _samples_first(whole) if has_time(self.graph[name]) else whole.numpy().copy()
        result.trace = {key: _samples_first(torch.cat(parts)) for key, parts in self.kept.items()}
        return result

    def _note(self, node: Node, signal: Tensor) -> int:
        """Keep what is asked for of a signal; returns its steps."""
        if node.kind == "Output":
            self.outputs.setdefault(node.name, []).append(signal)
        if not has_time(node):
            return 0
        if (node.name, "s") in self.record:
            self.kept.setdefault((node.name, "s"), []).append(signal)
        if node.is_spiking or node.kind in SIGMA_DELTA_OPS:
            self.spikes[node.name] = self.spikes.get(node.name, 0) + count_events(signal)
        return len(signal)

    def _run_front(self, front: Front, inputs: Mapping[str, Tensor], nodes: Collection[str] | None) -> None:
        """Evaluate what comes before the chip, unless nobody asks for it."""
        if nodes is not None and front.inside.isdisjoint(nodes):
            return
        signals, result = front.run(inputs, self.record)
        self.signals.update(signals)
        self.clipped.update(result.saturated)
        self.spikes.update(result.spikes)
        for key, trace in result.trace.items():
            self.kept[key] = [torch.from_numpy(trace).transpose(0, 1)]

    # -- one node, over the whole stretch ---------------------------------------------------------

    def _evaluate_one(self, node: Node) -> None:
        """A node, or all of the stage of the host that it belongs to."""
        stage = self.executor.middle.get(node.name)
        if stage is None:
            self.signals[node.name] = self._evaluate(node)
        elif stage.stage.number not in self.done:
            self.done.add(stage.stage.number)
            self.signals.update(stage.run(self.signals))

    def _evaluate(self, node: Node) -> Tensor:
        if node.kind == "Encode":
            return self._present(node)
        if node.kind == "Decode":
            return self._decode(node)
        if node.kind == "Collect":
            return self._collect(node)
        if self.fused and node.name in self.fused.layers:
            return self._fused(node, self.fused)
        if is_population(node):
            return self._population(node)
        parts = [self.along(edge) for edge in self.graph.in_edges(node.name)]
        if node.kind == "Concat":
            return torch.cat(parts, dim=node.op.axis % len(node.shape) + (2 if has_time(node) else 1))
        if node.kind == "HostCall":
            return run_call(self.executor.functions[node.name], parts, has_time(node))
        value = add(parts)
        if node.kind == "Delay":
            return self._delay(node, value)
        function = self.executor.functions[node.name]
        return function(value.flatten(0, 1)).unflatten(0, value.shape[:2]) if has_time(node) else function(value)

    def along(self, edge: Edge) -> Tensor:
        """What arrives over an edge: the signal of its source, `delay` steps later."""
        value = self.signals[edge.src]
        return self.with_tail(edge, value, edge.delay)[: len(value)] if edge.delay else value

    def _arriving(self, feed: Feed) -> Tensor:
        """What a synapse of a fused layer gets."""
        value = self.signals[feed.source.name]
        return self.with_tail(feed.synapse.name, value, feed.delay)[: len(value)] if feed.delay else value

    def with_tail(self, key: Edge | str, value: Tensor, steps: int) -> Tensor:
        """A signal with the `steps` before it; before the first step, and where nothing was, zeros."""
        tail = self.tails.get(key)
        whole = torch.cat([value.new_zeros((steps, *value.shape[1:])) if tail is None else tail, value])
        self.tails[key] = whole[len(value) :]
        return whole

    def _delay(self, node: Node, value: Tensor) -> Tensor:
        assert node.dynamics is not None
        waits = torch.from_numpy(delay_steps(node.op, node.dynamics)).expand(node.shape)
        longest = int(waits.max())
        whole = self.with_tail(node.name, value, longest)
        out = torch.zeros_like(value)
        for wait in waits.unique().tolist():
            out = torch.where(waits == wait, whole[longest - wait : longest - wait + len(value)], out)
        return out

    # -- populations ------------------------------------------------------------------------------

    def _fused(self, node: Node, fused: FusedLoihi) -> Tensor:
        layer = fused.layers[node.name]
        others = [self.along(e) for e in layer.others if self.graph[e.src].kind != "Encode"]
        feeds = [self._arriving(feed) for feed in layer.feeds]
        extra = add(others) if others else None if feeds else self._silence(node)
        steps = len(feeds[0] if extra is None else extra)
        wanted = [variable for variable in ("u", "v") if (node.name, variable) in self.record]
        restarts = [t for t in range(steps) if self.returns(node, t)] if self.reset_interval else []
        done = fused.run(node, feeds, extra, self.mantissa(node), wanted, restarts)
        self.keep(node, {variable: from_kernel(getattr(done, variable), node.shape) for variable in wanted})
        return from_kernel(done.output, node.shape)

    def _silence(self, node: Node) -> Tensor:
        """The synaptic input of a population without synapses."""
        return torch.zeros((), dtype=torch.int32).expand(self.executor.timesteps, self.batch, *node.shape)

    def _population(self, node: Node) -> Tensor:
        arrived = [self.along(e) for e in self.graph.in_edges(node.name) if self.graph[e.src].kind != "Encode"]
        current = add(arrived) if arrived else self._silence(node)
        keep = [variable for variable in ("u", "v") if (node.name, variable) in self.record]
        restarts = [t for t in range(len(current)) if self.returns(node, t)]
        state = self.state(node)
        if isinstance(state, FirstSpikes) and not keep:
            return state.window(current)
        done = scan(state, current, keep, restarts)
        self.keep(node, done.states)
        return done.output

    def _collect(self, node: Node) -> Tensor:
        assert isinstance(node.quant, CollectQuant)
        edges = self.graph.in_edges(node.name)
        if node.name in self.executor.windows:
            sources = [self.along(self.graph.in_edges(edge.src)[0]) for edge in edges]
            presented = self.executor.windows[node.name].present(sources)
            if presented is not None:
                self.clipped.setdefault(node.name, 0)
                return presented
            for edge in edges:
                self.signals[edge.src] = self._evaluate(self.graph[edge.src])
        out, saturated = collect(node.op, node.quant, add([self.along(edge) for edge in edges]))
        self.clipped[node.name] = self.clipped.get(node.name, 0) + saturated
        return out

    def state(self, node: Node) -> Population:
        """State of a population, made when it is first asked for."""
        if node.name not in self.populations:
            self.populations[node.name] = population(node, self.mantissa(node), self.batch, self.executor.timesteps)
        return self.populations[node.name]

    def returns(self, node: Node, t: int) -> bool:
        """Whether a population returns to its start state as step t of this stretch begins."""
        if self.reset_interval is None:
            return False
        since = self.step + t - self.executor.layers[node.name]
        return since >= 0 and since % self.reset_interval == 0

    def keep(self, node: Node, states: Mapping[str, Tensor]) -> None:
        """Keep recorded states of this stretch."""
        for variable, state in states.items():
            self.kept.setdefault((node.name, variable), []).append(state)

    def mantissa(self, node: Node) -> Tensor:
        """Constant bias mantissa of a population plus those of the Encodes, [batch or 1, ...]."""
        mantissa = constant_bias(node)
        for edge in self.graph.in_edges(node.name):
            if self.graph[edge.src].kind == "Encode":
                mantissa = mantissa + self.signals[edge.src]
        return mantissa

    # -- between host and chip --------------------------------------------------------------------

    def _present(self, node: Node) -> Tensor:
        """Bias mantissas [batch, ...] of an analog input."""
        if not isinstance(node.quant, CurrentQuant):
            raise refuse("E0105", "an Encode that is not quantised", node=node.name)
        value = self.signals[self.graph.in_edges(node.name)[0].src]
        mantissas, clipped = node.quant.present(value.numpy())
        self.clipped[node.name] = self.clipped.get(node.name, 0) + clipped
        return torch.from_numpy(mantissas).to(torch.int64)

    def _decode(self, node: Node) -> Tensor:
        """Count or read what leaves the chip, in real units; several sources add up."""
        total, whole = torch.zeros(()), 1
        for source in self.graph.predecessors(node.name):
            summed, whole = decode_integers(node.op, self.signals[source.name])
            part = summed.to(torch.float32)
            if isinstance(source.quant, NeuronQuant) and not source.is_spiking:
                part = part / (source.quant.scale * 2**STATE_SHIFT)
            total = total + part
        return total * (node.op.gain / whole)


def _samples_first(value: Tensor) -> np.ndarray:
    return np.ascontiguousarray(value.transpose(0, 1).numpy())
