"""Random spiking networks that SpiNNaker runs exactly, and the machine's steps in plain numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nir
import numpy as np
import torch
from picks import Picks
from value_graphs import Net, run_passes

from hsnn_compiler.backends.spinnaker.netlist import Netlist, Turn
from hsnn_compiler.ir import Dynamics, Graph
from hsnn_compiler.ir.ops import Decode, Encode
from hsnn_compiler.passes.pipeline import default_pipeline
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.targets import load_target

BETAS = (0.5, 0.9, 0.75, 0.99, 0.0)


def compile_(graph: Graph, **context: Any) -> Graph:
    """The default pipeline of the target."""
    target = load_target("spinnaker")
    return run_passes(graph, default_pipeline("spinnaker"), target=target, **context)[-1].result.graph


def random_network(p: Picks) -> tuple[Graph, np.ndarray]:
    """A network of 1 to 4 populations that reset to zero, and 2 samples for it."""
    shape = p.choice([(6,), (4, 9), (2, 6, 5), (2, 4, 6)])
    net = Net(shape, timesteps=p.integer(2, 8), seed=p.integer(0, 999))
    x = net.rng.uniform(0, 1.5, (2, *shape)).astype(np.float32)
    net.encode() if p.flag() else net.add("encode", Encode(p.choice(["bitplane", "rate"]), high=1.5))
    before: list[str] = []
    for i in range(p.integer(1, 4)):
        feeds = [_layer(net, p, f"w{i}", p.integer(1, 3) if i else None)]
        alike = [name for name in before[:-1] if len(net.shape(name)) == 1 == len(net.shape(net.at))]
        if alike and p.flag():
            net.linear(f"skip{i}", net.shape(feeds[0])[0], p.choice(alike))
            feeds.append(net.at)
        _neurons(net, p, f"n{i}", feeds)
        before.append(net.at)
    _end(net, p)
    return net.done(None), x


def _layer(net: Net, p: Picks, name: str, out: int | None) -> str:
    """A convolution (with pooling in front now and then) or a matrix; the name of its end."""
    shape = net.shape(net.at)
    if len(shape) > 1 and p.flag(3) and out:
        net.flatten(f"{name}.flatten")
        shape = net.shape(net.at)
    if len(shape) == 1:
        return net.linear(name, out or p.integer(2, 6), bias=p.flag()).at
    if len(shape) == 3 and out and not any(n % 2 for n in shape[1:]) and p.flag():  # else no pass can fold it
        net.pool(f"{name}.pool", 2, total=p.flag())
        return net.conv(name, p.integer(1, 3), 1, stride=p.integer(1, 2)).at
    groups = p.divisor(shape[0]) if p.flag() else 1
    kernel = min(p.integer(1, 3), *shape[1:])
    padding = p.choice([0, 1, 2])
    return net.conv(name, groups * p.integer(1, 3), kernel, stride=p.integer(1, 2), padding=padding, groups=groups,
                    dilation=p.choice([1, 2]) if padding == 2 else 1).at  # fmt: skip


def _neurons(net: Net, p: Picks, name: str, feeds: list[str]) -> None:
    shape = net.shape(feeds[0])
    per_channel = (shape[0], *[1] * (len(shape) - 1)) if p.flag() else (1,) * len(shape)
    theta = net.rng.uniform(0.3, 1.2, per_channel)
    rule = Dynamics(
        integrator="none",
        reset="zero",
        reset_at=p.choice(["spike", "before"]),
        threshold_test=p.choice([">", ">="]),
        decay=p.choice(BETAS),
        gain=p.choice([1.0, 0.7]),
        leak=p.choice([0.0, 0.05]),
        v_init=theta * p.choice([0.0, 0.5, -0.5, 0.99]),
    )
    ones = np.ones_like(theta)
    net.add(name, nir.LIF(ones, ones, 0 * ones, theta, 0 * ones), *feeds, dynamics=rule)


def _end(net: Net, p: Picks) -> None:
    end = p.choice(["spikes", "layer", "integrator", "leaky"])
    if end == "spikes":
        net.add("decode", Decode(p.choice(["mean", "sum", "last", "bitplane"])))
        return
    if len(net.shape(net.at)) > 1:
        net.flatten("flatten")
    net.linear("fc", 3)
    if end == "layer":
        net.add("decode", Decode(p.choice(["mean", "sum", "last", "bitplane"])))
        return
    one = np.ones(1)
    rule = Dynamics(integrator="none", reset="none", decay=1.0 if end == "integrator" else 0.8, gain=1.0, v_init=0.25)
    op = nir.I(one) if end == "integrator" else nir.LI(one, one, 0 * one)
    net.add("integrates", op, dynamics=rule).add("decode", Decode("last", 0.5))


def reference(graph: Graph, x: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Signals of all nodes, and outputs, in float64."""
    names = [
        node.name for node in graph if node.kind not in ("Input", "Output") and not (node.is_synapse and node.on_chip)
    ]
    result = FloatExecutor(graph, torch.float64).run(x, [(name, "s") for name in names])
    return {name: array for (name, _), array in result.trace.items()}, result.outputs


def run_netlist(netlist: Netlist, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Windows of all neurons, [samples, T, *shape]: spikes, or potentials of those that never fire.

    Args:
        netlist: to run, a turn after the other.
        given: what the host presents and sends, by name, [samples, ...].
    """
    found: dict[str, np.ndarray] = {}
    for turn in netlist.turns:
        found |= _run_turn(turn, netlist.timesteps, given)
    return found


def _run_turn(turn: Turn, steps: int, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    samples = len(next(iter(given.values())))
    fired = {p.name: np.zeros((turn.steps + 1, samples, p.size)) for p in turn.populations.values()}
    seen = {p.name: np.zeros((turn.steps + 1, samples, p.size)) for p in turn.populations.values()}
    for name, p in turn.populations.items():
        window = slice(p.depth + 1, p.depth + steps + 1)
        if p.kind == "source":
            fired[name][window] = given[name].reshape(samples, steps, -1).swapaxes(0, 1)
        elif p.kind == "clock":
            fired[name][window] = 1
        elif p.kind == "start":
            fired[name][p.depth + 1] = 1
        else:
            seen[name][0] = p.v_init
    matrices = {}
    for name, projection in turn.projections.items():
        shape = (turn.populations[projection.pre_population].size, turn.populations[projection.post_population].size)
        matrices[name] = np.zeros(shape)
        np.add.at(matrices[name], (projection.pre, projection.post), projection.weight)
    for t in range(1, turn.steps + 1):
        for name, p in turn.populations.items():
            if not p.is_neural:
                continue
            v = p.beta * seen[name][t - 1] + p.bias
            if p.presented:
                v = v + given[p.presented].reshape(samples, -1)
            for projection in turn.arriving(name):
                if t > projection.delay:
                    v = v + fired[projection.pre_population][t - projection.delay] @ matrices[projection.name]
            if p.threshold is not None:
                fired[name][t] = v >= p.threshold
                v = np.where(fired[name][t] > 0, 0.0, v)
            seen[name][t] = v
    windows = {}
    for name, p in turn.populations.items():
        if p.is_neural:
            trace = fired if p.kind == "neurons" else seen
            windows[name] = trace[name][p.depth + 1 : p.depth + steps + 1].swapaxes(0, 1).reshape(-1, steps, *p.shape)
    return windows
