"""The float executor: what a graph means, in torch, batched, with gradients on demand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.order import groups
from hsnn_compiler.ir.timing import layers
from hsnn_compiler.reference import codes
from hsnn_compiler.reference.batches import BATCH_SIZE, Inlets, Inputs, has_time, run_in_batches
from hsnn_compiler.reference.float_fused import FusedFloat
from hsnn_compiler.reference.float_neuron import FloatNeuron, FloatSigmaDelta
from hsnn_compiler.reference.float_run import FloatRun
from hsnn_compiler.reference.fused import BYTES, FusedPlan, binary, last_uses, on_loops, ways, worth_compiling
from hsnn_compiler.reference.loihi_parameters import SIGMA_DELTA_OPS
from hsnn_compiler.reference.result import Record, Result
from hsnn_compiler.reference.torch_ops import Bound, Parameter, bind, tensor
from hsnn_compiler.reference.whole import Repeats, Whole, whole

if TYPE_CHECKING:
    from hsnn_compiler.kernels import Layer

METHODS = ("steps", "auto")
STRETCH_BYTES = 64 * 2**20
"""Signals of one stretch of time stay below this, as far as the number of steps decides it."""


class FloatExecutor:
    """Runs a graph in floating point.

    Args:
        graph: any legal graph; loops need a delay somewhere.
        dtype: torch.float32 (as the source model usually is) or torch.float64.
        method: ``"steps"`` runs torch's own ops step by step, which gives the source library's own
            rounding; ``"auto"`` the fastest way for each layer, which adds up in another order.
        surrogate: name of a surrogate gradient (`hsnn_compiler.nn.surrogate`); with one, parameters
            are leaves that collect gradients, see `parameters` and `evaluate`.
        relative: whether the surrogate counts the distance to threshold in thresholds: thresholds of converted
            neurons are of any size, and surrogates are as wide as suits a threshold of 1.
        device: where parameters and signals of `evaluate` lie; `run` is for the CPU.

    Attributes:
        parameters: by (node, parameter name), the tensors the run computes with.
    """

    def __init__(
        self,
        graph: Graph,
        dtype: torch.dtype = torch.float32,
        *,
        method: str = "steps",
        surrogate: str | None = None,
        relative: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        if method not in METHODS:
            raise refuse("E0202", f"no method named {method!r}", supported=", ".join(METHODS))
        self.graph = graph
        self.dtype = dtype
        self.method = method
        self.device = torch.device(device)
        self.surrogate, self.relative = surrogate, relative
        self.learns = surrogate is not None
        self.groups = groups(graph)
        self.layers = layers(graph)
        self.last_use = last_uses(graph, self.groups, {})
        self.parameters: dict[tuple[str, str], Tensor] = {}
        self.compiled: dict[tuple[str, ...], Layer] = {}
        self._plans: dict[frozenset[Record], FusedPlan] = {}
        self._wholes: dict[frozenset[Record], Whole | None] = {}
        self._repeats = Repeats()
        self.loops = on_loops(graph, self.groups)
        self.neuron_count = sum(node.type.size for node in graph if node.is_neuron and node.type)
        self.bound: dict[str, Bound] = {}
        self.neurons: dict[str, FloatNeuron | FloatSigmaDelta] = {}
        for node in graph:
            self._bind(node, self._keeper(node.name, surrogate is not None))

    def _bind(self, node: Node, parameter: Parameter) -> None:
        """Make the function of a node, with its parameters."""
        if node.is_neuron:
            self.neurons[node.name] = FloatNeuron(node, self.dtype, parameter, self.surrogate, self.relative)
        elif node.kind in SIGMA_DELTA_OPS:
            self.neurons[node.name] = FloatSigmaDelta(node, self.dtype, parameter)
        elif node.kind in codes.WINDOW_OPS:
            name = "bias" if node.kind == "Collect" else "threshold"
            parameter(name, np.asarray(getattr(node.op, name), np.float64))
        elif node.kind not in ("Encode", "Decode", "Concat", "Delay"):
            self.bound[node.name] = bind(node.op, self.dtype, parameter)

    def rebind(self, name: str, given: Mapping[str, Tensor]) -> None:
        """Let a node compute with other tensors, by name of the parameter and shaped as those in `parameters`.

        They may have been computed from others, into which gradients flow on.
        """

        def keep(parameter: str, array: np.ndarray) -> Tensor:
            made = given.get(parameter, self.parameters[name, parameter])
            self.parameters[name, parameter] = made
            return made

        self._bind(self.graph[name], keep)

    @cached_property
    def inlets(self) -> Inlets:
        """What the inputs must look like."""
        return Inlets(self.graph)

    def run(
        self,
        inputs: Inputs,
        record: Collection[Record] = (),
        batch_size: int = BATCH_SIZE,
        progress: Callable[[int, int], None] | None = None,
        reset_interval: int | None = None,
    ) -> Result:
        """Run samples in batches.

        Args:
            inputs: [samples, ...] ([samples, time, ...] where the input has time), or one such array
                per input node.
            record: signals to keep, see `Record`.
            batch_size: samples at a time; bounds the memory.
            progress: called as (samples done, all samples).
            reset_interval: steps after which a population returns to its start state: one of layer L
                (`hsnn_compiler.ir.timing.layers`) as step L + k * interval begins, counted from 0.
        """
        done = self._repeats.run(inputs, record, batch_size, reset_interval, progress)
        if done is not None:
            return done
        done = run_in_batches(
            self.inlets, inputs, batch_size, lambda batch: self.run_batch(batch, record, reset_interval), progress
        )
        if self.method == "auto" and not self.learns and worth_compiling.is_decided:
            self._repeats.learn(inputs, record, batch_size, reset_interval, self._wholes.get(frozenset(record)))
        return done

    def run_batch(
        self, inputs: Mapping[str, np.ndarray], record: Collection[Record] = (), reset_interval: int | None = None
    ) -> Result:
        """Run one batch."""
        compiles = self._compiles(inputs)
        done = self._whole(inputs, record, reset_interval) if compiles else None
        if done is not None:
            return done
        with torch.no_grad():
            return self._by_node(inputs, record, reset_interval, FusedFloat(self, record) if compiles else None)

    def _by_node(
        self,
        inputs: Mapping[str, np.ndarray],
        record: Collection[Record],
        reset_interval: int | None,
        fused: FusedFloat | None,
    ) -> Result:
        run = FloatRun(self, record, reset_interval, fused)
        outputs: dict[str, list[np.ndarray]] = {}
        trace: dict[Record, list[np.ndarray]] = {}
        for stretch in self._stretches(inputs):
            for name, value in run.advance(stretch).items():
                outputs.setdefault(name, []).append(self._samples_first(name, value))
            for key, value in run.trace.items():
                trace.setdefault(key, []).append(self._samples_first(key[0], value))
        return Result(
            {name: self._joined(parts) for name, parts in outputs.items()},
            {key: self._joined(parts) for key, parts in trace.items()},
            saturated=dict(run.clipped),
            spikes={name: int(count) for name, count in run.spikes.items()},
            how=ways(self.neurons, self.loops, fused.how if fused else None, self._why_not()),
        )

    def evaluate(self, inputs: Mapping[str, Tensor], reset_interval: int | None = None) -> dict[str, Tensor]:
        """Outputs [batch, ...] (or [batch, time, ...]) of one batch of tensors, with gradients if there is a surrogate.

        Args:
            inputs: by input node, shaped as for `run`.
            reset_interval: see `run`.
        """
        return self.signals(inputs, (), reset_interval)[0]

    def signals(
        self, inputs: Mapping[str, Tensor], nodes: Iterable[str], reset_interval: int | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The outputs as from `evaluate`, and in the same shape what some nodes put out, by name."""
        run = FloatRun(self, [(name, "s") for name in nodes], reset_interval)
        given = {n: self._time_first(n, value.to(self.device, self.dtype)) for n, value in inputs.items()}
        outputs = {name: self._time_first(name, value) for name, value in run.advance(given).items()}
        return outputs, {name: self._time_first(name, value) for (name, _), value in run.trace.items()}

    def plan(self, record: frozenset[Record]) -> FusedPlan:
        """What runs as layers when these signals are recorded."""
        if record not in self._plans:
            basic = [n for n, rule in self.neurons.items() if isinstance(rule, FloatNeuron) and rule.step_rule.is_basic]
            self._plans[record] = FusedPlan(self.graph, self.groups, basic, record, merge=True)
        return self._plans[record]

    def _compiles(self, inputs: Mapping[str, np.ndarray]) -> bool:
        """Whether layers run on compiled kernels."""
        if self.method != "auto" or self.learns:
            return False
        if worth_compiling.is_decided:
            return True
        name, array = next(iter(inputs.items()))
        steps = array.shape[1] if has_time(self.graph[name]) else self.graph.timesteps or 1
        return worth_compiling(self.neuron_count * steps * len(array))

    def _whole(
        self, inputs: Mapping[str, np.ndarray], record: Collection[Record], reset_interval: int | None
    ) -> Result | None:
        """Run the graph as one chain of layers, if it is one and its inputs are spikes."""
        key = frozenset(record)
        if key not in self._wholes:
            layer = FusedFloat(self, record).layer
            dtype = np.float32 if self.dtype is torch.float32 else np.float64
            self._wholes[key] = whole(self.graph, self.plan(key), record, layer, dtype, self.layers, is_loihi=False)
        chain, spikes = self._wholes[key], {}
        if chain is None:
            return None
        for name, array in inputs.items():
            spikes[name] = array if array.dtype in BYTES else binary(self._tensor(array)).numpy()
            if spikes[name].dtype not in BYTES:
                return None
        return chain.run(spikes, reset_interval)

    def _why_not(self) -> str:
        return "step by step, as asked" if self.method == "steps" else "too short a run for compiled kernels"

    def _keeper(self, node: str, learns: bool) -> Callable[[str, np.ndarray], Tensor]:
        def keep(name: str, array: np.ndarray) -> Tensor:
            made = tensor(array, self.dtype).to(self.device).requires_grad_(learns)
            self.parameters[node, name] = made
            return made

        return keep

    def _stretches(self, inputs: Mapping[str, np.ndarray]) -> Iterator[dict[str, Tensor]]:
        """The inputs, cut along time if all of them have it and together they would be large."""
        tensors = {name: self._time_first(name, self._tensor(array)) for name, array in inputs.items()}
        crossings = self.graph.of_kind("Encode", "Decode", *codes.WINDOW_OPS)
        if crossings or not all(has_time(self.graph[name]) for name in tensors):
            yield tensors
            return
        first = next(iter(tensors.values()))
        widest = sorted((node.type.size for node in self.graph if node.type), reverse=True)
        per_step = sum(widest[:3]) * first.shape[1] * first.element_size()
        steps = max(8, STRETCH_BYTES // max(per_step, 1))
        for start in range(0, len(first), steps):
            yield {name: value[start : start + steps] for name, value in tensors.items()}

    def _time_first(self, name: str, value: Tensor) -> Tensor:
        """[batch, time, ...] to [time, batch, ...] and back, for a node that has time."""
        return value.transpose(0, 1) if has_time(self.graph[name]) else value

    def _tensor(self, array: np.ndarray) -> Tensor:
        """An input as a tensor: spikes given as bytes stay bytes until something computes with them."""
        as_bytes = self.method == "auto" and array.dtype in BYTES
        return torch.from_numpy(np.ascontiguousarray(array)) if as_bytes else tensor(array, self.dtype)

    def _samples_first(self, name: str, value: Tensor) -> np.ndarray:
        return np.ascontiguousarray(self._time_first(name, value.to(self.dtype)).numpy())

    def _joined(self, parts: list[np.ndarray]) -> np.ndarray:
        return parts[0].copy() if len(parts) == 1 else np.concatenate(parts, axis=1)
