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
from hsnn_compiler.ir.timing import layers
from hsnn_compiler.reference.batches import BATCH_SIZE, Inlets, Inputs, batches, has_time, run_in_batches
from hsnn_compiler.reference.fused import BYTES, FusedPlan, last_uses, on_loops, worth_compiling
from hsnn_compiler.reference.loihi_collect import WholeWindow, is_whole
from hsnn_compiler.reference.loihi_front import Front, front_nodes, spike_sources
from hsnn_compiler.reference.loihi_fused import FusedLoihi, is_graded, make_plan
from hsnn_compiler.reference.loihi_parameters import biased, is_population, unquantised
from hsnn_compiler.reference.loihi_run import LoihiRun
from hsnn_compiler.reference.loihi_synapse import IntegerSynapse
from hsnn_compiler.reference.result import Record, Result, join
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

    Attributes:
        functions: of everything without a state, on [n, ...].
        layers: of every node, see `hsnn_compiler.ir.timing.layers`.
        front: what runs on the host in every step before the chip, if anything.
        windows: of Collects that can be done without the steps of what feeds them.
        in_windows, before_windows: names of the synapse ops in front of these, and of what feeds them, which must wait.
        last_use: by position in `groups`, the signals that nothing after it needs.
    """

    def __init__(self, graph: Graph, compiles: bool | None = None) -> None:
        self.graph = graph
        self.compiles = compiles
        self.groups = groups(graph)
        self.timesteps = graph.timesteps or 1
        self.is_raw = graph.timesteps is None and all(has_time(node) for node in graph.of_kind("Input"))
        self.layers = layers(graph)
        checks = (unquantised, biased) if self.is_raw else (unquantised,)
        missing = [found for node in graph if node.on_chip for check in checks if (found := check(node))]
        if missing:
            raise HsnnError(missing)
        self.functions: dict[str, Callable[[Tensor], Tensor]] = {}
        self.front = Front(graph) if not self.is_raw and front_nodes(graph) else None
        for node in graph:
            quant = node.quant
            if isinstance(quant, WeightQuant):
                self.functions[node.name] = IntegerSynapse(
                    quant.integers, node.op, quant.exponent, quant.bits, quant.message_bits
                )
            elif not (is_population(node) or node.kind in NO_FUNCTION or self._is_in_front(node)):
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

    def _is_in_front(self, node: Node) -> bool:
        return self.front is not None and node.name in self.front.inside

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
        given = self._tensors(inputs)
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

    @torch.no_grad()
    def mantissas(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """What the host writes into the chip, before anything runs there.

        Returns the bias mantissas [samples, ...] int32 of each population that an Encode feeds,
        constant part included.
        """
        fed = [
            node
            for node in self.graph
            if is_population(node) and any(s.kind == "Encode" for s in self.graph.predecessors(node.name))
        ]
        before = {
            name
            for node in fed
            for source in self.graph.predecessors(node.name)
            if source.kind == "Encode"
            for name in (source.name, *self.graph.ancestors(source.name))
        }
        collected: dict[str, list[np.ndarray]] = {node.name: [] for node in fed}
        for batch, _, _ in batches(self.graph, inputs, BATCH_SIZE):
            run = LoihiRun(self, len(next(iter(batch.values()))))
            run.advance(self._tensors(batch), before)
            for node in fed:
                collected[node.name].append(run.mantissa(node).to(torch.int32).numpy())
        return {name: np.concatenate(parts) for name, parts in collected.items()}

    @torch.no_grad()
    def spike_trains(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Spikes that the host sends to the chip, int8 [samples, time, ...] (payloads int32), by node."""
        names = [node.name for node in spike_sources(self.graph)]
        trains: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for batch, _, _ in batches(self.graph, inputs, BATCH_SIZE) if names else ():
            given = self._tensors(batch)
            signals = {**given, **(self.front.run(given, ())[0] if self.front else {})}
            for name in names:
                trains[name].append(signals[name].transpose(0, 1).numpy())
        return {name: np.concatenate(parts) for name, parts in trains.items()}

    @torch.no_grad()
    def complete(self, inputs: Inputs, chip: Mapping[str, np.ndarray]) -> Result:
        """Outputs for given chip results: what populations put out, [samples, time, ...], e.g. recorded from Lava."""
        after, waiting = set(), [node.name for node in self.graph.of_kind("Output")]
        while waiting:
            name = waiting.pop()
            if name not in after and name not in chip:
                after.add(name)
                waiting += [edge.src for edge in self.graph.in_edges(name)]
        results = []
        for batch, done, _ in batches(self.graph, inputs, BATCH_SIZE):
            size = len(next(iter(batch.values())))
            signals = {
                name: torch.from_numpy(np.asarray(array[done - size : done], np.int32)).transpose(0, 1)
                for name, array in chip.items()
            }
            run = LoihiRun(self, size)
            run.advance({**self._tensors(batch), **signals}, after)
            results.append(Result(run.result().outputs))
        return join(results)

    def _tensors(self, inputs: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
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
