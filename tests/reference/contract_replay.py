"""The whole contract once more: one neuron, one step at a time, in plain Python; and networks of such neurons.

Written from the equations in docs/semantics.md, not from the executor. Differences in the order of
floating-point operations are all that may show.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hsnn_compiler.ir import Dynamics, Graph

SPIKING = ("IF", "LIF", "CubaLIF")


class Neuron:
    """One neuron: `p` holds its NIR parameters, `how` the contract, all as plain numbers."""

    def __init__(self, kind: str, p: dict[str, float], how: dict[str, Any]) -> None:
        self.kind, self.p, self.how = kind, p, how
        self.v = how["v_init"]
        self.u = (how["u_init"] or 0.0) if kind.startswith("Cuba") else 0.0
        self.fired = 0.0
        self.held = 0
        self.returns = False  # to its current, as the next step begins

    def relaxation(self, tau: float) -> tuple[float, float]:
        """What is left of a state after one step, and the part of its goal that it has taken on."""
        dt = self.how["dt"]
        left = math.exp(-dt / tau) if self.how["integrator"] == "exact" else 1 - dt / tau
        return left, 1 - left

    def step(self, i: float) -> float:
        """One step on input i; returns spikes, or the potential where nothing spikes."""
        p, how = self.p, self.how
        if how["reset_at"] == "before" and self.fired:
            self.v = self.reset(self.v, self.fired)
        if self.returns:
            self.v, self.returns = self.u, False
        before = self.u
        left, current_gain = self.current_coefficients()
        self.u = left * before + current_gain * i + (how["current_leak"] or 0.0) if self.kind.startswith("Cuba") else i
        goes = self.u if how["current_first"] else before
        if self.kind in ("IF", "I"):
            left, gain, leak = 1.0, p["r"] * (1 if how["if_rate"] == "step" else how["dt"]), 0.0
        else:
            left, taken = self.relaxation(p["tau_mem"] if self.kind.startswith("Cuba") else p["tau"])
            gain, leak = p["r"] * taken, p["v_leak"] * taken
        left, gain, leak = (
            given if given is not None else own
            for given, own in ((how["decay"], left), (how["gain"], gain), (how["leak"], leak))
        )
        start, apart = self.v, self.v - before
        less = p["v_threshold"] if how["reset_at"] == "undelayed" and self.kind in SPIKING and self.count() else 0.0
        if not self.held:
            self.v = left * start + gain * goes + leak
        if how["reset_at"] == "after" and self.fired:
            if how["reset_to_current"] and self.kind == "CubaLIF":
                self.u -= p["v_threshold"] * current_gain
                self.v += apart / current_gain
                self.returns = True
            else:
                self.v = self.reset(self.v, self.fired)
            if how["reset_current"] and self.kind == "CubaLIF":
                self.u = 0.0
        if how["v_min"] is not None and self.v < how["v_min"]:
            self.v = how["v_min"]
        if self.kind not in SPIKING:
            return self.v
        self.v -= less
        spikes = 0.0 if self.held else self.count()
        self.v += less
        self.held = how["refractory"] if spikes else max(0, self.held - 1)
        self.fired = spikes
        if spikes and how["reset_at"] in ("spike", "undelayed"):
            self.v = self.reset(self.v, spikes)
        if spikes and how["reset_at"] == "crossing":
            goal = p["v_leak"] + p["r"] * goes
            early = start >= p["v_threshold"]
            met = 0.0 if early else p["tau"] * math.log((goal - start) / (goal - p["v_threshold"]))
            after = 0.0 if how["reset"] == "zero" else p["v_reset"]
            self.v = goal + (after - goal) * math.exp(-(how["dt"] - met) / p["tau"])
        return spikes

    def current_coefficients(self) -> tuple[float, float]:
        """What is left of the synaptic current after a step, and the gain of its input."""
        p, how = self.p, self.how
        if not self.kind.startswith("Cuba"):
            return 0.0, 1.0
        left, taken = self.relaxation(p["tau_syn"])
        gain = p["w_in"] * taken
        if how["current_decay"] is not None:
            left, gain = how["current_decay"], p["w_in"]
        if how["current_gain"] is not None:
            gain = how["current_gain"]
        return left, gain

    def count(self) -> float:
        """How often it fires at this potential."""
        threshold, inclusive = self.p["v_threshold"], self.how["threshold_test"] == ">="
        spikes, rest, most = 0, self.v, self.how["max_spikes"] or 10000
        while (rest >= threshold if inclusive else rest > threshold) and spikes < most:
            spikes, rest = spikes + 1, rest - threshold
        return float(spikes)

    def reset(self, v: float, spikes: float) -> float:
        kind = self.how["reset"]
        if kind == "subtract":
            return v - spikes * self.p["v_threshold"]
        return {"zero": 0.0, "value": self.p["v_reset"], "none": v}[kind]


def population(op: Any, dynamics: Dynamics, n: int) -> list[Neuron]:
    """The n neurons of a one-dimensional population."""

    def at(value: Any, i: int) -> Any:
        array = None if value is None or isinstance(value, (str, bool)) else np.asarray(value, np.float64).ravel()
        return value if array is None else float(array[i if array.size > 1 else 0])

    parameters = ("r", "tau", "tau_mem", "tau_syn", "w_in", "v_leak", "v_threshold", "v_reset")
    return [
        Neuron(
            type(op).__name__,
            {key: at(getattr(op, key), i) for key in parameters if hasattr(op, key)},
            {key: at(value, i) for key, value in vars(dynamics).items()},
        )
        for i in range(n)
    ]


def network(graph: Graph, inputs: dict[str, np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    """Every node's signal, and u and v of neurons, [time, n], for inputs [time, n]: by asking each node
    for step t, which asks those that feed it for step t - delay. All nodes are one-dimensional.
    """
    steps = len(next(iter(inputs.values())))
    neurons = {n.name: population(n.op, n.dynamics, n.shape[0]) for n in graph if n.is_neuron and n.dynamics}
    known: dict[tuple[str, int], np.ndarray] = {}
    states: dict[tuple[str, str], list[list[float]]] = {}

    def arriving(name: str, t: int) -> np.ndarray:
        total = np.zeros(graph[name].shape)
        for edge in graph.in_edges(name):
            if t >= edge.delay:
                total = total + value(edge.src, t - edge.delay)
        return total

    def value(name: str, t: int) -> np.ndarray:
        if (name, t) not in known:
            known[name, t] = compute(name, t)
        return known[name, t]

    def compute(name: str, t: int) -> np.ndarray:
        node = graph[name]
        if node.kind == "Input":
            return inputs[name][t]
        if node.kind == "Delay":
            assert node.dynamics is not None
            waits = np.broadcast_to(np.rint(node.op.delay / node.dynamics.dt).astype(int), node.shape)
            return np.array([arriving(name, t - w)[i] if t >= w else 0.0 for i, w in enumerate(waits)])
        x = arriving(name, t)
        if node.is_neuron:
            out = [neuron.step(i) for neuron, i in zip(neurons[name], x.tolist(), strict=True)]
            for variable in "uv":
                states.setdefault((name, variable), []).append([getattr(n, variable) for n in neurons[name]])
            return np.array(out)
        if node.kind in ("Affine", "Linear"):
            return node.op.weight @ x + getattr(node.op, "bias", 0)
        if node.kind == "Scale":
            return x * node.op.scale
        if node.kind == "Threshold":
            return (x > node.op.threshold).astype(float)
        assert node.kind in ("Output", "NoOp")
        return x

    for t in range(steps):
        for node in graph:
            value(node.name, t)
    found = {(node.name, "s"): np.array([known[node.name, t] for t in range(steps)]) for node in graph}
    return {**found, **{key: np.array(rows) for key, rows in states.items()}}
