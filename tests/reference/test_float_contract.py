"""Every field of the contract, and graphs of every form, against a replay in plain Python."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import nir
import numpy as np
import pytest
import torch
from contract_replay import SPIKING, network
from hypothesis import given, settings
from picks import Picks, picks

from hsnn_compiler.ir import Coding, Dynamics, Edge, Graph, Node, TensorType
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.reference import float_executor
from hsnn_compiler.reference.float_executor import FloatExecutor

FIELDS = {
    "I": ("r",),
    "IF": ("r", "v_threshold", "v_reset"),
    "LI": ("tau", "r", "v_leak"),
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "w_in", "v_threshold", "v_reset"),
}
VALUES = {"r": (0.5, 1, 2), "tau": (2, 4), "tau_syn": (2, 4), "tau_mem": (2, 8), "w_in": (1, 2), "v_leak": (0, 0.25),
          "v_threshold": (0.5, 1), "v_reset": (0, -0.25, 0.125)}  # fmt: skip
"""With dt = 1 or 1/2 all of this is exact in float64, so thresholds are met exactly."""


def neuron(p: Picks, kind: str, n: int) -> tuple[Any, Dynamics]:
    """A neuron with any contract; one value per neuron or per population."""

    def some(*values: float) -> np.ndarray:
        return np.array([p.choice(values) for _ in range(p.choice([1, n]))], np.float64)

    op = getattr(nir, kind)(**{key: np.broadcast_to(some(*VALUES[key]), n).copy() for key in FIELDS[kind]})
    reset = p.choice(["zero", "value", "subtract", "none"])
    crossing = kind == "LIF" and reset in ("zero", "value") and p.flag(3)
    undelayed = kind in ("IF", "LIF", "CubaLIF") and reset == "subtract" and p.flag(3)
    to_current = kind == "CubaLIF" and reset == "subtract" and not undelayed and p.flag(3)
    special = crossing or undelayed or to_current
    maybe = {
        "decay": lambda: some(0.5, 1),
        "current_decay": lambda: some(0.25, 0.5),
        "gain": lambda: some(0.25, 1),
        "leak": lambda: some(0, 0.125),
        "current_gain": lambda: some(0.5, 2),
        "current_leak": lambda: some(0.125, -0.25),
        "u_init": lambda: some(0.5, -0.5),
        "v_min": lambda: some(-0.5, -0.25),
    }
    if undelayed or to_current:
        del maybe["v_min"]
    given = {} if crossing else {key: make() for key, make in maybe.items() if p.flag(4)}
    special_at = "crossing" if crossing else "undelayed" if undelayed else "after"
    reset_at = special_at if special else p.choice(["spike", "before", "after"])
    return op, Dynamics(
        dt=p.choice([1.0, 0.5]),
        integrator="exact" if crossing else p.choice(["euler", "exact", "none"]),
        reset=reset,
        reset_at=reset_at,
        reset_current=(reset, reset_at) == ("zero", "after") and p.flag(),
        reset_to_current=to_current,
        threshold_test=p.choice([">", ">="]),
        v_init=p.choice([0.0, 0.25, some(0, -0.25)]),
        if_rate=p.choice(["second", "step"]),
        max_spikes=1 if special else p.choice([1, 0, 2]),
        refractory=0 if special else p.choice([0, 0, 1, 3]),
        current_first=crossing or p.flag(),
        **given,
    )


def compare(graph: Graph, inputs: dict[str, np.ndarray], method: str = "steps") -> int:
    """Run both on a batch; returns the spikes."""
    record = [(node.name, variable) for node in graph for variable in ("suv" if node.is_neuron else "s")]
    trace = FloatExecutor(graph, torch.float64, method=method).run(inputs, record).trace
    spikes = 0
    for sample in range(len(next(iter(inputs.values())))):
        wanted = network(graph, {name: array[sample] for name, array in inputs.items()})
        for key in record:
            spikes += int(wanted[key].sum()) if key[1] == "s" and graph[key[0]].kind in SPIKING else 0
            np.testing.assert_allclose(trace[key][sample], wanted[key], atol=1e-9, rtol=1e-9, err_msg=str(key))
    return spikes


def input_node(name: str, n: int) -> Node:
    return Node(name, nir.Input(np.array([n])), TensorType((n,), Coding.CURRENT))


def drive(p: Picks, *shape: int) -> np.ndarray:
    return p.rng().integers(-6, 13, shape) / 4


@pytest.mark.parametrize("kind", FIELDS)
def test_every_field(kind: str) -> None:
    @settings(max_examples=80)
    @given(picks())
    def check(p: Picks) -> None:
        n = p.integer(1, 3)
        op, dynamics = neuron(p, kind, n)
        graph = Graph()
        graph.add(input_node("x", n))
        graph.add(Node("n", op, dynamics=dynamics), "x")
        graph.add(Node("y", nir.Output(np.array([n]))), "n")
        compare(infer_types(graph), {"x": drive(p, 2, p.integer(1, 12), n)})

    check()


def random_graph(p: Picks, n: int) -> Graph:
    """One or two inputs and outputs; nodes of every kind that keeps the shape; loops and self-loops, in
    each of which an edge or a Delay waits at least one step.
    """
    graph = Graph()
    for i in range(p.integer(1, 2)):
        graph.add(input_node(f"x{i}", n))
    names = [node.name for node in graph]
    for i in range(p.integer(1, 6)):
        kind = p.choice([*FIELDS, *FIELDS, "Affine", "Linear", "Scale", "Threshold", "Delay"])
        rng = p.rng()
        weight = rng.integers(-6, 9, (n, n)) / 8
        bias = rng.integers(-2, 3, n) / 4
        makers: dict[str, Any] = {
            "Affine": lambda w=weight, b=bias: nir.Affine(w, b),
            "Linear": lambda w=weight: nir.Linear(w),
            "Scale": lambda b=bias: nir.Scale(b + 0.5),
            "Threshold": lambda b=bias: nir.Threshold(b),
            "Delay": lambda: nir.Delay(np.array([p.choice([0, 1, 2, 3]) / 2 for _ in range(p.choice([1, n]))]) * 1.0),
        }
        op, dynamics = neuron(p, kind, n) if kind in FIELDS else (makers[kind](), None)
        if dynamics:  # a loop of neurons without limit runs away
            dynamics = replace(dynamics, max_spikes=dynamics.max_spikes or 4)
        if kind == "Delay":
            op.delay = np.broadcast_to(op.delay, n).copy()
            dynamics = Dynamics(0.5)
        node = graph.add(
            Node(f"n{i}", op, dynamics=dynamics), Edge(p.choice(names), f"n{i}", delay=p.choice([0, 0, 2]))
        )
        names.append(node.name)
    inner = [node.name for node in graph if node.kind != "Input"]
    for _ in range(p.integer(0, 4)):
        src, dst = p.choice(inner), p.choice(inner)
        back = names.index(src) >= names.index(dst)
        waits = graph[dst].kind == "Delay" and graph[dst].op.delay.min() > 0
        wait = p.choice([1, 1, 3]) if back and not waits else p.choice([0, 0, 1])
        edge = Edge(src, dst, delay=wait)
        if edge not in graph.edges:
            graph.connect(edge)
    for i in range(p.integer(1, 2)):
        graph.add(Node(f"y{i}", nir.Output(np.array([n]))), p.choice(inner) if i else inner[-1])
    return infer_types(graph)


def test_random_graphs_with_loops_and_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in one stretch of time and in stretches of eight steps, step by step and by layers."""
    spikes = loops = 0
    for seed in range(120):
        p = Picks.seeded(seed)
        graph = random_graph(p, p.integer(1, 3))
        inputs = {node.name: drive(p, 2, 21, *node.shape) for node in graph.of_kind("Input")}
        monkeypatch.setattr(float_executor, "STRETCH_BYTES", 1 if seed % 2 else 2**26)
        spikes += compare(graph, inputs, method="auto" if seed % 4 >= 2 else "steps")
        loops += any(edge.src in graph.descendants(edge.dst) for edge in graph.edges)
    assert spikes > 1000
    assert loops > 10


