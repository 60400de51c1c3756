"""Activations of few levels in all the ways people write them: one node, and what is nearly one is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from picks import Picks, picks
from qcfs_models import GradFloor
from spikingjelly.activation_based import quantize
from torch import nn

from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.reference.float_executor import FloatExecutor


def published(x, top, n):
    x = torch.clamp(x / top, 0, 1)
    return GradFloor.apply(x * n + 0.5) / n * top


def clipped_behind(x, top, n):
    x = GradFloor.apply(x / top * n + 0.5) / n
    return torch.clamp(x, 0, 1) * top


def straight_through(x, top, n):
    y = torch.clamp(x / top, 0, 1) * n + 0.5
    return ((torch.floor(y) - y).detach() + y) / n * top


def straight_through_as_a_whole(x, top, n):
    x = torch.clamp(x / top, 0, 1)
    quantised = (x * n + 0.5).floor() / n
    return (x + (quantised - x).detach()) * top


def steps(x, top, n):
    step = top / n
    return torch.clamp(torch.floor(x / step + 0.5), 0, n) * step


def behind_relu(x, top, n):
    return top * (torch.floor(torch.relu(x) * (n / top) + 0.5) / n).clamp(0, 1)


def spikingjelly(x, top, n):
    return quantize.floor(quantize.clamp(x / top, 0.0, 1.0) * n + 0.5) / n * top


def rounded(x, top, n):
    return torch.round(torch.clamp(x / top, 0, 1) * n) / n * top


WAYS = (published, clipped_behind, straight_through, straight_through_as_a_whole, steps, behind_relu, spikingjelly,
        rounded)  # fmt: skip


class Activation(nn.Module):
    def __init__(self, function, top, n):
        super().__init__()
        self.function, self.top, self.n = function, nn.Parameter(torch.as_tensor(top)), n

    def forward(self, x):
        return self.function(x, self.top, self.n)


def network(function, top, n):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), Activation(function, top, n), nn.Flatten(), nn.Linear(48, 4))


def in_double(model, x):
    with torch.no_grad():
        return model.double()(torch.from_numpy(x).double()).numpy()


@pytest.mark.parametrize("function", WAYS)
@pytest.mark.parametrize(("top", "n"), [([8.0], 8), (0.7, 3), ([1.0], 1), ([[[0.3]], [[0.9]], [[1 / 3]]], 12)])
def test_one_node(function, top, n):
    model = network(function, top, n)
    graph = capture(model, torch.randn(2, 2, 6, 6))
    assert [node.kind for node in graph] == ["Input", "Conv2d", "Quantised", "Flatten", "Affine", "Output"]
    node = graph["_1"]
    assert (node.op.levels, node.op.ties) == (n, "even" if function is rounded else "up")
    wanted = np.broadcast_to(np.array(top, np.float32).reshape(-1, 1, 1), (3, 1, 1))
    np.testing.assert_allclose(node.op.threshold, wanted, rtol=0 if function is not steps else 1e-6)
    x = np.random.default_rng(0).normal(size=(40, 2, 6, 6)).astype(np.float32)
    found = FloatExecutor(graph, torch.float64).run(x).output
    near = 1e-6 if function is steps else 1e-9  # its step is rounded to float32 in the graph
    np.testing.assert_allclose(found, in_double(model, x), rtol=near, atol=near)


@pytest.mark.parametrize("function", [published, clipped_behind, rounded])
def test_ties(function):
    """Halfway between two levels, exactly: as the model does it, which is not the same with round."""
    graph = capture(Activation(function, 2.0, 8), torch.zeros(2, 5))
    x = (np.arange(-40, 120, dtype=np.float32) / 32).reshape(-1, 5)
    np.testing.assert_array_equal(FloatExecutor(graph).run(x).output, in_double(Activation(function, 2.0, 8), x))
    assert graph.of_kind("Quantised")


ALMOST = {
    "no shift": lambda x: torch.floor(torch.clamp(x / 2, 0, 1) * 4) / 4 * 2,
    "another shift": lambda x: torch.floor(torch.clamp(x / 2, 0, 1) * 4 + 0.4) / 4 * 2,
    "shift before round": lambda x: torch.round(torch.clamp(x / 2, 0, 1) * 4 + 0.5) / 4 * 2,
    "no upper end": lambda x: torch.floor(torch.relu(x) * 4 + 0.5) / 4,
    "signed": lambda x: torch.floor(torch.clamp(x / 2, -1, 1) * 4 + 0.5) / 4 * 2,
    "an end between levels": lambda x: torch.floor(torch.clamp(x, 0, 0.9) * 4 + 0.5) / 4,
    "ceil": lambda x: torch.ceil(torch.clamp(x, 0, 1) * 4 - 0.5) / 4,
    "other ends": lambda x: torch.floor(torch.clamp(x / ENDS, 0, 1) * ENDS * 4 + 0.5) / 4,
}
PART = {
    "scaled back otherwise": lambda x: torch.floor(torch.clamp(x / 2, 0, 1) * 4 + 0.5) / 4 * 2.01,
    "an offset in front": lambda x: torch.floor(torch.clamp(x + 0.1, 0, 1) * 4 + 0.5) / 4,
    "an offset behind": lambda x: torch.floor(torch.clamp(x, 0, 1) * 4 + 0.5) / 4 + 0.1,
    "falling": lambda x: torch.floor(torch.clamp(-x, 0, 1) * 4 + 0.5) / 4,
    "not all of it": lambda x: torch.floor(torch.clamp(x, 0, 1) * 4 + 0.5) / 4 + 0.1 * x,
    "per pixel": lambda x: torch.floor(torch.clamp(x / PIXELS, 0, 1) * 4 + 0.5) / 4 * PIXELS,
}
PIXELS = torch.arange(1, 10).float().reshape(3, 3)
ENDS = torch.tensor([1.0, 2.0]).reshape(2, 1, 1)


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("name", ALMOST)
def test_what_is_nearly_one_is_none(name):
    graph = capture(Lambda(ALMOST[name]), torch.randn(2, 2, 3, 3))
    assert graph.of_kind("HostCall")
    assert not graph.of_kind("Quantised")


@pytest.mark.parametrize("name", PART)
def test_what_holds_one_keeps_the_rest(name):
    graph = capture(Lambda(PART[name]), torch.randn(2, 2, 3, 3))
    (node,) = graph.of_kind("Quantised")
    assert (set(node.op.threshold.flat), node.op.levels) == ({1.0}, 4)
    assert not graph.of_kind("HostCall")
    x = np.random.default_rng(0).normal(size=(40, 2, 3, 3)).astype(np.float32)
    found = FloatExecutor(graph, torch.float64).run(x).output
    np.testing.assert_allclose(found, in_double(Lambda(PART[name]), x), rtol=1e-6, atol=1e-6)


@settings(max_examples=60)
@given(picks())
def test_whatever_is_recognised_is_the_same_function(p: Picks) -> None:
    """Random scales, shifts, clips and floors, most of them no quantised activation."""
    top, n = p.choice([0.5, 2.0, 0.7]), p.choice([1, 3, 4])
    program = [("clip", 0.0, 1.0), ("scale", float(n)), ("shift", 0.5), ("floor",), ("scale", 1 / n), ("scale", top)]
    program.insert(0, ("scale", 1 / top))
    for _ in range(p.integer(0, 2)):
        change = p.choice([("scale", 2.0), ("scale", 1.0), ("shift", 0.5), ("clip", 0.0, 4.0), ("clip", -1.0, 0.8)])
        program.insert(p.integer(0, len(program)), change)

    def forward(x):
        for what, *numbers in program:
            if what == "clip":
                x = torch.clamp(x, *numbers)
            elif what == "floor":
                x = torch.floor(x)
            else:
                x = x * numbers[0] if what == "scale" else x + numbers[0]
        return x

    graph = capture(Lambda(forward), torch.randn(2, 7))
    x = np.linspace(-3, 9, 7 * 1001).astype(np.float32).reshape(-1, 7) + np.float32(1e-4)
    found = FloatExecutor(graph, torch.float64).run(x).output
    np.testing.assert_allclose(found, in_double(Lambda(forward), x), rtol=1e-6, atol=1e-6)
    if len(program) == 7:
        assert graph.of_kind("Quantised")


def test_names_and_what_else_is_used():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act, self.last = nn.Linear(4, 4), Activation(published, 1.5, 4), nn.Linear(4, 4)

        def forward(self, x):
            x = self.act(self.fc(x))
            shares = torch.clamp(self.last(x) / 2, 0, 1)
            return self.act(x - 0.3) + published(x, 0.7, 2), torch.floor(shares * 4 + 0.5) / 4 * 2, shares

    graph = capture(Model(), torch.randn(2, 4))
    assert [node.name for node in graph.of_kind("Quantised")] == [
        "act.quantised", "act.quantised_2", "quantised", "quantised_2",
    ]  # fmt: skip
    assert [node.kind for node in graph.predecessors("output_3")] == ["Clip"]
    assert not graph.of_kind("HostCall")
