"""The float executor against a replay of the equations, neuron by neuron and step by step."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from naive_replay import replay
from picks import Picks, picks

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Dynamics, Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Add, Concat, Decode, Encode, ReLU
from hsnn_compiler.ir.spec import verify
from hsnn_compiler.reference.float_executor import FloatExecutor

KINDS = {
    "IF": ("r", "v_threshold", "v_reset"),
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"),
    "I": ("r",),
    "LI": ("tau", "r", "v_leak"),
    "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
}
RANGES = {"tau": (2, 9), "tau_syn": (2, 9), "tau_mem": (2, 9), "r": (0.5, 2), "v_leak": (-0.2, 0.2),
          "v_threshold": (0.3, 1.5), "v_reset": (-0.5, 0.2), "w_in": (0.5, 2)}  # fmt: skip


def random_neuron(p: Picks, kind: str, shape: tuple[int, ...]) -> tuple[Any, Dynamics]:
    """A neuron with one value per population, per channel or per neuron."""
    rng = p.rng()
    of = p.choice([(1,) * len(shape), (shape[0], *[1] * (len(shape) - 1)), shape])
    op = getattr(nir, kind)(**{name: rng.uniform(*RANGES[name], of) for name in KINDS[kind]})
    v_init = p.choice([0.0, 0.25, rng.uniform(-0.5, 0.5, of)])
    return op, Dynamics(
        dt=p.choice([1.0, 0.5]),
        integrator=p.choice(["euler", "exact"]),
        reset=p.choice(["zero", "value", "subtract", "none"]),
        threshold_test=p.choice([">", ">="]),
        v_init=v_init,
    )


@settings(max_examples=60)
@given(picks())
def test_every_neuron_does_what_its_equation_says(p: Picks) -> None:
    """Input - encode - conv - neuron - linear - neuron, with a connection around the middle."""
    steps, channels = p.integer(1, 9), p.integer(1, 3)
    rng = p.rng()
    x = rng.normal(size=(3, 2, 4, 3))
    conv = nir.Conv2d((4, 3), rng.normal(size=(channels, 2, 3, 1)), 1, (1, 0), 1, 1, rng.normal(size=channels))
    first = random_neuron(p, p.choice(["IF", "LIF", "CubaLIF"]), (channels, 4, 3))
    linear = nir.Affine(rng.normal(size=(5, channels * 12)) / 3, rng.normal(size=5))
    shortcut = nir.Linear(rng.normal(size=(5, 24)))
    second = random_neuron(p, p.choice(list(KINDS)), (5,))
    graph = Graph("g", steps)
    graph.add(Node("x", nir.Input(np.array([2, 4, 3]))))
    graph.add(Node("encode", Encode()), "x")
    graph.add(Node("conv", conv), "encode")
    graph.add(Node("first", first[0], dynamics=first[1]), "conv")
    graph.add(Node("flat", nir.Flatten({"input": np.array([channels, 4, 3])}, 0, -1)), "first")
    graph.add(Node("linear", linear), "flat")
    graph.add(Node("skip", nir.Flatten({"input": np.array([2, 4, 3])}, 0, -1)), "encode")
    graph.add(Node("shortcut", shortcut), "skip")
    feeds: tuple[Any, ...] = ("linear", "shortcut")
    if p.flag():  # an explicit addition means the same as two edges
        graph.add(Node("add", Add()), Edge("linear", "add", "0"), Edge("shortcut", "add", "1"))
        feeds = ("add",)
    graph.add(Node("second", second[0], dynamics=second[1]), *feeds)
    kind, gain = p.choice(["mean", "sum", "last"]), p.choice([1.0, 2.5])
    graph.add(Node("decode", Decode(kind, gain)), "second")
    graph.add(Node("y", nir.Output(np.array([5]))), "decode")
    graph = infer_types(graph)
    assert verify(graph) == []

    record = [(name, variable) for name in ("first", "second") for variable in "suv"]
    result = FloatExecutor(graph, torch.float64).run(x, record, batch_size=p.choice([1, 2, 128]))

    i1 = F.conv2d(torch.tensor(x), torch.tensor(conv.weight), torch.tensor(conv.bias), 1, (1, 0)).numpy()
    for sample in range(3):
        one = replay(*first, np.repeat(i1[sample][None], steps, 0))
        i2 = one["s"].reshape(steps, -1) @ linear.weight.T + linear.bias + shortcut.weight @ x[sample].reshape(-1)
        two = replay(*second, i2)
        for name, states in (("first", one), ("second", two)):
            for variable in "suv":
                np.testing.assert_allclose(result.trace[name, variable][sample], states[variable], atol=1e-9)
        reduced = {"mean": two["s"].mean(0), "sum": two["s"].sum(0), "last": two["s"][-1]}[kind]
        np.testing.assert_allclose(result.output[sample], gain * reduced, atol=1e-9)
    if second[0].__class__.__name__ in ("IF", "LIF", "CubaLIF"):
        assert result.spikes["second"] == result.trace["second", "s"].sum()


def test_per_step_coefficients_override_the_integrator() -> None:
    op = nir.CubaLIF(*(np.full(1, value) for value in (1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 3.0)))
    dynamics = Dynamics(integrator="none", decay=0.5, current_decay=0.25, gain=2.0, reset="none")
    graph = Graph("g", 3)
    graph.add(Node("x", nir.Input(np.array([1]))))
    graph.add(Node("encode", Encode()), "x")
    graph.add(Node("n", op, dynamics=dynamics), "encode")
    graph.add(Node("y", nir.Output(np.array([1]))), "n")
    trace = FloatExecutor(infer_types(graph), torch.float64).run(np.ones((1, 1)), [("n", "u"), ("n", "v")]).trace
    u = np.array([3, 3.75, 3.9375])
    v = np.array([6, 10.5, 13.125])
    np.testing.assert_allclose(trace["n", "u"].ravel(), u)
    np.testing.assert_allclose(trace["n", "v"].ravel(), v)


def test_outputs_per_step_come_samples_first_and_concat_joins_channels() -> None:
    graph = Graph("g", 4)
    graph.add(Node("x", nir.Input(np.array([2, 3]))))
    graph.add(Node("encode", Encode()), "x")
    for name in "ab":
        graph.add(Node(name, nir.I(r=np.full((1, 1), 1.0 if name == "a" else 2.0)), dynamics=Dynamics()), "encode")
    graph.add(Node("both", Concat(axis=-1)), Edge("a", "both", "0"), Edge("b", "both", "1"))
    graph.add(Node("y", nir.Output(np.array([2, 6]))), "both")
    x = np.random.default_rng(0).normal(size=(5, 2, 3))
    output = FloatExecutor(infer_types(graph), torch.float64).run(x).output
    ramp = np.arange(1, 5)[None, :, None, None] * x[:, None]
    np.testing.assert_allclose(output, np.concatenate([ramp, 2 * ramp], -1))


def test_analog_input_is_computed_once_per_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Direct coding: linear ops before the first neuron run once, not once per step."""
    calls = []
    real = F.linear
    monkeypatch.setattr(F, "linear", lambda *a, **k: calls.append(a[0].shape) or real(*a, **k))
    graph = Graph("g", 6)
    graph.add(Node("x", nir.Input(np.array([2]))))
    graph.add(Node("encode", Encode()), "x")
    graph.add(Node("before", nir.Linear(np.ones((3, 2)))), "encode")
    graph.add(Node("relu", ReLU()), "before")
    graph.add(Node("n", nir.IF(r=np.ones(1), v_threshold=np.ones(1), v_reset=np.zeros(1)), dynamics=Dynamics()), "relu")
    graph.add(Node("after", nir.Linear(np.ones((4, 3)))), "n")
    graph.add(Node("y", nir.Output(np.array([4]))), "after")
    FloatExecutor(infer_types(graph)).run(np.ones((2, 2)))
    assert [tuple(shape) for shape in calls] == [(2, 2)] + 6 * [(2, 3)]


def test_wrong_inputs_are_refused() -> None:
    graph = Graph("g")
    graph.add(Node("x", nir.Input(np.array([2]))))
    graph.add(Node("y", nir.Output(np.array([2]))), "x")
    executor = FloatExecutor(infer_types(graph))
    for wrong in (np.ones((3, 3)), np.ones((0, 2)), {"z": np.ones((3, 2))}):
        with pytest.raises(HsnnError) as error:
            executor.run(wrong)
        assert error.value.findings[0].code == "E0330"