def test_cutting_time_and_the_method_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions included, which the replay has not."""
    p = Picks.seeded(5)
    graph = Graph()
    graph.add(Node("x", nir.Input(np.array([2, 5, 4])), TensorType((2, 5, 4), Coding.CURRENT)))
    weight = p.rng().normal(size=(3, 2, 3, 1)).astype(np.float32)
    graph.add(Node("c", nir.Conv2d((5, 4), weight, (2, 1), (1, 0), 1, 1, np.ones(3, np.float32))), "x")
    one = np.ones((3, 1, 1))
    lif = nir.LIF(tau=3 * one, r=one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)
    graph.add(Node("n", lif, dynamics=Dynamics(reset_at="after", refractory=2)), Edge("c", "n", delay=3))
    graph.connect(Edge("n", "n", delay=2))
    graph.add(Node("y", nir.Output(np.array([3, 3, 4]))), "n")
    graph = infer_types(graph)
    x = p.rng().normal(size=(2, 37, 2, 5, 4)) * 4
    results = []
    for stretch in (2**26, 1):
        monkeypatch.setattr(float_executor, "STRETCH_BYTES", stretch)
        for method in ("steps", "auto"):
            results.append(FloatExecutor(graph, torch.float64, method=method).run(x, [("n", "v")]))
    assert results[0].output.sum() > 50
    for other in results[1:]:
        np.testing.assert_array_equal(other.output, results[0].output)
        np.testing.assert_allclose(other.trace["n", "v"], results[0].trace["n", "v"], atol=1e-12)
