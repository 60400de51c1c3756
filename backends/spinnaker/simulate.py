"""A program whose chip is SpiNNaker, with the host's stages between its turns, on any runner of turns.

Stages of the host run on the float executor in float64, as in the reference: what differs is the chip's arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch

from hsnn_compiler.backends.spinnaker.board_run import board_config, run_board
from hsnn_compiler.backends.spinnaker.execute import Given, Progress, TurnResult, TurnRunner
from hsnn_compiler.backends.spinnaker.fixed_run import FixedArithmetic
from hsnn_compiler.backends.spinnaker.float_run import FloatArithmetic
from hsnn_compiler.backends.spinnaker.lower import lower
from hsnn_compiler.backends.spinnaker.nest_run import run_nest
from hsnn_compiler.backends.spinnaker.netlist import Netlist, Turn
from hsnn_compiler.backends.spinnaker.stepping import Stepped
from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.stages import HostStage, host_stages, stage_graph
from hsnn_compiler.reference.batches import BATCH_SIZE, Inlets, Inputs
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.reference.result import Record, Result, join

FLOAT, FIXED, NEST, BOARD = "spinnaker-float", "spinnaker-fixed", "nest", "spinnaker"
BACKENDS = (NEST, FIXED, FLOAT, BOARD)
"""Names for ``simulate --backend``: NEST, the chip's arithmetic emulated, the netlist in float64, and a board."""
CHILD_BATCH_SIZE = 1024  # every batch starts a process


