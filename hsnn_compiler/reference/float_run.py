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
from hsnn_compiler.ir.order import is_loop
from hsnn_compiler.ir.payloads import fires_once
from hsnn_compiler.ir.quant import STATE_SHIFT, CurrentQuant
from hsnn_compiler.reference import codes
from hsnn_compiler.reference.batches import has_time
from hsnn_compiler.reference.float_loop import Loop
from hsnn_compiler.reference.fused import Feed, from_kernel
from hsnn_compiler.reference.host_calls import run_call
from hsnn_compiler.reference.result import Record
from hsnn_compiler.reference.values import add, count_events, count_spikes

if TYPE_CHECKING:
    from hsnn_compiler.reference.float_executor import FloatExecutor
    from hsnn_compiler.reference.float_fused import FusedFloat


def presented(node: Node, value: Tensor) -> Tensor:
    """What an `Encode(direct)` presents at every step: the value [batch, ...], once quantised as integers."""
    if not isinstance(node.quant, CurrentQuant):
        return value
    mantissas = torch.from_numpy(node.quant.present(value.detach().cpu().numpy())[0]).to(value)
    rounded = mantissas * (2.0**node.quant.exponent / (node.quant.scale * 2**STATE_SHIFT))
    return rounded + (value - value.detach()) if value.requires_grad else rounded  # straight through


class FloatRun:
    """States and signals of one batch.

    Args:
        executor: the bound graph.
        record: signals to keep.
        reset_interval: steps between two returns of a population to its start state, see
            `FloatExecutor.run`.
        fused: layers to run on compiled kernels, if any.
    """

    def __init__(
        self,
        executor: FloatExecutor,
        record: Collection[Record],
        reset_interval: int | None,
        fused: FusedFloat | None = None,
    ) -> None:
        self.executor = executor
        self.graph = executor.graph
        self.record = set(record)
        self.reset_interval = reset_interval
        self.fused = fused
        self.step = 0  # steps done before this stretch
        self.signals: dict[str, Tensor] = {}
        self.trace: dict[Record, Tensor] = {}
        self.spikes: dict[str, float] = {}
        self.clipped: dict[str, int] = {}  # by Encode of events, values outside its range
        self._states: dict[str, Any] = {}
        self.tails: dict[object, Tensor] = {}

    def advance(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run one stretch: inputs [batch, ...] or [time, batch, ...]; returns the outputs, time first."""
        self.signals, self.trace = {}, {}
        outputs = {}
        steps = 0
        inside = self.fused.inside if self.fused else ()
        last_use = self.fused.last_use if self.fused else self.executor.last_use
        for position, group in enumerate(self.executor.groups):
            if group[0].name in inside:
                continue
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
                if node.is_spiking or node.is_event_source:
                    count = count_spikes if fires_once(node) else count_events
                    self.spikes[node.name] = self.spikes.get(node.name, 0) + count(value)
            for name in last_use.get(position, ()):
                del self.signals[name]
        self.step += steps
        return outputs

    # -- over the whole stretch ---------------------------------------------------------------

    def _evaluate(self, node: Node, inputs: Mapping[str, Tensor]) -> Tensor:
        if node.kind == "Input":
            return inputs[node.name]
        if self.fused and node.name in self.fused.layers:
            return self._fused(node, self.fused)
        if node.kind == "Output" and len(self.graph.in_edges(node.name)) == 1:
            return self._raw(self.graph.in_edges(node.name)[0])
        parts = [self._along(edge) for edge in self.graph.in_edges(node.name)]
        if node.kind == "Encode":
            return self._encode(node, add(parts))
        if node.kind == "Decode":
            return codes.decode(node.op, add(parts))
        if node.kind == "Delay":
            return self._delay(node, add(parts))
        if node.kind == "Collect":
            return codes.collect(node.op, add(parts), self.executor.parameters[node.name, "bias"])
        if node.kind == "FirstSpike":
            return codes.first_spikes(add(parts), self.executor.parameters[node.name, "threshold"])
        if node.name in self.executor.neurons:
            return self._scan(node, add(parts))
        if node.kind == "Concat":
            return torch.cat(parts, dim=node.op.axis % len(node.shape) + (2 if has_time(node) else 1))
        if node.kind == "HostCall":
            return run_call(self.executor.bound[node.name], parts, has_time(node))
        return self._stateless(node, add(parts))

    def _along(self, edge: Edge) -> Tensor:
        """What arrives over an edge: the signal of its source, `delay` steps later."""
        return self._raw(edge).to(self.executor.dtype)

    def _raw(self, edge: Edge) -> Tensor:
        """The same as it is, spikes from a fused layer as bytes."""
        value = self.signals[edge.src]
        return value if not edge.delay else self._later(edge, value, edge.delay)

    def _arriving(self, feed: Feed) -> Tensor:
        """What a synapse of a fused layer gets, as it is."""
        value = self.signals[feed.source.name]
        return self._later(feed.synapse.name, value, feed.delay) if feed.delay else value

    def _later(self, key: object, value: Tensor, steps: int) -> Tensor:
        """[time, ...] moved by some steps; the first ones come from the stretch before, or are zero."""
        whole = self._with_tail(key, value, steps)
        return whole[: len(value)]

    def _with_tail(self, key: object, value: Tensor, steps: int) -> Tensor:
        tail = self.tails.get(key)
        if tail is None:
            tail = value.new_zeros((steps, *value.shape[1:]))
        whole = torch.cat([tail, value])
        self.tails[key] = whole[len(value) :]
        return whole

    def _delay(self, node: Node, value: Tensor) -> Tensor:
        assert node.dynamics is not None
        steps = torch.from_numpy(delay_steps(node.op, node.dynamics)).to(value.device)
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
        if node.is_event_source:
            spikes, clipped = codes.encode(node.op, value, self.graph.timesteps)
            self.clipped[node.name] = clipped
            return codes.with_gradient(node.op, value, spikes) if value.requires_grad else spikes
        value = presented(node, value)
        return value.unsqueeze(0).expand(self.graph.timesteps, *[-1] * value.ndim)

    def _fused(self, node: Node, fused: FusedFloat) -> Tensor:
        layer = fused.layers[node.name]
        others = [self._along(edge) for edge in layer.others]
        feeds = [self._arriving(feed) for feed in layer.feeds]
        steps = len((feeds or others)[0])
        again = [t for t in range(steps) if self._returns(node, self.step + t)] if self.reset_interval else []
        wanted = [variable for variable in ("u", "v") if (node.name, variable) in self.record]
        done = fused.run(node, feeds, add(others) if others else None, wanted, again)
        for variable in wanted:
            self.trace[node.name, variable] = from_kernel(getattr(done, variable), node.shape)
        return fused.output(node, done)

    # -- neurons ------------------------------------------------------------------------------

    def state(self, node: Node, step: int, shape: tuple[int, ...]) -> Any:
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
            state = self.state(node, self.step + t, i.shape)
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
        whole = next((node for node in group if node.kind in codes.WINDOW_OPS), None)
        if whole is not None:
            raise refuse("E0105", f"{whole.kind} sees a whole window at once, and lies on a loop", node=whole.name)
        first = next(iter(outside.values()))
        loop = Loop(self, edges, outside, first.shape[1])
        for t in range(len(first)):
            for node in group:
                loop.evaluate(node, t)
            for node in group:
                loop.finish(node, t)
        loop.keep()
