"""Rate-based backpropagation: against its formulas, against backpropagation through time, for every kind of graph."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from hybrid_graphs import random_hybrid
from hypothesis import given, settings
from picks import Picks, picks
from window_graphs import random_windows

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Coding, Dynamics, Edge, Graph, Node, TensorType
from hsnn_compiler.ir.crossings import Collect, Decode, Encode, FirstSpike
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Concat, MaxPool2d, ReLU
from hsnn_compiler.training.rate import RateTrainable
from hsnn_compiler.training.trainable import Trainable

ALL = ("weight", "bias", "threshold", "gain", "leak", "decay", "current_decay")


def gradients(model: Trainable, x: np.ndarray, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Outputs, and gradients of a random function of them that is not linear."""
    outputs = torch.cat([value.flatten(1) for value in model.forward(torch.from_numpy(x)).values()], 1)
    weights = torch.from_numpy(np.random.default_rng(seed).normal(size=outputs.shape).astype(np.float32))
    (weights * outputs + 0.1 * outputs**2).sum().backward()
    none = np.zeros(0)
    return outputs.detach().numpy(), {
        k: none if p.grad is None else p.grad.numpy() for k, p in model.parameters.items()
    }


def lif(p: Picks, n: int) -> tuple[object, Dynamics]:
    """A population of any dynamics, and coefficients of each neuron's own."""
    rng = p.rng()
    theta, tau, one = rng.uniform(0.5, 1.5, n), rng.uniform(1.5, 6, n), np.ones(n)
    rest = rng.uniform(-0.1, 0.1, n)
    kind = p.choice(["LIF", "IF", "CubaLIF", "LI"])
    reset = p.choice(["subtract", "zero", "value", "none"])
    many = p.choice([1, 3, 0])
    plain = many == 1
    refractory = p.choice([0, 2]) if plain else 0
    v_min = -0.2 if p.flag(3) else None
    one_by_one = reset == "subtract" and plain and not refractory and v_min is None
    more = {"spike": True, "before": True, "after": True, "undelayed": one_by_one}
    dynamics = Dynamics(
        integrator=p.choice(["euler", "exact"]),
        reset=reset,
        reset_at=p.choice([where for where, can in more.items() if can]),
        threshold_test=p.choice([">", ">="]),
        max_spikes=many,
        refractory=refractory,
        v_min=v_min,
        v_init=rng.uniform(0, 0.3, n),
    )
    ops: dict[str, object] = {
        "LIF": nir.LIF(tau=tau, r=2 * one, v_leak=rest, v_threshold=theta, v_reset=rest),
        "IF": nir.IF(r=one, v_threshold=theta, v_reset=rest),
        "CubaLIF": nir.CubaLIF(2 * one, tau, 2 * one, rest, theta, v_reset=rest, w_in=2 * one),
        "LI": nir.LI(tau=tau, r=2 * one, v_leak=rest),
    }
    return ops[kind], dynamics


def layer(name: str, inputs: int, outputs: int, rng: np.random.Generator, size: float = 1.5) -> Node:
    return Node(name, nir.Affine(rng.normal(0, size, (outputs, inputs)), rng.normal(0.3, 0.3, outputs)))


def start(shape: tuple[int, ...], steps: int, coding: Coding = Coding.VALUE) -> Graph:
    graph = Graph(timesteps=steps)
    graph.add(Node("x", nir.Input(np.array(shape)), TensorType(shape, coding)))
    return graph


def end(graph: Graph, source: str, n: int, kind: str = "mean") -> Graph:
    graph.add(Node("decode", Decode(kind, 1.3)), source)
    graph.add(Node("y", nir.Output(np.array([n]))), "decode")
    return infer_types(graph)


@given(picks())
@settings(max_examples=60)
def test_a_population_on_a_constant_input_has_the_gradients_of_time(p: Picks) -> None:
    """Of any dynamics, of every parameter, read with any weights of the steps: nothing is left out, so equal."""
    rng, steps = p.rng(), p.integer(1, 6)
    graph = start((3,), steps)
    graph.add(layer("w", 3, 5, rng), "x")
    graph.add(Node("encode", Encode()), "w")
    op, dynamics = lif(p, 5)
    graph.add(Node("n", op, dynamics=dynamics), "encode")
    graph.add(layer("out", 5, 4, rng), "n")
    graph = end(graph, "out", 4, p.choice(["mean", "sum", "last", "ttfs", "bitplane"]))
    x = rng.normal(0.2, 1, (3, 3)).astype(np.float32)
    (there, theirs), (here, ours) = (gradients(cls(graph, train=ALL), x) for cls in (Trainable, RateTrainable))
    np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-6)
    for key, wanted in theirs.items():
        np.testing.assert_allclose(ours[key], wanted, rtol=2e-4, atol=2e-4 * (1 + np.abs(wanted).max()), err_msg=key)


