"""A stage of the host between two turns of the chip, run on what the integer executor has so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.order import groups
from hsnn_compiler.ir.quant import STATE_SHIFT, NeuronQuant
from hsnn_compiler.ir.stages import HostStage, host_stages, is_host, stage_graph
from hsnn_compiler.ir.types import Coding

Arrays = dict[str, np.ndarray]
Runner = Callable[[Arrays], Arrays]
"""Runs a stage: float32 arrays [batch, ...] by the names of what it reads to those of what it gives."""
MakeRunner = Callable[[Graph], Runner]
"""Makes a runner of a stage's graph, see `hsnn_compiler.ir.stages.stage_graph`."""

_TYPES = {Coding.SPIKES: torch.int8, Coding.GRADED: torch.int32}


class HostStageRun:
    """One stage of a program.

    Args:
        graph: the program.
        stage: of it.
        make: of the runner; by default the float executor.
    """

    def __init__(self, graph: Graph, stage: HostStage, make: MakeRunner | None = None) -> None:
        self.graph, self.stage = graph, stage
        self.part = stage_graph(graph, stage)
        self._make = make or float_runner
        self._runner: Runner | None = None

    def run(self, signals: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the stage gives: values [batch, ...], or what it puts out in every step, [time, batch, ...].

        Args:
            signals: of all that it reads, as the integer executor has them.
        """
        if self._runner is None:
            self._runner = self._make(self.part)
        given = {
            read.name: self._array(self.graph[read.name], read.kind, signals[read.name]) for read in self.stage.reads
        }
        found = self._runner(given)
        return {name: self._signal(self.graph[name], found[f"{name}.out"]) for name in self.stage.gives}

    def _array(self, node: Node, kind: str, signal: Tensor) -> np.ndarray:
        if kind == "potential":
            assert isinstance(node.quant, NeuronQuant)
            return (signal[-1].to(torch.float32) / (node.quant.scale * 2**STATE_SHIFT)).numpy()
        value = signal if kind == "value" else signal.transpose(0, 1)
        return np.ascontiguousarray(value.to(torch.float32).numpy())

    def _signal(self, node: Node, found: np.ndarray) -> Tensor:
        value = torch.from_numpy(found)
        if node.type is None or not node.type.coding.per_step:
            return value
        return value.transpose(0, 1).to(_TYPES.get(node.type.coding, value.dtype))


def in_turns(
    graph: Graph, number: Mapping[str, int], make: MakeRunner | None
) -> tuple[list[list[Node]], dict[str, HostStageRun]]:
    """Groups of nodes in an order in which host and chip take turns, and stages of the host, by node.

    The stages are those between two turns of the chip, and those behind it that work in steps: each runs as one.

    Args:
        graph: a program.
        number: stages of its nodes.
        make: see `HostStageRun`.
    """
    order = groups(graph)
    found = [stage for stage in host_stages(graph) if stage.number and (stage.feeds_chip or _has_steps(graph, stage))]
    if found:
        order.sort(key=lambda group: (number[group[0].name], not is_host(group[0])))
    runs = [HostStageRun(graph, stage, make) for stage in found]
    return order, {name: run for run in runs for name in run.stage.nodes}


def _has_steps(graph: Graph, stage: HostStage) -> bool:
    """Whether any node of a stage puts out something in every step."""
    return any(node.type is not None and node.type.coding.per_step for node in map(graph.__getitem__, stage.nodes))


def float_runner(part: Graph) -> Runner:
    """A stage on the float executor."""
    from hsnn_compiler.reference.float_executor import FloatExecutor

    executor = FloatExecutor(part)
    return lambda arrays: executor.run_batch(arrays).outputs