def simulate(
    graph: Graph,
    inputs: Inputs,
    record: Collection[Record] = (),
    *,
    backend: str,
    directory: Path | None = None,
    batch_size: int = BATCH_SIZE,
    deadline_s: float = 600.0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Run samples through a program.

    Args:
        graph: compiled for SpiNNaker.
        inputs: [samples, ...] as for the executors.
        record: populations' ``s`` and ``v`` to keep, [samples, time, ...]; of the chip also those that fire never.
        backend: one of `BACKENDS`.
        directory: the bundle's folder, whose ``spynnaker.cfg`` may name a board.
        batch_size: samples at a time; bounds the memory.
        deadline_s: of NEST and boards, for each start of them.
        on_progress: called with (samples done, all samples).

    Raises:
        HsnnError: E0204 where there is nothing of a name to record, and what the runner raises.
    """
    runner = runner_of(backend, deadline_s, directory)
    program = Simulation(graph, runner)
    program.check(record)
    results = []
    start, size = 0, CHILD_BATCH_SIZE if backend in (NEST, BOARD) else batch_size
    for batch, stop, total in Inlets(graph).batches(inputs, size):
        progress = None if on_progress is None else partial(_whole, on_progress, start, total)
        results.append(program.run(batch, record, progress))
        if on_progress:
            on_progress(stop, total)
        start = stop
    return join(results)


def runner_of(backend: str, deadline_s: float, directory: Path | None = None) -> TurnRunner:
    """The runner of a backend. E0202 where there is none of the name, E0708 where no board is configured."""
    if backend == BOARD:
        folders = [Path.cwd()] if directory is None else [directory, Path.cwd()]
        return partial(run_board, deadline_s=deadline_s, config=board_config(folders))
    runners: dict[str, TurnRunner] = {
        NEST: partial(run_nest, deadline_s=deadline_s),
        FIXED: Stepped(FixedArithmetic),
        FLOAT: Stepped(FloatArithmetic),
    }
    if backend not in runners:
        raise refuse("E0202", f"no backend named {backend!r}", supported=", ".join(BACKENDS))
    return runners[backend]


class Simulation:
    """A program, bound to a runner.

    Args:
        graph: compiled for SpiNNaker.
        runner: of turns.
        netlist: of the graph, where it is known already.
    """

    def __init__(self, graph: Graph, runner: TurnRunner, netlist: Netlist | None = None) -> None:
        self.graph, self.runner = graph, runner
        self.netlist = lower(graph) if netlist is None else netlist
        self.stages = {stage.number: stage for stage in host_stages(graph)}
        self.turns = {turn.number: turn for turn in self.netlist.turns}
        self._executors: dict[int, FloatExecutor] = {}

    def check(self, record: Collection[Record]) -> None:
        """Refuse (E0204) to record what there is not."""
        own = {name for name, part in self.netlist.populations.items() if part.is_neural}
        inside = {name for stage in self.stages.values() for name in stage.nodes if self.graph[name].is_population}
        for name, variable in record:
            if not ((name in own and variable in "sv") or (name in inside and variable in "suv")):
                raise refuse(
                    "E0204",
                    f"nothing to record under {name}:{variable}",
                    supported=f"s or v of {', '.join(sorted(own | inside))}",
                )

    def run(self, inputs: Mapping[str, np.ndarray], record: Collection[Record], progress: Progress | None) -> Result:
        """One batch: inputs by name, [samples, ...]."""
        signals: dict[str, np.ndarray] = dict(inputs)
        result = Result()
        samples, done = len(next(iter(signals.values()))), 0
        for number in sorted({*self.stages, *self.turns}):
            if number in self.stages:
                self._on_host(self.stages[number], signals, record, result)
            if number in self.turns:
                inner = None if progress is None else partial(_part, progress, done, len(self.turns), samples)
                self._on_chip(self.turns[number], signals, record, result, inner)
                done += 1
        for node in self.graph.of_kind("Output"):
            result.outputs[node.name] = signals[self.graph.predecessors(node.name)[0].name]
        return result

    def _on_host(
        self, stage: HostStage, signals: dict[str, np.ndarray], record: Collection[Record], result: Result
    ) -> None:
        if stage.number not in self._executors:
            part = stage_graph(self.graph, stage)
            self._executors[stage.number] = FloatExecutor(part, torch.float64)
        given = {read.name: signals[read.name] for read in stage.reads}
        for read in stage.reads:
            if read.kind == "potential":
                given[read.name] = signals[read.name][:, -1]
        inside = set(stage.nodes)
        found = self._executors[stage.number].run_batch(given, [key for key in record if key[0] in inside])
        signals.update({name: found.outputs[f"{name}.out"] for name in stage.gives})
        result.trace.update(found.trace)
        result.spikes.update({name: count for name, count in found.spikes.items() if name in inside})
        result.saturated.update({name: count for name, count in found.saturated.items() if name in inside})

    def _on_chip(
        self,
        turn: Turn,
        signals: dict[str, np.ndarray],
        record: Collection[Record],
        result: Result,
        progress: Progress | None,
    ) -> None:
        parts = turn.populations.values()
        given = Given(
            {part.name: signals[part.name] for part in parts if part.kind == "source"},
            {part.presented: signals[part.presented] for part in parts if part.presented},
        )
        firing = [part.name for part in parts if part.kind == "neurons"]
        silent = [part.name for part in parts if part.kind == "readout"]
        # what never fires puts out its potential, as in the reference
        wanted = {(name, "v" if name in silent else v) for name, v in record if name in turn.populations}
        wanted |= {(name, "s") for name in firing} | {(name, "v") for name in silent}
        found = self.runner(turn, self.netlist.timesteps, given, sorted(wanted), progress)
        signals.update({name: found.spikes[name] for name in firing})
        signals.update({name: found.potential[name] for name in silent})
        for name, variable in record:
            if name in firing or name in silent:
                result.trace[name, variable] = _of(found, name, "v" if name in silent else variable)
        result.spikes.update({name: int(found.spikes[name].sum()) for name in firing})
        result.saturated.update(found.saturated)


def _of(found: TurnResult, name: str, variable: str) -> np.ndarray:
    return found.spikes[name] if variable == "s" else found.potential[name]


def _whole(progress: Progress, start: int, total: int, done: int, _: int) -> None:
    progress(start + done, total)


def _part(progress: Progress, turn: int, turns: int, samples: int, done: int, total: int) -> None:
    """Samples of a turn count as that part of a sample."""
    progress(int(samples * (turn + done / max(total, 1)) / turns), samples)