def test_gradients_of_populations_are_there() -> None:
    """The test above would pass with zeros: these are not."""
    graph = start((3,), 4)
    rng = np.random.default_rng(0)
    graph.add(layer("w", 3, 5, rng), "x")
    graph.add(Node("encode", Encode()), "w")
    one = np.ones(5)
    graph.add(
        Node("n", nir.LIF(3 * one, 2 * one, 0 * one, one, 0 * one), dynamics=Dynamics(reset="subtract")), "encode"
    )
    graph = end(graph, "n", 5)
    found = gradients(RateTrainable(graph, train=ALL), rng.normal(0.2, 1, (3, 3)).astype(np.float32))[1]
    assert set(found) == {"w:weight", "w:bias", "n:threshold", "n:gain", "n:leak", "n:decay"}
    assert all(np.abs(gradient).max() > 1e-3 for gradient in found.values())


def published(current: np.ndarray, reset: str, detached: bool) -> tuple[np.ndarray, np.ndarray]:
    """rho and g of Yu et al., as their authors' code computes them: currents [time, ...], lambda .2, theta 1."""
    lam, theta, v, f = 0.2, 1.0, 0.0, 1.0
    rho, g = np.zeros(current.shape[1:]), np.zeros(current.shape[1:])
    for x in current:
        v = lam * v + x
        s = (v >= theta) * 1.0
        soft = 1 / (1 + np.exp(-4 * (v - theta)))
        slope = 4 * soft * (1 - soft)
        rho, g = rho + s / len(current), g + f * slope / len(current)
        if reset == "zero":
            f = 1 + f * (lam * (1 - s) - lam * v * slope)
            v = v * (1 - s)
        else:
            f = 1 + lam * f if detached else 1 + f * (lam - lam * slope)
            v = v - theta * s
    return rho, g


@pytest.mark.parametrize(("reset", "detached"), [("subtract", True), ("subtract", False), ("zero", False)])
def test_two_layers_have_the_published_gradients(reset: str, detached: bool) -> None:
    """Spike pass and rate pass written out: an input that changes in time, two layers, T = 7."""
    rng = np.random.default_rng(3)
    w1, b1, w2, b2 = (
        rng.normal(0, 1.2, (6, 4)),
        rng.normal(0.5, 0.4, 6),
        rng.normal(0, 1.2, (3, 6)),
        rng.normal(0.4, 1, 3),
    )
    x = rng.normal(0.4, 1, (5, 7, 4))
    dynamics = Dynamics(integrator="none", decay=0.2, gain=1.0, reset=reset, threshold_test=">=")

    def neurons(n: int) -> nir.LIF:
        one = np.ones(n)
        return nir.LIF(one, one, 0 * one, one, 0 * one)

    graph = Graph()
    graph.add(Node("x", nir.Input(np.array([4])), TensorType((4,), Coding.CURRENT)))
    graph.add(Node("first", nir.Affine(w1, b1)), "x")
    graph.add(Node("hidden", neurons(6), dynamics=dynamics), "first")
    graph.add(Node("second", nir.Affine(w2, b2)), "hidden")
    graph.add(Node("top", neurons(3), dynamics=dynamics), "second")
    graph.add(Node("decode", Decode("mean")), "top")
    graph.add(Node("y", nir.Output(np.array([3]))), "decode")
    model = RateTrainable(infer_types(graph), surrogate="sigmoid", detach_reset=detached)
    out = model.forward(torch.from_numpy(x.astype(np.float32)))["y"]
    (out**2).sum().backward()

    steps = x.transpose(1, 0, 2)
    rho1, g1 = published(steps @ w1.T + b1, reset, detached)
    spikes = np.zeros((7, 5, 6))
    v = np.zeros((5, 6))
    for t, current in enumerate(steps @ w1.T + b1):
        v = 0.2 * v + current
        spikes[t] = v >= 1
        v = v * (1 - spikes[t]) if reset == "zero" else v - spikes[t]
    rho2, g2 = published(spikes @ w2.T + b2, reset, detached)
    np.testing.assert_allclose(rho1, spikes.mean(0), atol=1e-12)
    np.testing.assert_allclose(out.detach().numpy(), rho2, atol=1e-6)
    assert 0.1 < rho2.mean() < 0.9
    up2 = 2 * rho2 * g2  # d loss / d (mean current of the second layer)
    up1 = up2 @ w2 * g1
    wanted = {"second:weight": up2.T @ rho1, "second:bias": up2.sum(0)}
    wanted |= {"first:weight": up1.T @ x.mean(1), "first:bias": up1.sum(0)}
    for key, gradient in wanted.items():
        assert np.abs(gradient).max() > 0.05
        np.testing.assert_allclose(model.parameters[key].grad.numpy(), gradient, rtol=1e-4, atol=1e-5, err_msg=key)


