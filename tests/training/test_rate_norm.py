"""Batch normalisation in rate-based backpropagation, against its formulas written out; and what a graph keeps of it."""

from __future__ import annotations

import nir
import numpy as np
import torch

from hsnn_compiler.ir import Coding, Dynamics, Graph, Node, TensorType
from hsnn_compiler.ir.crossings import Decode
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import BatchNorm
from hsnn_compiler.training.fit import fit
from hsnn_compiler.training.history import Settings, Step
from hsnn_compiler.training.rate import RateTrainable
from hsnn_compiler.training.trainable import Trainable

T, BATCH, C, EPS = 5, 4, 3, 1e-2
RNG = np.random.default_rng(2)
W, GAMMA, BETA = RNG.normal(0, 1, (C, 2)), RNG.uniform(0.5, 1.5, C), RNG.uniform(0, 1, C)
MEAN, VAR = RNG.normal(0, 0.3, C), RNG.uniform(0.5, 2, C)
X = RNG.normal(0.3, 1, (BATCH, T, 2, 3, 3)).astype(np.float32)


def network(*, fires: bool) -> Graph:
    """Currents with a time axis, 1x1 convolution, batch norm, a population (or none), the mean."""
    graph = Graph()
    graph.add(Node("x", nir.Input(np.array([2, 3, 3])), TensorType((2, 3, 3), Coding.CURRENT)))
    graph.add(Node("conv", nir.Conv2d(None, W[:, :, None, None], 1, 0, 1, 1, np.zeros(C))), "x")
    graph.add(Node("bn", BatchNorm(GAMMA, BETA, MEAN, VAR, EPS)), "conv")
    last = "bn"
    if fires:
        one = np.ones((1, 1, 1))
        dynamics = Dynamics(integrator="none", decay=0.2, gain=1.0, reset="subtract", threshold_test=">=")
        graph.add(Node("n", nir.LIF(one, one, 0 * one, one, 0 * one), dynamics=dynamics), "bn")
        last = "n"
    graph.add(Node("decode", Decode("mean")), last)
    graph.add(Node("y", nir.Output(np.array([C, 3, 3]))), "decode")
    return infer_types(graph)


def loss(model: Trainable) -> torch.Tensor:
    out = model.forward(torch.from_numpy(X))["y"]
    return (out * torch.linspace(-1, 2, out.numel()).reshape(out.shape)).sum()


def test_kept_statistics_are_a_linear_op() -> None:
    time, rate = (cls(network(fires=False), train=("weight", "bias")) for cls in (Trainable, RateTrainable))
    for model in (time, rate):
        loss(model).backward()
    for key, parameter in time.parameters.items():
        torch.testing.assert_close(rate.parameters[key].grad, parameter.grad, rtol=1e-4, atol=1e-5)


def written_out(w: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """rho, and the rate pass as a function of the parameters; means, variances by step."""
    x = torch.from_numpy(X).double()
    each = torch.einsum("btihw,oi->btohw", x, w)  # [batch, time, channels, height, width]
    mean, var = each.mean((0, 3, 4)), each.var((0, 3, 4), correction=0)  # [time, channels]
    v, f = torch.zeros(BATCH, C, 3, 3).double(), torch.ones(BATCH, C, 3, 3).double()
    rho, g = 0 * v, 0 * v
    with torch.no_grad():
        for t in range(T):
            at = (None, slice(None), None, None)
            current = gamma[at] * (each[:, t] - mean[t][at]) / (var[t][at] + EPS).sqrt() + beta[at]
            v = 0.2 * v + current
            s = (v >= 1).double()
            slope = 1 / (1 + (np.pi * (v - 1)) ** 2)
            rho, g = rho + s / T, g + f * slope / T
            f = 1 + 0.2 * f * (1 - slope)
            v = v - s
    rates = torch.einsum("bihw,oi->bohw", x.mean(1), w)
    mu = rates.mean((0, 2, 3), keepdim=True)
    mu = mean.detach().mean(0).view(1, C, 1, 1) + mu - mu.detach()
    spread = ((rates - mu) ** 2).mean((0, 2, 3), keepdim=True)
    harmonic = 1 / (1 / (var.detach() + EPS)).mean(0).view(1, C, 1, 1)
    spread = harmonic + spread - spread.detach()
    c = gamma.view(1, C, 1, 1) * (rates - mu) / spread.sqrt() + beta.view(1, C, 1, 1)
    return rho + g * (c - c.detach()), each


def test_batch_statistics_are_those_of_the_spike_pass() -> None:
    model = RateTrainable(network(fires=True), batch_norm="batch")
    found = loss(model)
    found.backward()
    given = [torch.from_numpy(a.copy()).requires_grad_() for a in (W, GAMMA, BETA)]
    out, each = written_out(*given)
    wanted = (out * torch.linspace(-1, 2, out.numel()).double().reshape(out.shape)).sum()
    wanted.backward()
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    for key, theirs in zip(("conv:weight", "bn:weight", "bn:bias"), given, strict=True):
        ours = model.parameters[key].grad
        assert ours is not None
        assert theirs.grad is not None
        assert theirs.grad.abs().max() > 0.1
        torch.testing.assert_close(ours.double().reshape(theirs.shape), theirs.grad, rtol=1e-3, atol=1e-4)
    kept = model.graph()["bn"].op
    np.testing.assert_allclose(kept.mean, 0.9 * MEAN + 0.1 * each.mean((0, 1, 3, 4)).detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(kept.var, 0.9 * VAR + 0.1 * each.var((0, 1, 3, 4)).detach().numpy(), rtol=1e-5)


def test_without_gradients_the_kept_statistics_count() -> None:
    model, other = RateTrainable(network(fires=True), batch_norm="batch"), Trainable(network(fires=True))
    with torch.no_grad():
        torch.testing.assert_close(loss(model), loss(other))
    assert model.graph()["bn"].op.mean.tolist() == MEAN.tolist()


def test_training_keeps_statistics_with_the_best_state() -> None:
    model = RateTrainable(network(fires=True), batch_norm="batch")
    wanted = torch.tensor([0.1, 0.5, 0.9]).view(1, C, 1, 1)

    def batch(x: torch.Tensor) -> Step:
        return Step(((model.forward(x)["y"] - wanted) ** 2).mean(), 0)

    with torch.no_grad():
        before = float(batch(torch.from_numpy(X)).loss)
    settings = Settings(epochs=30, batch=BATCH, optimiser="adam", rate=0.05)
    history = fit(batch, model.parameters, (X,), (X,), settings, buffers=model.buffers)
    with torch.no_grad():
        after = float(Trainable(model.graph())(torch.from_numpy(X)).sub(wanted).square().mean())
    assert history.best > 0
    assert after < 0.8 * before
    assert not np.allclose(model.graph()["bn"].op.mean, MEAN)
