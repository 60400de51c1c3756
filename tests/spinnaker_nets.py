"""Netlists made by hand, of the shapes that mapping and its checks are tried on."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from hsnn_compiler.backends.spinnaker.netlist import Netlist, Population, Projection, Turn


def neurons(name: str, size: int, depth: int, beta: float = 0.9, **fields: float) -> Population:
    values = {"threshold": 1.0, "v_init": 0.0, "bias": 0.0, **fields}
    arrays = {key: np.full(size, float(value)) for key, value in values.items()}
    return Population(name, "neurons", (size,), depth, np.full(size, beta), **arrays)  # type: ignore[arg-type]


def source(name: str, size: int, depth: int = 0) -> Population:
    return Population(name, "source", (size,), depth)


def joined(name: str, before: Population, after: Population, density: float = 1.0, scale: float = 0.1) -> Projection:
    """Random synapses of both signs, with the delay that the depths ask for."""
    rng = np.random.default_rng(len(name) + before.size + after.size)
    pre, post = np.nonzero(rng.random((before.size, after.size)) < density)
    weight = rng.normal(size=len(pre)) * scale
    delay = max(after.depth - before.depth, 1)
    return Projection(name, before.name, after.name, pre.astype(np.int32), post.astype(np.int32), weight, delay)


def netlist(populations: list[Population], projections: list[Projection], timesteps: int = 16) -> Netlist:
    steps = max(population.depth for population in populations) + timesteps
    turn = Turn(0, steps, {part.name: part for part in populations}, {part.name: part for part in projections})
    return Netlist("hand-made", timesteps, (turn,), {populations[-1].name: "spikes"})


def dense(*sizes: int) -> Netlist:
    """Layers of neurons, one after the other, behind a source."""
    populations = [source("in", sizes[0])]
    populations += [neurons(f"layer{i}", size, i) for i, size in enumerate(sizes[1:], 1)]
    projections = [joined(f"w{i}", before, after) for i, (before, after) in enumerate(pairwise(populations))]
    return netlist(populations, projections)