def deep(p: Picks, steps: int) -> tuple[Graph, np.ndarray]:
    """Convolutions, two branches that meet again in a sum and side by side, pooling, three populations."""
    rng = p.rng()
    graph = start((2, 6, 6), steps)
    graph.add(Node("encode", p.choice([Encode(), Encode("rate", 1.7), Encode("ttfs", 1.7, True)])), "x")
    channels = 4 if graph["encode"].op.doubled else 2

    def conv(name: str, inputs: int, outputs: int, *feeds: str, size: float = 0.5) -> None:
        weight = rng.normal(0, size, (outputs, inputs, 3, 3))
        graph.add(Node(name, nir.Conv2d(None, weight, 1, 1, 1, 1, rng.normal(0.3, 0.2, outputs))), *feeds)

    def fire(name: str, source: str) -> None:
        one = np.ones((1, 1, 1))
        op = nir.LIF(3 * one, 2 * one, 0 * one, 0.8 * one, 0 * one)
        graph.add(Node(name, op, dynamics=Dynamics(reset=p.choice(["subtract", "zero"]))), source)

    conv("c1", channels, 3, "encode", size=0.8)
    fire("n1", "c1")
    conv("c2", 3, 3, "n1")
    fire("n2", "c2")
    graph.add(Node("sum", nir.Scale(np.full((1, 1, 1), 0.5))), "n1", "n2")
    graph.add(Node("beside", Concat(0)))
    for port, source in enumerate(("sum", "n2")):
        graph.connect(Edge(source, "beside", str(port)))
    graph.add(Node("pool", nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))), "beside")
    graph.add(Node("flat", nir.Flatten({"input": None}, 0, -1)), "pool")
    graph.add(layer("fc", 54, 5, rng, 0.3), "flat")
    one = np.ones(5)
    graph.add(Node("top", nir.IF(one, 0.7 * one, 0 * one), dynamics=Dynamics(reset="subtract", v_init=0.35)), "fc")
    return end(graph, "top", 5), rng.normal(0.6, 0.7, (6, 2, 6, 6)).astype(np.float32)


@given(picks())
@settings(max_examples=8)
def test_in_one_step_every_network_has_the_gradients_of_time(p: Picks) -> None:
    graph, x = deep(p, 1)
    (there, theirs), (here, ours) = (gradients(cls(graph, train=ALL), x) for cls in (Trainable, RateTrainable))
    np.testing.assert_allclose(here, there, atol=1e-5)
    for key, wanted in theirs.items():
        np.testing.assert_allclose(ours[key], wanted, rtol=1e-3, atol=1e-4 * (1 + np.abs(wanted).max()), err_msg=key)


@given(picks())
@settings(max_examples=6)
def test_over_steps_gradients_point_where_those_of_time_do(p: Picks) -> None:
    graph, x = deep(p, p.choice([2, 4, 8]))
    (there, theirs), (here, ours) = (gradients(cls(graph), x) for cls in (Trainable, RateTrainable))
    np.testing.assert_allclose(here, there, atol=1e-5)
    whole, other = (np.concatenate([g.ravel() for g in found.values()]) for found in (theirs, ours))
    cosine = whole @ other / np.linalg.norm(whole) / np.linalg.norm(other)
    assert cosine > 0.85
    assert not np.allclose(whole, other, rtol=1e-3)  # it is another gradient


@given(picks())
@settings(max_examples=12)
def test_hybrid_networks_put_out_the_same(p: Picks) -> None:
    """Several crossings in a row, event codes, residuals over them: values are those of the float executor."""
    graph, x = random_hybrid(p)
    time, rate = Trainable(graph), RateTrainable(graph)
    (there, theirs), (here, ours) = gradients(time, x), gradients(rate, x)
    np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-4 * (1 + np.abs(there).max()))
    for key, wanted in theirs.items():
        assert ours[key].shape == wanted.shape
        assert np.isfinite(ours[key]).all()
    last = [key for key in theirs if key.startswith("last:")]
    for key in last:  # behind all steps
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-3, atol=1e-3 * (1 + np.abs(theirs[key]).max()))


@given(picks())
@settings(max_examples=25)
def test_windows_put_out_the_same(p: Picks) -> None:
    """Collects, first spikes, neurons on the host, quantised: values are those of the float executor."""
    graph, x = random_windows(p)
    with torch.no_grad():
        there, here = (cls(graph, train=("weight",)).forward(torch.from_numpy(x)) for cls in (Trainable, RateTrainable))
    for name, value in there.items():
        np.testing.assert_allclose(here[name], value, rtol=1e-4, atol=1e-4 * float(1 + value.abs().max()))


