"""The integer executor: what the chip computes, for whole test sets.

Runs a quantised graph: host segments in floating point, the chip's part in integers.

A compiled program works on samples in windows. Each layer is looked at in its own window of steps, as
the schedule gives it, so that step t of every layer belongs to step t of the sample; the one step per
synapse is in the schedule, not here.

A raw graph runs on one global time axis: its inputs have a time axis, and the one step per synapse is
the delay of the edge into it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.diagnostics import HsnnError, refuse
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.order import groups
from hsnn_compiler.ir.quant import WeightQuant
from hsnn_compiler.ir.stages import stages
from hsnn_compiler.ir.timing import layers
from hsnn_compiler.reference.batches import BATCH_SIZE, Inlets, Inputs, has_time, run_in_batches
from hsnn_compiler.reference.fused import BYTES, FusedPlan, last_uses, on_loops, worth_compiling
from hsnn_compiler.reference.host_stage import MakeRunner, in_turns
from hsnn_compiler.reference.loihi_collect import WholeWindow, is_whole
from hsnn_compiler.reference.loihi_front import Front, front_nodes
from hsnn_compiler.reference.loihi_fused import FusedLoihi, is_graded, make_plan
from hsnn_compiler.reference.loihi_parameters import biased, is_population, unquantised
from hsnn_compiler.reference.loihi_run import LoihiRun
from hsnn_compiler.reference.loihi_synapse import IntegerSynapse
from hsnn_compiler.reference.result import Record, Result
from hsnn_compiler.reference.torch_ops import bind, tensor
from hsnn_compiler.reference.whole import Repeats, Whole, whole

if TYPE_CHECKING:
    from hsnn_compiler.kernels import Layer

STRETCH_BYTES = 256 * 2**20
"""Signals of one stretch of time of a raw graph stay below this, as far as the number of steps decides it."""


NO_FUNCTION = ("Encode", "Decode", "Collect", "Concat", "Delay")
"""Ops without a state that need more than what arrives in one step."""


class LoihiExecutor:
    """Runs a quantised graph in Loihi's integers.

    Args:
        graph: after ``quantise``, or a raw integer graph (else E0105, for all nodes at once).
        compiles: whether layers run on compiled kernels, which changes no bit; by default where a run is
            long enough to pay for loading them.
        hosts: makes what runs the stages of the host that lie between two turns of the chip; by default the float
            executor does.

    Attributes:
        functions: of everything without a state, on [n, ...].
        layers: of every node, see `hsnn_compiler.ir.timing.layers`.
        front: what runs on the host in every step before the chip, if anything.
        middle: the stages of the host behind the chip that feed it again, by the name of each of their nodes.
        windows: of Collects that can be done without the steps of what feeds them.
        in_windows, before_windows: names of the synapse ops in front of these, and of what feeds them, which must wait.
        last_use: by position in `groups`, the signals that nothing after it needs.
    """

    def __init__(self, graph: Graph, compiles: bool | None = None, hosts: MakeRunner | None = None) -> None:
        self.graph = graph
        self.compiles = compiles
        self.timesteps = graph.timesteps or 1
        self.is_raw = graph.timesteps is None and all(has_time(node) for node in graph.of_kind("Input"))
        self.layers = layers(graph)
        checks = (unquantised, biased) if self.is_raw else (unquantised,)
        missing = [found for node in graph if node.on_chip for check in checks if (found := check(node))]
        if missing:
            raise HsnnError(missing)
        self.stages = {} if self.is_raw else stages(graph)
        self.groups, self.middle = (groups(graph), {}) if self.is_raw else in_turns(graph, self.stages, hosts)
        self.functions: dict[str, Callable[[Tensor], Tensor]] = {}
        self.front = Front(graph) if not self.is_raw and front_nodes(graph) else None
        for node in graph:
            quant = node.quant
            if isinstance(quant, WeightQuant):
                self.functions[node.name] = IntegerSynapse(
                    quant.integers, node.op, quant.exponent, quant.bits, quant.message_bits
                )
            elif not (is_population(node) or node.kind in NO_FUNCTION or self._is_apart(node)):
                self.functions[node.name] = bind(node.op, torch.float32)
        self.windows = _windows(graph, self.timesteps)
        self.in_windows = {edge.src for name in self.windows for edge in graph.in_edges(name)}
        self.before_windows = {edge.src for name in self.in_windows for edge in graph.in_edges(name)}
        self.last_use = last_uses(graph, self.groups, {})
        self.compiled: dict[tuple[str, ...], Layer] = {}
        self._plans: dict[frozenset[Record], FusedPlan] = {}
        self._wholes: dict[frozenset[Record], Whole | None] = {}
        self._repeats = Repeats()
        self.loops = on_loops(graph, self.groups)
        self.neuron_count = sum(node.type.size for node in graph if node.is_population and node.type)

    def _is_apart(self, node: Node) -> bool:
        return node.name in self.middle or (self.front is not None and node.name in self.front.inside)

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
        *,
        reset_interval: int | None = None,
    ) -> Result:
        """Run samples in batches.

        Args:
            inputs: [samples, ...], of a raw graph integers [samples, time, ...]; or one such array per input node.
            record: signals to keep; those of the chip are integers [samples, time, ...].
            batch_size: samples at a time; bounds the memory.
            progress: called as (samples done, all samples).
            reset_interval: of a raw graph: a population of layer L returns to its start state as each of
                the steps L, L + interval, L + 2 interval, ... begins. None for never.
        """
        if reset_interval is not None and (reset_interval < 1 or not self.is_raw):
            raise refuse(
                "E0330",
                f"a reset every {reset_interval} steps",
                supported="1 or more, in a graph whose inputs have a time axis (others reset with each sample)",
            )
        done = self._repeats.run(inputs, record, batch_size, reset_interval, progress)
        if done is not None:
            return done
        done = run_in_batches(
            self.inlets, inputs, batch_size, lambda batch: self.run_batch(batch, record, reset_interval), progress
        )
        if self.compiles or (self.compiles is None and worth_compiling.is_decided):
            self._repeats.learn(inputs, record, batch_size, reset_interval, self._wholes.get(frozenset(record)))
        return done

    def plan(self, record: frozenset[Record]) -> FusedPlan:
        """What runs as layers on the kernels when these signals are recorded."""
        if record not in self._plans:
            self._plans[record] = make_plan(self, record)
        return self._plans[record]

    def run_batch(
        self,
        inputs: Mapping[str, np.ndarray],
        record: Collection[Record] = (),
        reset_interval: int | None = None,
    ) -> Result:
        """Run one batch, arguments as `run`."""
        some = next(iter(inputs.values()))
        batch, steps = len(some), some.shape[1] if self.is_raw else self.timesteps
        compiles = worth_compiling(self.neuron_count * steps * batch) if self.compiles is None else self.compiles
        done = self._whole(inputs, record, reset_interval) if compiles else None
        if done is not None:
            return done
        fused = FusedLoihi(self, record) if compiles else None
        run = LoihiRun(self, batch, record, reset_interval, fused)
        given = self.tensors(inputs)
        with torch.no_grad():
            if not self.is_raw:
                run.advance(given)
                return run.result()
            item = 1 if fused else 4  # bytes of most signals
            stretch = max(1, STRETCH_BYTES // (batch * item * sum(node.type.size for node in self.graph if node.type)))
            for start in range(0, steps, stretch):
                run.advance({name: value[start : start + stretch] for name, value in given.items()})
            return run.result()

    def _whole(
        self, inputs: Mapping[str, np.ndarray], record: Collection[Record], reset_interval: int | None
    ) -> Result | None:
        """Run the graph as one chain of layers, if it is one."""
        key = frozenset(record)
        if key not in self._wholes:
            plan, layer = self.plan(key), FusedLoihi(self, record).constant_layer
            is_spikes_only = not any(is_graded(feed) for fused in plan.layers.values() for feed in fused.feeds)
            self._wholes[key] = (
                whole(self.graph, plan, record, layer, np.uint8, self.layers, is_loihi=True) if is_spikes_only else None
            )
        chain = self._wholes[key]
        if chain is None:
            return None
        spikes = {
            name: array if array.dtype in BYTES else (_integers(name, array) != 0).numpy()
            for name, array in inputs.items()
        }
        return chain.run(spikes, reset_interval)

    def tensors(self, inputs: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        """Inputs as the run takes them: float values [batch, ...], or bytes or int32 [time, batch, ...]."""
        if not self.is_raw:
            for node in self.graph.of_kind("Input"):
                _check_spikes(node, inputs[node.name], self.timesteps)
        return {
            name: _integers(name, array).transpose(0, 1) if has_time(self.graph[name]) else tensor(array, torch.float32)
            for name, array in inputs.items()
        }


def _windows(graph: Graph, timesteps: int) -> dict[str, WholeWindow]:
    """By name, the Collects of which no step is rounded, and whose synapses feed nothing else."""
    found = {}
    for node in graph.of_kind("Collect"):
        synapses = graph.predecessors(node.name)
        alone = all(s.is_synapse and len(graph.out_edges(s.name)) == 1 for s in synapses)
        if alone and all(len(graph.in_edges(s.name)) == 1 for s in synapses) and is_whole(node, synapses):
            found[node.name] = WholeWindow(node, synapses, timesteps)
    return found


def _check_spikes(node: Node, array: np.ndarray, timesteps: int) -> None:
    """Refuse (E0330) what a program's synapses would not take for what it is."""
    if has_time(node) and (array.shape[1] != timesteps or not np.isin(array, (0, 1)).all()):
        raise refuse(
            "E0330",
            f"the data for input {node.name!r} are not spikes, 0 and 1, in {timesteps} steps",
            node=node.name,
            supported=f"0 and 1, [samples, {timesteps}, {', '.join(map(str, node.shape))}]",
        )


def _integers(name: str, array: np.ndarray) -> Tensor:
    if array.dtype in BYTES:
        return torch.from_numpy(np.ascontiguousarray(array).view(np.uint8))
    whole = np.asarray(array).astype(np.int32)
    if not np.array_equal(whole, array):
        raise refuse(
            "E0330",
            f"the data for input {name!r} are not integers of 32 bits",
            node=name,
            supported="spikes or payloads",
        )
    return torch.from_numpy(whole)
