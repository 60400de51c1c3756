"""Random spiking networks for SpiNNaker 2, and its steps in plain numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from picks import Picks
from spinnaker_graphs import random_network
from value_graphs import run_passes

from hsnn_compiler.backends.spinnaker2.netlist import LifPopulation, Spinnaker2Netlist
from hsnn_compiler.ir import Graph
from hsnn_compiler.passes.pipeline import default_pipeline
from hsnn_compiler.targets import load_target


def compile_(graph: Graph, **context: Any) -> Graph:
    """The default pipeline of the target."""
    target = load_target("spinnaker2")
    return run_passes(graph, default_pipeline("spinnaker2"), target=target, **context)[-1].result.graph


def random_lif_network(p: Picks) -> tuple[Graph, np.ndarray]:
    """A network of 1 to 4 populations that subtract or reset to zero, with or without a leak, and 2 samples."""
    graph, x = random_network(p)
    for node in [node for node in graph if node.is_spiking]:
        assert node.dynamics is not None
        decay = 1.0 if p.flag(3) else node.dynamics.decay
        graph.update(node.name, dynamics=replace(node.dynamics, reset=p.choice(["subtract", "zero"]), decay=decay))
    return graph, x


def run_in_numpy(netlist: Spinnaker2Netlist, given: Mapping[str, np.ndarray], sample: int) -> dict[str, np.ndarray]:
    """Windows of all neurons of one sample, neuron by neuron and synapse by synapse: spikes, and potentials.

    Args:
        netlist: to run, a turn after the other.
        given: what the host presents and sends, by name, [samples, ...].
        sample: which.
    """
    found: dict[str, np.ndarray] = {}
    steps, f = netlist.timesteps, np.float32
    for turn in netlist.turns:
        fired: dict[str, np.ndarray] = {}
        potential = {}
        for name, p in turn.populations.items():
            assert isinstance(p, LifPopulation)
            fired[name] = np.zeros((turn.steps, p.size), int)
            potential[name] = np.zeros((turn.steps, p.size))
            if p.kind == "source":
                fired[name][p.depth : p.depth + steps] = given[name][sample].reshape(steps, -1)
            if p.kind == "clock":
                fired[name][p.depth : p.depth + steps] = 1
        state = {name: p.v_init.astype(f) for name, p in turn.populations.items() if p.is_neural}
        for time in range(turn.steps):
            for name, p in turn.populations.items():
                if not p.is_neural:
                    continue
                arrived = np.zeros(p.size, int)
                for projection in turn.arriving(name):
                    if time:
                        for i, j, w in zip(projection.pre, projection.post, projection.weight, strict=True):
                            arrived[j] += int(w) * fired[projection.pre_population][time - 1, i]
                for j in range(p.size):
                    offset = f(p.bias[j])
                    if p.presented:
                        offset = f(p.bias[j] + given[p.presented][sample].reshape(-1)[j].astype(float) * p.scale[j])
                    v = f(f(f(f(p.beta[j]) * state[name][j]) + offset) + f(arrived[j]))
                    if p.threshold is not None and v > f(p.threshold[j]):
                        fired[name][time, j] = 1
                        v = f(v - f(p.threshold[j])) if p.reset == "reset_by_subtraction" else f(0)
                    state[name][j] = v
                    potential[name][time, j] = float(v) / p.scale[j]
        for name, p in turn.populations.items():
            if p.is_neural:
                trace = potential if p.kind == "readout" else fired
                found[name] = trace[name][p.depth : p.depth + steps].reshape(steps, *p.shape)
    return found
