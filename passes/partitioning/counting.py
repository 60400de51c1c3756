"""What an assignment makes of a workload: signals that change sides, cores, and steps until the result is there."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

from hsnn_compiler.passes.partitioning.work import Traffic, Workload
from hsnn_compiler.targets import Target


class Boundary(NamedTuple):
    """A signal that changes sides.

    Attributes:
        src: who sends it.
        dsts: who takes it, on the other side.
        to_chip: the direction.
        traffic: what it is.
    """

    src: str
    dsts: tuple[str, ...]
    to_chip: bool
    traffic: Traffic


class Feeding(NamedTuple):
    """All synapses that end at a population: memory, axons, synaptic operations per inference."""

    weight_bits: int
    axons: int
    synaptic: float


def boundaries(work: Workload, chip: Collection[str]) -> list[Boundary]:
    """All signals that change sides in an assignment."""
    found = []
    for flow in work.flows:
        to_chip = flow.src not in chip
        others = tuple(name for name in flow.dsts if (name in chip) == to_chip)
        traffic = flow.to_chip if to_chip else flow.to_host
        if others and traffic is not None and traffic.what != "nothing":
            found.append(Boundary(flow.src, others, to_chip, traffic))
    return found


def feeding(work: Workload, name: str, chip: Collection[str]) -> Feeding:
    """What ends at a population, by way of ops on the chip between it and the populations before."""
    found = Feeding(0, 0, 0.0)
    seen, waiting = {name}, [name]
    while waiting:
        for source in work.graph.predecessors(waiting.pop()):
            item = work.works[source.name]
            if source.name in seen or item.neurons or source.name not in chip:
                continue
            seen.add(source.name)
            waiting.append(source.name)
            bits, axons, synaptic = found
            found = Feeding(bits + item.weight_bits, axons + item.axons, synaptic + item.synaptic)
    return found


def share(target: Target, neurons: int, weight_bits: int, axons: int) -> float:
    """Of a core, by whatever fills it first: see `hsnn_compiler.passes.usage`."""
    memory = target["core.synapse_words"] * target["core.weights_per_word"] * 8
    return max(neurons / target["core.neurons"], weight_bits / memory, axons / target["core.input_axons"])


def cores(work: Workload, chip: Collection[str], crossed: Sequence[Boundary]) -> int:
    """Neuron cores of the populations on the chip, with the integrators that are read; populations share none."""
    total = 0
    for name, item in work.works.items():
        integrators = max((b.traffic.integrators for b in crossed if b.src == name and not b.to_chip), default=0)
        neurons = item.neurons if name in chip else 0
        if neurons or integrators:
            ends = feeding(work, name, chip)
            bits, axons = ends.weight_bits, ends.axons
            if integrators:
                bits, axons = bits + item.weight_bits, axons + item.axons
            total += max(1, math.ceil(share(work.target, neurons + integrators, bits, axons)))
    return total


def longest(work: Workload, chip: Collection[str], crossed: Sequence[Boundary]) -> int:
    """Steps until the result is there: T for every turn of the chip, and one per layer; along the longest path."""
    read = {boundary.src for boundary in crossed if boundary.traffic.integrators}
    passed: dict[str, int] = {}
    for name, item in work.works.items():
        here = name in chip
        before = [
            passed[edge.src] + (work.profile.timesteps if here and edge.src not in chip else 0)
            for edge in work.graph.in_edges(name)
            if edge.src in passed  # a loop adds nothing
        ]
        layer = work.profile.layer_steps if here and item.neurons else 1 if here and name in read else 0
        passed[name] = max(before, default=0) + layer
    return max(passed.values(), default=0)
