"""A trained graph computes what its executor computes; gradients of what is new against formulas written out."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from picks import Picks, picks
from value_graphs import Net, run_passes

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Dynamics, Graph, Node
from hsnn_compiler.ir.dynamics import discretize
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Encode, FirstSpike, Quantised
from hsnn_compiler.ir.quant import WeightQuant
from hsnn_compiler.ir.text import to_text
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.pipeline import DEFAULT_PIPELINE
from hsnn_compiler.passes.rounding import as_on_chip
from hsnn_compiler.reference import codes, float_run
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.reference.loihi_executor import LoihiExecutor
from hsnn_compiler.training.parameters import NAMES, RANGES, names_of, start_of, write
from hsnn_compiler.training.trainable import Trainable

STEPS = 6


def neurons(p: Picks, kind: str, size: int) -> Node:
    """A population with any coefficients that can be trained."""
    rng = p.rng()
    each = rng.uniform(0.5, 2, (p.choice([1, size]),))
    one = np.ones_like(each)
    fields = {"v_threshold": each, "v_reset": 0 * one} if kind in ("IF", "LIF", "CubaLIF") else {}
    if kind in ("IF", "I"):
        op = getattr(nir, kind)(r=one, **fields)
    elif kind.startswith("Cuba"):
        op = getattr(nir, kind)(tau_syn=2 * one, tau_mem=3 * one, r=one, v_leak=0.1 * one, w_in=1.5 * one, **fields)
    else:
        op = getattr(nir, kind)(tau=3 * one, r=2 * one, v_leak=0.1 * one, **fields)
    return Node(
        "n", op, dynamics=Dynamics(reset=p.choice(["subtract", "zero"]), integrator=p.choice(["euler", "exact"]))
    )


def network(p: Picks) -> Graph:
    net = Net((3,), timesteps=STEPS, seed=p.integer(0, 99))
    net.add("encode", Encode(p.choice(["direct", "rate", "ttfs"]), 2.0)).linear("first", 4)
    node = neurons(p, p.choice(["IF", "LIF", "CubaLIF", "LI", "I", "CubaLI"]), 4)
    net.add("n", node.op, dynamics=node.dynamics)
    net.add("scale", nir.Scale(np.full(4, 0.7))).linear("last", 3)
    return net.done("mean")


@settings(max_examples=60)
@given(picks())
def test_what_is_trained_is_what_the_graph_then_is(p: Picks) -> None:
    graph = network(p)
    student = Trainable(graph, train=NAMES)
    assert {key.rpartition(":")[2] for key in student.parameters} == {n for node in graph for n in names_of(node)}
    x = p.rng().random((5, 3)).astype(np.float32) * 2
    before = FloatExecutor(graph, method="auto").run(x).output
    np.testing.assert_array_equal(student(torch.from_numpy(x)).detach().numpy(), before)
    assert student.values() == {}
    assert to_text(student.graph()) == to_text(graph)

    key = p.choice(list(student.parameters))
    with torch.no_grad():
        student.parameters[key] += 0.3
    after = student.graph()
    assert list(student.values()) == [key]
    node, _, name = key.rpartition(":")
    start = start_of(graph[node], name)
    if name in ("weight", "bias", "leak"):
        expected = start + 0.3
    elif "decay" in name:
        expected = np.maximum(1 - (1 - start) * np.exp(0.3), 0)
    else:
        expected = start * np.exp(0.3)
    np.testing.assert_allclose(start_of(after[node], name), expected, rtol=1e-6, atol=1e-7)
    for other in graph:
        for what in names_of(other):
            if (other.name, what) != (node, name):
                np.testing.assert_array_equal(start_of(after[other.name], what), start_of(other, what))
    np.testing.assert_allclose(
        student(torch.from_numpy(x)).detach().numpy(), FloatExecutor(after, method="auto").run(x).output, atol=1e-5
    )


@pytest.mark.parametrize("name", ["decay", "current_decay", "gain", "leak", "weight", "bias", "scale"])
def test_gradients_are_finite_differences_where_nothing_spikes(name: str) -> None:
    net = Net((3,), timesteps=STEPS, seed=1).encode().linear("first", 4)
    one = np.ones(4)
    op = nir.CubaLI(tau_syn=2 * one, tau_mem=3 * one, r=one, v_leak=0.1 * one, w_in=one)
    graph = net.add("n", op, dynamics=Dynamics()).add("scale", nir.Scale(0.7 * one)).linear("last", 2).done("mean")
    x = np.random.default_rng(0).random((2, 3)).astype(np.float32)
    student = Trainable(graph, train=[name])
    loss = (student(torch.from_numpy(x)) ** 2).sum()
    loss.backward()
    for key, parameter in student.parameters.items():
        assert parameter.grad is not None
        node, _, _ = key.rpartition(":")
        start = torch.from_numpy(start_of(graph[node], name))
        direction = np.random.default_rng(2).normal(size=start.shape)
        values = []
        for step in (1e-5, -1e-5):
            trained = RANGES[name].first(start) + step * torch.from_numpy(direction)
            moved = write(graph, {key: RANGES[name].move(start, trained).numpy()})
            values.append(float((FloatExecutor(moved, torch.float64).run(x.astype(np.float64)).output ** 2).sum()))
        slope = (values[0] - values[1]) / 2e-5
        ours = float((parameter.grad.reshape(start.shape).double().numpy() * direction).sum())
        assert abs(ours) > 1e-4
        assert ours == pytest.approx(slope, rel=1e-3, abs=1e-5)


def test_gradient_of_a_threshold() -> None:
    """One step, s = [v > theta]: with u = v/theta - 1, ds/dv = g(u)/theta and ds/dtheta = -g(u) v/theta^2."""
    theta, v = 4.0, np.array([3.0, 4.4, 9.0])
    one = np.ones(1)
    graph = Graph("one", timesteps=1)
    graph.add(Node("x", nir.Input(np.array([3]))))
    graph.add(Node("encode", Encode()), "x")
    graph.add(Node("n", nir.IF(r=one, v_threshold=theta * one, v_reset=0 * one), dynamics=Dynamics()), "encode")
    graph.add(Node("y", nir.Output(np.array([3]))), "n")
    student = Trainable(infer_types(graph), train=["threshold"])
    x = torch.from_numpy(v[None].astype(np.float32)).requires_grad_()
    out = student(x)
    np.testing.assert_array_equal(out.detach().numpy(), [[0, 1, 1]])
    out.sum().backward()
    g = 1 / (1 + (np.pi * (v / theta - 1)) ** 2)
    np.testing.assert_allclose(x.grad.numpy()[0], g / theta, rtol=1e-5)
    # The parameter is p in theta exp(p): d/dp = theta d/dtheta.
    expected = theta * (-g * v / theta**2).sum()
    np.testing.assert_allclose(student.parameters["n:threshold"].grad.numpy().sum(), expected, rtol=1e-5)


def test_straight_through_activations_of_levels_and_neurons_that_fire_once() -> None:
    x = torch.tensor([[-0.2, 0.3, 0.9, 1.7]], dtype=torch.float64)
    for op in (Quantised(np.ones(1), 4), FirstSpike(np.ones(1))):
        net = Net((4,), timesteps=5 if isinstance(op, FirstSpike) else None)
        if isinstance(op, FirstSpike):
            net.encode()
        net.add("a", op)
        graph = net.done("ttfs" if isinstance(op, FirstSpike) else None)
        executor = FloatExecutor(graph, torch.float64, surrogate="atan")
        leaf = x.clone().requires_grad_()
        out = executor.evaluate({"x": leaf})["y"]
        np.testing.assert_allclose(out.detach().numpy(), FloatExecutor(graph, torch.float64).run(x.numpy()).output)
        out.sum().backward()
        np.testing.assert_allclose(leaf.grad.numpy(), [[0, 1, 1, 0]], atol=1e-12)


@pytest.mark.parametrize("bits", [8, 3])
def test_quantised_weights_train_straight_through(bits: int) -> None:
    _, graph = quantised_and_before(bits, 0.5)
    x = np.random.default_rng(1).random((4, 2, 5, 5)).astype(np.float32)
    student = Trainable(graph)
    assert {key.rpartition(":")[2] for key in student.parameters} == {"weight"}, "biases lie in integers of neurons"
    assert to_text(student.graph()) == to_text(graph)
    np.testing.assert_array_equal(
        student(torch.from_numpy(x)).detach().numpy(), FloatExecutor(graph, method="auto").run(x).output
    )
    with torch.no_grad():
        for key, tensor in student.parameters.items():
            quant = graph[key.rpartition(":")[0]].quant
            assert isinstance(quant, WeightQuant)
            tensor += 13.3 * 2.0**quant.exponent / quant.scale  # of these, only whole steps are left on the chip
    after = student.graph()
    for key in student.parameters:
        node = after[key.rpartition(":")[0]]
        assert isinstance(node.quant, WeightQuant)
        step = 1 << (8 - node.quant.bits + (node.quant.sign_mode == "mixed"))
        moved = node.quant.integers - graph[node.name].quant.integers
        at_the_end = node.quant.integers >= 256 - step
        np.testing.assert_array_equal(moved[~at_the_end], round(13.3 / step) * step)
        np.testing.assert_allclose(node.op.weight, node.quant.integers * 2.0**node.quant.exponent / node.quant.scale)
        assert node.quant.clipped == ((moved < round(13.3 / step) * step) & at_the_end).sum()
    ours = student(torch.from_numpy(x))
    np.testing.assert_array_equal(ours.detach().numpy(), FloatExecutor(after, method="auto").run(x).output)
    assert (LoihiExecutor(after).run(x).output - ours.detach().numpy()).std() < 0.1
    ours.sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in student.parameters.values())


def quantised_and_before(bits: int, threshold: object) -> tuple[Graph, Graph]:
    net = Net((2, 5, 5), timesteps=8, seed=3).encode("e").conv("c0", 3, padding=1).neuron("n0", threshold=threshold)
    graph = net.conv("c1", 4).neuron("n1").flatten().linear("fc", 3).neuron("out").done("mean")
    data = {"calibration": np.random.default_rng(5).normal(size=(16, 2, 5, 5)).astype(np.float32), "encode": "ttfs"}
    mapped = DEFAULT_PIPELINE.replace("to-events", "to-events{mapping=none}")
    stages = run_passes(graph, mapped.replace("quantise", f"quantise{{bits={bits}}}"), **data)
    graphs = {stage.item.name: stage.result.graph for stage in stages}
    return graphs["map-surrogate-to-events"], graphs["quantise"]


@pytest.mark.parametrize("bits", [8, 4])
def test_rounding_is_that_of_quantise(bits: int) -> None:
    rng = np.random.default_rng(0)
    before, after = quantised_and_before(bits, rng.uniform(0.3, 1, (3, 1, 1)))
    every = {node.name: np.asarray(node.op.weight, np.float64) for node in before if node.is_synapse}
    rounded = as_on_chip(before, bits, PassContext())(every)
    assert rounded.keys() == every.keys()
    for name, weight in rounded.items():
        end = before.successors(name)[0]
        step, there = discretize(end.op, end.dynamics), discretize(after[end.name].op, after[end.name].dynamics)
        unit = (step.threshold / step.gain).reshape(-1, *[1] * (weight.ndim - 1))
        on_chip = after[name].op.weight * (there.gain / there.threshold).reshape(-1, *[1] * (weight.ndim - 1))
        np.testing.assert_allclose(weight / unit, on_chip, rtol=1e-6, atol=1e-9)
    student = Trainable(before, rounding=as_on_chip(before, bits, PassContext()))
    x = torch.rand(3, 2, 5, 5)
    exact = Trainable(write(before, {f"{name}:weight": weight for name, weight in rounded.items()}))
    torch.testing.assert_close(student(x), exact(x))
    student(x).sum().backward()
    exact(x).sum().backward()
    for key, parameter in student.parameters.items():
        torch.testing.assert_close(parameter.grad, exact.parameters[key].grad)
    assert student.values() == {}, "weights are written back as they are trained, not rounded"


def test_features_are_rates_with_gradients() -> None:
    graph = Net((3,), timesteps=STEPS, seed=1).encode().linear("a", 4).neuron("n").linear("b", 2).done("mean")
    student = Trainable(graph)
    x = np.random.default_rng(0).random((5, 3)).astype(np.float32) * 3
    _, found = student.features(torch.from_numpy(x), ["n"])
    expected = FloatExecutor(graph).run(x, record=[("n", "s")]).trace["n", "s"].mean(1)
    np.testing.assert_allclose(found["n"].detach().numpy(), expected, atol=1e-6)
    assert 0 < expected.mean() < 1
    found["n"].sum().backward()
    assert student.parameters["a:weight"].grad.abs().max() > 0


@pytest.mark.parametrize("kind", ["direct", "ttfs", "bitplane", "rate", "delta"])
def test_a_run_keeps_to_its_device(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: on the meta device, where torch refuses to mix with the CPU as it would on CUDA."""
    p = Picks.seeded(3)
    node = neurons(p, "CubaLIF", 4)
    net = Net((3,), timesteps=8).add("encode", Encode(kind, 1.0)).linear("a", 4).neuron("n", reset="zero")
    graph = net.linear("b", 4).add("m", node.op, dynamics=node.dynamics).linear("c", 2).done("mean")
    monkeypatch.setattr(float_run, "count_spikes", lambda value: 0.0)
    monkeypatch.setattr(float_run, "count_events", lambda value: 0)
    monkeypatch.setattr(torch.Tensor, "__int__", lambda self: 1)  # how many values were clipped
    student = Trainable(graph, train=("weight", "bias", "threshold", "decay", "gain"), device="meta")
    out = student(torch.rand(2, 3))
    out.sum().backward()
    assert out.device.type == "meta"
    assert all(parameter.grad.device.type == "meta" for parameter in student.parameters.values())


def test_what_cannot_be_trained_or_written_is_refused() -> None:
    graph = Net((3,), timesteps=4).encode().linear("a", 2, bias=False).done("mean")
    for train, code in ((["threshold"], "E0550"), (["weights", "biases"], "E0212")):
        with pytest.raises(HsnnError) as caught:
            Trainable(graph, train=train)
        assert {finding.code for finding in caught.value.findings} == {code}
    assert len(caught.value.findings) == 2
    with pytest.raises(HsnnError) as caught:
        write(graph, {"b:weight": np.ones(1), "a:bias": np.ones(2), "a:weight": np.ones(7)})
    assert [finding.code for finding in caught.value.findings] == ["E0551"] * 3


def test_codes_stay_integers_without_gradients() -> None:
    assert codes.first_spikes(torch.ones(3, 1, 2), torch.ones(1)).dtype is torch.uint8
