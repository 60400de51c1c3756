"""Random turns of the chip, and the same in plain loops: one sample, one neuron, one spike at a time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import nir
import numpy as np
import torch

from hsnn_compiler.backends.spinnaker.execute import Given
from hsnn_compiler.backends.spinnaker.netlist import Population, Projection, Turn
from hsnn_compiler.backends.spinnaker.synapses import synapses_of
from hsnn_compiler.reference.result import Record

Net = tuple[Turn, Given]

torch.set_num_threads(1)  # these networks are so small that threads only wait for each other


def random_net(rng: np.random.Generator, samples: int, timesteps: int, prefix: str = "", grid: float = 0.0) -> Net:
    """Sources, a convolution or a matrix, more layers, a skip, presented values, clocks, starts and a readout.

    Args:
        rng: draws everything.
        samples, timesteps: of the input.
        prefix: of all names.
        grid: weights, biases, potentials and thresholds are whole multiples of it, and decays of 1/8; 0 for anywhere.
    """

    def on_grid(array: np.ndarray) -> np.ndarray:
        return np.round(array / grid) * grid if grid else array

    def decays(size: int) -> np.ndarray:
        beta = rng.uniform(0.5, 0.99, size if rng.random() < 0.5 else 1)
        return np.broadcast_to(np.round(beta * 8) / 8 if grid else beta, size).clip(0.5, 0.99)

    def neurons(name: str, shape: tuple[int, ...], depth: int, kind: str = "neurons") -> str:
        size = int(np.prod(shape))
        populations[prefix + name] = Population(
            prefix + name,
            kind,
            shape,
            depth,
            decays(size),
            on_grid(rng.uniform(0.8, 1.5, size)) if kind == "neurons" else None,
            on_grid(rng.uniform(-0.4, 0.7, size)) * (rng.random() < 0.7),
            on_grid(rng.uniform(-0.1, 0.3, size)) if depth == 0 else np.zeros(size),
            prefix + "x" if depth == 0 and kind == "neurons" else "",
        )
        return prefix + name

    def connect(name: str, pre: str, post: str, parts: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        delay = populations[post].depth - populations[pre].depth
        weight = on_grid(parts[2])
        keep = weight != 0
        projections[prefix + name] = Projection(
            prefix + name, pre, post, parts[0][keep], parts[1][keep], weight[keep], delay
        )

    def dense(pre: str, post: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        before, after = populations[pre].size, populations[post].size
        op = nir.Linear(rng.normal(0.6 / before**0.5, 1.6 / before**0.5, (after, before)))
        return synapses_of(op, (before,))

    populations: dict[str, Population] = {}
    projections: dict[str, Projection] = {}
    image = bool(rng.random() < 0.5)
    shape = (2, 5, 4) if image else (int(rng.integers(8, 24)),)
    source = populations[prefix + "in"] = Population(prefix + "in", "source", shape)
    if image:
        op = nir.Conv2d((5, 4), rng.normal(0.2, 0.5, (3, 2, 3, 3)), 1, 1, 1, 1, np.zeros(3))
        first = neurons("conv", (3, 5, 4), 1)
        connect("conv.w", source.name, first, synapses_of(op, shape))
    else:
        first = neurons("first", (int(rng.integers(8, 20)),), 1)
        connect("first.w", source.name, first, dense(source.name, first))
    direct = neurons("direct", (3, 4), 0)
    last = neurons("last", (int(rng.integers(4, 10)),), 3)
    second = neurons("second", (int(rng.integers(6, 16)),), 2)
    out = neurons("out", (4,), 4, "readout")
    for name, pre, post in (("a", first, second), ("b", second, last), ("skip", first, last), ("c", last, out)):
        connect(name, pre, post, dense(pre, post))
    connect("d", direct, last, dense(direct, last))
    for kind in ("clock", "start"):
        populations[prefix + kind] = Population(prefix + kind, kind, (1,))
        connect(f"{kind}.w", prefix + kind, second, dense(prefix + kind, second))
    spikes = (rng.random((samples, timesteps, *shape)) < 0.35).astype(np.uint8)
    given = Given({source.name: spikes}, {prefix + "x": on_grid(rng.normal(0.05, 0.2, (samples, 3, 4)))})
    return Turn(0, timesteps + 4, populations, projections), given


def union(nets: list[Net]) -> Net:
    """Nets beside each other, without synapses between them."""
    turn, given = nets[0]
    for other, more in nets[1:]:
        turn = replace(
            turn,
            steps=max(turn.steps, other.steps),
            populations={**turn.populations, **other.populations},
            projections={**turn.projections, **other.projections},
        )
        given = Given({**given.spikes, **more.spikes}, {**given.currents, **more.currents})
    return turn, given


def everything(turn: Turn) -> list[Record]:
    """All that neurons do."""
    return [(p.name, v) for p in turn.populations.values() if p.is_neural for v in "sv"]


def spikes_of(population: Population, given: Given, sample: int, t: int) -> list[int]:
    """Neurons of a source, a clock or a start that fire in a step of their window."""
    if population.kind == "source":
        return [int(i) for i in np.flatnonzero(given.spikes[population.name][sample, t])]
    return [0] if population.kind == "clock" or t == 0 else []


def in_loops(turn: Turn, timesteps: int, given: Given, sample: int) -> tuple[dict, dict]:
    """Float64, event by event: spikes as (population, step of the window, neuron), potentials by the same."""
    coming: dict[tuple[str, int, int], float] = defaultdict(float)
    v = {(p.name, i): float(p.v_init[i]) for p in turn.populations.values() if p.is_neural for i in range(p.size)}
    fired: dict[tuple[str, int, int], int] = {}
    potential: dict[tuple[str, int, int], float] = {}
    for step in range(1, turn.steps + 1):
        now: list[tuple[str, int]] = []
        for p in turn.populations.values():
            t = step - 1 - p.depth
            if not p.is_neural:
                now += [(p.name, i) for i in spikes_of(p, given, sample, t)] if 0 <= t < timesteps else []
                continue
            value = given.currents[p.presented][sample].reshape(-1) if p.presented else np.zeros(p.size)
            for i in range(p.size):
                new = p.beta[i] * v[p.name, i] + (p.bias[i] + value[i]) + coming.pop((p.name, i, step), 0.0)
                fires = p.threshold is not None and new >= p.threshold[i]
                v[p.name, i] = 0.0 if fires else new
                if fires:
                    now.append((p.name, i))
                if 0 <= t < timesteps:
                    fired[p.name, t, i], potential[p.name, t, i] = int(fires), v[p.name, i]
        for name, i in now:
            for projection in turn.projections.values():
                if projection.pre_population == name:
                    for k in np.flatnonzero(projection.pre == i):
                        key = (projection.post_population, int(projection.post[k]), step + projection.delay)
                        coming[key] += projection.weight[k]
    return fired, potential
