"""Both ends of a compiled program: what the host gives the chip, and what it makes of the chip's results."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch

from hsnn_compiler.ir.graph import Node
from hsnn_compiler.reference.batches import BATCH_SIZE, Inputs, batches, has_time
from hsnn_compiler.reference.loihi_executor import LoihiExecutor
from hsnn_compiler.reference.loihi_front import spike_sources
from hsnn_compiler.reference.loihi_parameters import is_population
from hsnn_compiler.reference.loihi_run import LoihiRun
from hsnn_compiler.reference.result import Result, join


@torch.no_grad()
def mantissas(executor: LoihiExecutor, inputs: Inputs) -> dict[str, np.ndarray]:
    """What the host writes into the chip, before anything runs there.

    Returns the bias mantissas [samples, ...] int32 of each population that an Encode feeds,
    constant part included.
    """
    fed = [
        node
        for node in executor.graph
        if is_population(node) and any(_is_early(executor, s) for s in executor.graph.predecessors(node.name))
    ]
    before = {
        name
        for node in fed
        for source in executor.graph.predecessors(node.name)
        if _is_early(executor, source)
        for name in (source.name, *executor.graph.ancestors(source.name))
    }
    collected: dict[str, list[np.ndarray]] = {node.name: [] for node in fed}
    for batch, _, _ in batches(executor.graph, inputs, BATCH_SIZE):
        run = LoihiRun(executor, len(next(iter(batch.values()))))
        run.advance(executor.tensors(batch), before)
        for node in fed:
            collected[node.name].append(run.mantissa(node).to(torch.int32).numpy())
    return {name: np.concatenate(parts) for name, parts in collected.items()}


def _is_early(executor: LoihiExecutor, node: Node) -> bool:
    """Whether a node is an Encode that needs nothing of what the chip does."""
    return node.kind == "Encode" and executor.stages[node.name] == 0


@torch.no_grad()
def spike_trains(executor: LoihiExecutor, inputs: Inputs) -> dict[str, np.ndarray]:
    """Spikes that the host sends to the chip, int8 [samples, time, ...] (payloads int32), by node."""
    names = [node.name for node in spike_sources(executor.graph)]
    trains: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for batch, _, _ in batches(executor.graph, inputs, BATCH_SIZE) if names else ():
        given = executor.tensors(batch)
        signals = {**given, **(executor.front.run(given, ())[0] if executor.front else {})}
        for name in names:
            trains[name].append(signals[name].transpose(0, 1).numpy())
    return {name: np.concatenate(parts) for name, parts in trains.items()}


@torch.no_grad()
def values(executor: LoihiExecutor, inputs: Inputs, names: Collection[str]) -> dict[str, np.ndarray]:
    """Values [samples, ...] of nodes of the host that need nothing of what the chip does, by name.

    Those of each step are [samples, time, ...].
    """
    before = {name for wanted in names for name in (wanted, *executor.graph.ancestors(wanted))}
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for batch, _, _ in batches(executor.graph, inputs, BATCH_SIZE) if names else ():
        run = LoihiRun(executor, len(next(iter(batch.values()))))
        run.advance(executor.tensors(batch), before)
        for name in names:
            value = run.signals[name]
            found[name].append((value.transpose(0, 1) if has_time(executor.graph[name]) else value).numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


@torch.no_grad()
def complete(executor: LoihiExecutor, inputs: Inputs, chip: Mapping[str, np.ndarray]) -> Result:
    """Outputs for given chip results: what populations put out, [samples, time, ...], e.g. recorded from Lava."""
    after, waiting = set(), [node.name for node in executor.graph.of_kind("Output")]
    while waiting:
        name = waiting.pop()
        if name not in after and name not in chip:
            after.add(name)
            waiting += [edge.src for edge in executor.graph.in_edges(name)]
    results = []
    for batch, done, _ in batches(executor.graph, inputs, BATCH_SIZE):
        size = len(next(iter(batch.values())))
        signals = {
            name: torch.from_numpy(np.asarray(array[done - size : done], np.int32)).transpose(0, 1)
            for name, array in chip.items()
        }
        run = LoihiRun(executor, size)
        run.advance({**executor.tensors(batch), **signals}, after)
        results.append(Result(run.result().outputs))
    return join(results)