def test_first_spikes_behind_collects_have_the_gradients_of_time() -> None:
    """Codes in which time counts, read by the same code all the way: nothing is left out, so equal."""
    rng = np.random.default_rng(5)
    graph = start((3,), 6)
    graph.add(Node("encode", Encode("ttfs", 2.0)), "x")
    graph.add(layer("w1", 3, 5, rng), "encode")
    graph.add(Node("collect", Collect("ttfs", rng.normal(0.3, 0.1, 5))), "w1")
    graph.add(Node("first", FirstSpike(np.full(5, 1.1))), "collect")
    graph.add(layer("w2", 5, 4, rng), "first")
    graph = end(graph, "w2", 4, "ttfs")
    x = rng.uniform(-0.5, 2.5, (7, 3)).astype(np.float32)
    (there, theirs), (here, ours) = (gradients(cls(graph, train=ALL), x) for cls in (Trainable, RateTrainable))
    np.testing.assert_allclose(here, there, atol=1e-5)
    assert set(ours) == {"w1:weight", "w1:bias", "collect:bias", "first:threshold", "w2:weight", "w2:bias"}
    for key, wanted in theirs.items():
        assert np.abs(wanted).max() > 1e-2
        np.testing.assert_allclose(ours[key], wanted, rtol=1e-4, atol=1e-4, err_msg=key)


def test_max_pooling_of_spikes_leads_to_the_highest_rate() -> None:
    graph = start((1, 2, 2), 4)
    graph.add(Node("scale", nir.Conv2d(None, np.ones((1, 1, 1, 1)), 1, 0, 1, 1, np.zeros(1))), "x")
    graph.add(Node("encode", Encode()), "scale")
    one = np.ones((1, 1, 1))
    graph.add(Node("n", nir.IF(one, one, 0 * one), dynamics=Dynamics(reset="subtract")), "encode")
    graph.add(Node("pool", MaxPool2d((2, 2), (2, 2))), "n")
    graph.add(Node("flat", nir.Flatten({"input": None}, 0, -1)), "pool")
    graph = end(graph, "flat", 1)
    x = np.array([[[[0.3, 0.1], [0.6, 0.2]]]], np.float32)
    model = RateTrainable(graph)
    out, _ = gradients(model, x)
    with torch.no_grad():
        assert torch.equal(torch.from_numpy(out), Trainable(graph).forward(torch.from_numpy(x))["y"])
    rates = model.features(torch.from_numpy(x), ["n"])[1]["n"]
    (slope,) = torch.autograd.grad(rates[0, 0, 1, 0], [model.parameters["scale:bias"]])
    model.parameters["scale:bias"].grad = None
    (model.forward(torch.from_numpy(x))["y"]).sum().backward()
    assert float(slope) > 0
    torch.testing.assert_close(model.parameters["scale:bias"].grad, 1.3 * slope)


def test_without_gradients_nothing_is_differentiated_and_features_are_rates() -> None:
    graph, x = deep(Picks.seeded(1), 4)
    model = RateTrainable(graph)
    with torch.no_grad():
        out, rates = model.features(torch.from_numpy(x), ["n1", "top", "c1"])
        wanted, theirs = Trainable(graph).features(torch.from_numpy(x), ["n1", "top", "c1"])
    assert not out["y"].requires_grad
    for name in rates:
        torch.testing.assert_close(rates[name], theirs[name], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out["y"], wanted["y"])


def refused(graph: Graph, **options: str) -> list[tuple[str, str]]:
    with pytest.raises(HsnnError) as error:
        RateTrainable(graph, **options)
    return [(finding.code, finding.node) for finding in error.value.findings]


def test_what_it_cannot_do_is_refused_node_by_node() -> None:
    graph = start((3,), 4)
    rng = np.random.default_rng(0)
    graph.add(Node("encode", Encode()), "x")
    graph.add(layer("w", 3, 3, rng), "encode")
    one = np.ones(3)
    graph.add(Node("n", nir.IF(one, one, 0 * one), dynamics=Dynamics(reset="subtract")), "w")
    graph.add(layer("back", 3, 3, rng))
    graph.connect(Edge("n", "back"))
    graph.connect(Edge("back", "n", delay=1))
    graph.add(Node("relu", ReLU()), "n")
    graph.add(Node("late", nir.Scale(one)))
    graph.connect(Edge("relu", "late", delay=2))
    graph = end(graph, "late", 3)
    assert refused(graph) == [("E0560", "n"), ("E0560", "back"), ("E0561", "relu"), ("E0560", "late")]
    assert refused(deep(Picks.seeded(0), 2)[0], batch_norm="none") == [("E0562", "")]
