"""Products of spikes become neurons, and stay what they were."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from hsnn_compiler.driver import lower
from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.nn import IF, LIF, Direct, SEWAdd, Sum, TimeLoop
from hsnn_compiler.options import Options
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.spike_logic import LowerSpikeLogic
from hsnn_compiler.reference.float_executor import FloatExecutor

X = (2 * np.random.default_rng(0).random((20, 6))).astype(np.float32)


class Join(nn.Module):
    """Two populations, and a function of their spikes."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(1)
        self.weights = nn.ModuleList([nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 5)])
        self.a, self.s, self.last = LIF(0.9, 0.4), IF(0.3), IF(0.2)
        self.function = function

    def forward(self, x):
        a, s = self.a(self.weights[0](x)), self.s(self.weights[1](x))
        return self.last(self.weights[2](self.function(a, s)))


def captured(function):
    return capture(TimeLoop(Direct(12), Join(function), Sum()), torch.from_numpy(X[:1]))


AND = {
    "a s": (lambda a, s: a * s, "a s"),
    "s a": (lambda a, s: torch.mul(s, a), "a s"),
    "(1 - a) s": (lambda a, s: (1 - a) * s, "(1 - a) s"),
    "s (1 - a)": (lambda a, s: s * (-a + 1), "(1 - a) s"),
    "a (1 - s)": (lambda a, s: a * (1 - s), "a (1 - s)"),
    "twice taken from one": (lambda a, s: (1 - (1 - a)) * s, "a s"),
    "SEW and": (SEWAdd("and"), "a s"),
    "SEW iand": (SEWAdd("iand"), "(1 - a) s"),
}
RULES = {
    "a s": lambda a, s: a & s,
    "(1 - a) s": lambda a, s: ~a & s,
    "a (1 - s)": lambda a, s: a & ~s,
}


@pytest.mark.parametrize("name", AND)
def test_exactly_the_same(name):
    function, rule = AND[name]
    graph = captured(function)
    result = LowerSpikeLogic().run(graph, PassContext())
    assert result.modified
    assert not result.graph.of_kind("HostCall", "BatchNorm")
    (joined,) = [node.name for node in result.graph if node.was is not None]
    record = [("a", "s"), ("s", "s"), ("last", "s")]
    before = FloatExecutor(graph).run(X, record).trace
    after = FloatExecutor(result.graph).run(X, [*record, (joined, "s")]).trace
    for key in record:
        np.testing.assert_array_equal(before[key], after[key])
    a, s = before["a", "s"] > 0, before["s", "s"] > 0
    np.testing.assert_array_equal(after[joined, "s"] > 0, RULES[rule](a, s))
    for one, other in itertools.product([True, False], repeat=2):
        assert np.any((a == one) & (s == other))  # else this could not tell


@pytest.mark.parametrize("name", ["a s", "(1 - a) s"])
def test_exactly_the_same_on_the_chip(name):
    function, rule = AND[name]
    program = lower(captured(function), Options(), X)
    (joined,) = [node.name for node in program.graph if node.was is not None]
    assert program.graph[joined].on_chip
    trace = program.simulate(X, record=["a", "s", joined]).trace
    np.testing.assert_array_equal(trace[joined, "s"] > 0, RULES[rule](trace["a", "s"] > 0, trace["s", "s"] > 0))
    assert trace[joined, "s"].any()


@pytest.mark.parametrize(
    "function",
    [
        lambda a, s: a * a,
        lambda a, s: (1 - a) * (1 - s),
        lambda a, s: (a + s) * s,
        lambda a, s: (2 - a) * s,
        lambda a, s: (0.5 * a) * s,
        lambda a, s: a * torch.relu(s),
    ],
)
def test_other_products_stay(function):
    graph = captured(function)
    assert not LowerSpikeLogic().run(graph, PassContext()).modified
    program = lower(graph, Options(), X)
    assert any(finding.code == "W0434" for finding in program.findings)
    assert {node.placement.where for node in program.graph.of_kind("HostCall")} == {"host"}
    before, after = (FloatExecutor(g, torch.float64).run(X).output for g in (graph, program.floating))
    np.testing.assert_array_equal(before, after)


def test_pinned_to_the_host():
    graph = captured(lambda a, s: a * s)
    (product,) = graph.of_kind("HostCall")
    program = lower(graph, Options(layers={product.name: {"place": "host"}}), X)
    assert program.graph[product.name].kind == "HostCall"
