"""Gradients of the float executor: against a network written out in torch, and against finite differences."""

from __future__ import annotations

import math

import nir
import numpy as np
import torch

from hsnn_compiler.ir import Coding, Dynamics, Edge, Graph, Node, TensorType
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.reference.float_executor import FloatExecutor


class Spike(torch.autograd.Function):
    """v > 1, with the arctangent's slope 1 / (1 + (pi (v - 1))^2)."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, v: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(v)
        return (v > 1).to(v.dtype)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, upstream: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        (v,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return upstream / (1 + (math.pi * (v - 1)) ** 2)


def network(kind: str, reset: str, seed: int) -> Graph:
    """Affine, a LIF (or LI) population with recurrent weights one step late, Affine, LI."""
    rng = np.random.default_rng(seed)
    one = np.ones(4)
    lif = nir.LIF(tau=3 * one, r=2 * one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)
    hidden = lif if kind == "LIF" else nir.LI(tau=3 * one, r=2 * one, v_leak=0 * one)
    graph = Graph()
    graph.add(Node("x", nir.Input(np.array([3])), TensorType((3,), Coding.CURRENT)))
    graph.add(Node("first", nir.Affine(rng.normal(size=(4, 3)), rng.normal(size=4))), "x")
    graph.add(Node("hidden", hidden, dynamics=Dynamics(reset=reset)), "first")
    graph.add(Node("back", nir.Linear(rng.normal(size=(4, 4)) / 2)), Edge("hidden", "back"))
    graph.connect(Edge("back", "hidden", delay=1))
    graph.add(Node("second", nir.Affine(rng.normal(size=(2, 4)), rng.normal(size=2))), "hidden")
    out = nir.LI(tau=np.full(2, 2.0), r=np.ones(2), v_leak=np.zeros(2))
    graph.add(Node("out", out, dynamics=Dynamics()), "second")
    graph.add(Node("y", nir.Output(np.array([2]))), "out")
    return infer_types(graph)


def test_gradients_are_those_of_the_network_written_out() -> None:
    for seed, reset in enumerate(("zero", "subtract", "none")):
        graph = network("LIF", reset, seed)
        x = torch.from_numpy(np.random.default_rng(seed).normal(0.5, 3, (2, 9, 3)))
        executor = FloatExecutor(graph, torch.float64, surrogate="atan")
        mine = executor.evaluate({"x": x})["y"]
        target = torch.linspace(-1, 1, mine.numel(), dtype=torch.float64).reshape(mine.shape)
        ((mine - target) ** 2).sum().backward()

        w = {key: torch.from_numpy(value.copy()).requires_grad_() for key, value in {
            ("first", "weight"): graph["first"].op.weight, ("first", "bias"): graph["first"].op.bias,
            ("back", "weight"): graph["back"].op.weight, ("second", "weight"): graph["second"].op.weight,
            ("second", "bias"): graph["second"].op.bias,
        }.items()}  # fmt: skip
        v, s, out, rows = torch.zeros(2, 4).double(), torch.zeros(2, 4).double(), torch.zeros(2, 2).double(), []
        spikes = 0.0
        for t in range(9):
            i = x[:, t] @ w["first", "weight"].T + w["first", "bias"] + s @ w["back", "weight"].T
            v = v * (1 - 1 / 3) + 2 / 3 * i
            s = Spike.apply(v)
            v = {"zero": v * (1 - s), "subtract": v - s, "none": v}[reset]
            out = out * 0.5 + 0.5 * (s @ w["second", "weight"].T + w["second", "bias"])
            rows.append(out)
            spikes += float(s.sum())
        theirs = torch.stack(rows, 1)
        ((theirs - target) ** 2).sum().backward()
        assert spikes > 5
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=1e-12)
        for key, tensor in w.items():
            assert tensor.grad is not None
            assert tensor.grad.abs().max() > 1e-3
            torch.testing.assert_close(executor.parameters[key].grad, tensor.grad, atol=1e-10, rtol=1e-10)


def test_without_spikes_gradients_are_finite_differences() -> None:
    """Of weights and of the neuron's own coefficients, through a recurrent LI population."""
    graph = network("LI", "zero", 7)
    x = torch.from_numpy(np.random.default_rng(7).normal(size=(2, 8, 3)))
    executor = FloatExecutor(graph, torch.float64, surrogate="atan")

    def loss() -> torch.Tensor:
        return (executor.evaluate({"x": x})["y"] ** 2).sum()

    loss().backward()
    for key in (("first", "weight"), ("back", "weight"), ("second", "bias"), ("hidden", "decay"), ("hidden", "gain")):
        parameter = executor.parameters[key]
        assert parameter.grad is not None
        flat, slopes = parameter.detach().view(-1), parameter.grad.view(-1)
        for index in range(min(3, len(flat))):
            values = []
            for step in (1e-6, -2e-6, 1e-6):
                flat[index] += step
                values.append(float(loss()))
            slope = (values[0] - values[1]) / 2e-6
            assert abs(slope - float(slopes[index])) <= 1e-6 * max(1, abs(slope)), (key, index)
