"""Hybrids: tails against the whole network, projections against torch's layers, rates against the trace."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from value_graphs import Net, run_passes

from hsnn_compiler.ir import Graph
from hsnn_compiler.ir.ops import ReLU
from hsnn_compiler.ir.spec import verify
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.training.blocks import cut_points
from hsnn_compiler.training.hybrids import RATE_SUFFIX, Hybrids, Projection, mean_cosine, tail, with_rates

CONVERT = "partition,convert-activations,calibrate-thresholds{method=mse,correct=none}"


def network() -> Graph:
    net = Net((2, 6, 6), seed=3).conv("c0", 4, padding=1).add("r0", ReLU()).conv("c1", 5, stride=2).add("r1", ReLU())
    return net.flatten().linear("f2", 7).add("r2", ReLU()).linear("f3", 3).done()


def data(count: int = 40) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 2, 6, 6)).astype(np.float32)


def values(graph: Graph, x: np.ndarray, *names: str) -> dict[str, torch.Tensor]:
    trace = FloatExecutor(graph, torch.float64).run(x, [(name, "s") for name in names]).trace
    return {name: torch.from_numpy(trace[name, "s"]) for name in names}


def test_a_tail_goes_on_from_what_the_network_has_at_a_cut_point() -> None:
    graph, x = network(), data()
    wanted = FloatExecutor(graph, torch.float64).run(x).output
    points = [name for name in cut_points(graph) if name != "y"]
    assert len(points) == len(graph) - 1
    for name, signal in values(graph, x, *points).items():
        part = tail(graph, name)
        assert verify(part) == []
        assert {node.name for node in part} == {name, *graph.descendants(name)}
        outputs = FloatExecutor(part, torch.float64).evaluate({name: signal})
        np.testing.assert_allclose(outputs["y"].numpy(), wanted, rtol=1e-12)


def test_rates_are_means_over_time_of_what_spikes_stand_for() -> None:
    x = data()
    graph = run_passes(network(), CONVERT, timesteps=5, calibration=x)[-1].result.graph
    watched = with_rates(graph, {"r0": "r0.scale", "r2": "r2.scale"})
    assert verify(watched) == []
    done = FloatExecutor(watched, torch.float64).run(x)
    plain = FloatExecutor(graph, torch.float64).run(x, [("r0", "s"), ("r2", "s")])
    np.testing.assert_array_equal(done.outputs["y"], plain.output)
    for name in ("r0", "r2"):
        rate = plain.trace[name, "s"].mean(1) * graph[name].op.v_threshold
        np.testing.assert_allclose(done.outputs[name + RATE_SUFFIX], rate, rtol=1e-12)


def test_rates_of_neurons_that_fire_once_count_when() -> None:
    x = data()
    graph = run_passes(network(), CONVERT, timesteps=5, calibration=x, coding="ttfs")[-1].result.graph
    watched = with_rates(graph, {"r1": "r1.scale"})
    assert verify(watched) == []
    spikes = FloatExecutor(graph, torch.float64).run(x, [("r1", "s")]).trace["r1", "s"]
    rate = np.einsum("nt...,t->n...", spikes, np.arange(5, 0, -1) / 5) * graph["r1"].op.threshold
    done = FloatExecutor(watched, torch.float64).run(x).outputs["r1.rate"]
    assert 0 < spikes.mean() < 0.2
    np.testing.assert_allclose(done, rate, rtol=1e-12)


@pytest.mark.parametrize("shape", [(16, 3), (8, 3, 5), (4, 3, 5, 2)])
def test_a_projection_is_a_convolution_and_batch_norm(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(2)
    mean, spread = torch.randn(3, generator=generator), torch.rand(3, generator=generator)
    ours = Projection(mean, spread)
    with torch.no_grad():
        ours.weight.copy_(torch.randn(3, 3, generator=generator))
    dims = len(shape) - 2
    mixing = (
        torch.nn.Linear(3, 3, bias=False),
        torch.nn.Conv1d(3, 3, 1, bias=False),
        torch.nn.Conv2d(3, 3, 1, bias=False),
    )[dims]
    norm = (torch.nn.BatchNorm1d, torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)[dims](3)
    with torch.no_grad():
        mixing.weight.copy_(ours.weight.reshape(mixing.weight.shape))
        norm.weight.copy_(spread)
        norm.bias.copy_(mean)
    x = torch.randn(shape, generator=generator)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    got, wanted = ours(a), norm(mixing(b))
    torch.testing.assert_close(got, wanted)
    weights = torch.randn(shape, generator=generator)
    (got * weights).sum().backward()
    (wanted * weights).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.weight.grad, mixing.weight.grad.reshape(3, 3), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.gain.grad, norm.weight.grad)
    torch.testing.assert_close(ours.shift.grad, norm.bias.grad)


def test_a_projection_takes_a_batch_of_one() -> None:
    mean = torch.tensor([1.0, -2.0])
    out = Projection(mean, torch.ones(2))(torch.tensor([[3.0, 4.0]]))
    assert torch.equal(out, mean[None])


def test_hybrids_begin_as_the_network_itself_where_rates_are_activations() -> None:
    graph, x = network(), data()
    activations = values(graph, x, "r0", "r2")
    hybrids = Hybrids(graph, activations)
    assert len(hybrids.parameters()) == 6
    wanted = FloatExecutor(graph, torch.float64).run(x).output
    outputs = hybrids.forward(activations, "y")
    assert list(outputs) == ["r0", "r2"]
    for output in outputs.values():
        np.testing.assert_allclose(output.detach().numpy(), wanted, rtol=1e-9, atol=1e-12)
    # A gain of rates that are all too small by a factor is no loss: the batch norm takes it away.
    scaled = hybrids.forward({name: 0.25 * value for name, value in activations.items()}, "y")
    for end, output in scaled.items():
        torch.testing.assert_close(output, outputs[end], atol=1e-3, rtol=1e-3)


def test_gradients_reach_rates_and_projections_only() -> None:
    graph = network()
    rates = {name: value.requires_grad_() for name, value in values(graph, data(), "r0", "r1").items()}
    hybrids = Hybrids(graph, rates)
    sum(output.square().sum() for output in hybrids.forward(rates, "y").values()).backward()
    for tensor in [*rates.values(), *hybrids.parameters().values()]:
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 0
    loose = {name: torch.randn_like(value) for name, value in rates.items()}
    apart = hybrids.forward({"r0": loose["r0"], "r1": rates["r1"]}, "y")
    assert torch.autograd.grad(apart["r0"].sum(), rates["r1"], allow_unused=True) == (None,)


def test_cosine_is_that_of_each_sample_averaged() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 6, 3, 4))
    wanted = np.mean([(p * q).sum() / np.linalg.norm(p) / np.linalg.norm(q) for p, q in zip(a, b, strict=True)])
    assert float(mean_cosine(torch.from_numpy(a), torch.from_numpy(b))) == pytest.approx(wanted)
    assert float(mean_cosine(torch.from_numpy(a), torch.from_numpy(7 * a))) == pytest.approx(1)
