"""Max pooling of spikes becomes neurons, and stays what it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hsnn_compiler.driver import lower
from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.nn import LIF, Direct, Sum, TimeLoop
from hsnn_compiler.options import Options
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.max_pooling import LowerMaxPooling
from hsnn_compiler.reference.float_executor import FloatExecutor

X = (2 * np.random.default_rng(0).random((20, 1, 9, 8))).astype(np.float32)


def captured(*layers):
    torch.manual_seed(1)
    return capture(TimeLoop(Direct(12), nn.Sequential(*layers), Sum()), torch.from_numpy(X[:1]))


def spiking(*pool):
    return captured(nn.Conv2d(1, 4, 3), LIF(0.9, 0.5), *pool, nn.Conv2d(4, 3, 2), LIF(0.8, 0.3))


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d((1, 3), 1)])
def test_exactly_the_same(pool):
    graph = spiking(pool)
    result = LowerMaxPooling().run(graph, PassContext())
    assert result.modified
    assert not result.graph.of_kind("MaxPool2d")
    record = [("_1", "s"), ("_2", "s"), ("_4", "s")]
    before, after = (FloatExecutor(g).run(X, record) for g in (graph, result.graph))
    assert before.trace["_2", "s"].any()
    for key in record:
        np.testing.assert_array_equal(before.trace[key], after.trace[key])


def test_exactly_the_same_on_the_chip():
    program = lower(spiking(nn.MaxPool2d(3, 2, 1)), Options(), X)
    spikes = program.simulate(X, record=["_1", "_2"]).trace
    before = torch.from_numpy(spikes["_1", "s"].astype(np.float32)).flatten(0, 1)
    pooled = nn.functional.max_pool2d(before, 3, 2, 1).unflatten(0, spikes["_1", "s"].shape[:2])
    np.testing.assert_array_equal(spikes["_2", "s"], pooled.numpy())


def test_what_is_not_spikes_stays():
    """Values and currents: the host pools them."""
    constant = captured(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), LIF(0.9), nn.Conv2d(4, 3, 2), LIF(0.8))
    layers = (nn.Conv2d(1, 4, 3), LIF(), nn.Conv2d(4, 3, 2), nn.MaxPool2d(2), LIF(), nn.Conv2d(3, 2, 2), LIF())
    for graph, warned in ((constant, False), (captured(*layers), True)):
        assert not LowerMaxPooling().run(graph, PassContext()).modified
        program = lower(graph, Options(), X)
        assert any(finding.code == "W0431" for finding in program.findings) == warned
        (pool,) = program.graph.of_kind("MaxPool2d")
        assert pool.placement.where == "host"


def values(*layers, shape=(2, 9, 8)):
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(shape[0], 4, 3), *layers, nn.Flatten(), nn.LazyLinear(3))
    x = torch.randn(30, *shape)
    with torch.no_grad():
        model(x[:1])
    return capture(model, x[:1]), x.numpy(), model


@pytest.mark.parametrize(
    "layers",
    [
        (nn.ReLU(), nn.MaxPool2d(2)),
        (nn.ReLU(), nn.Conv2d(4, 3, 3), nn.MaxPool2d(2), nn.ReLU()),
        (nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
        (nn.ReLU6(), nn.MaxPool2d((1, 3), 1), nn.Conv2d(4, 2, 1), nn.ReLU(), nn.MaxPool2d(3)),
    ],
)
def test_of_values_it_is_exact_in_values(layers):
    graph, x, model = values(*layers)
    result = LowerMaxPooling().run(graph, PassContext())
    assert not result.graph.of_kind("MaxPool2d")
    with torch.no_grad():
        np.testing.assert_allclose(FloatExecutor(result.graph).run(x).output, model(torch.from_numpy(x)), atol=1e-5)


def test_of_values_on_the_chip():
    graph, x, model = values(nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 2), nn.ReLU())
    program = lower(graph, Options(timesteps=32), x)
    kept = [node for node in program.graph if node.on_chip and node.is_neuron]
    assert len(kept) == 2 + 3 + 1  # two ReLUs, three comparisons, the read-out
    with torch.no_grad():
        right = model(torch.from_numpy(x)).numpy()
    got = program.simulate(x).output
    assert np.corrcoef(got.ravel(), right.ravel())[0, 1] > 0.99


def test_pinned_to_the_host_it_stays():
    graph, *_ = values(nn.ReLU(), nn.MaxPool2d(2))
    pool = graph.of_kind("MaxPool2d")[0].name
    assert not LowerMaxPooling().run(graph, PassContext(layers={pool: {"place": "host"}})).modified


def test_padding_below_zero_would_be_wrong():
    """Zeros stand in for what lies outside, which is right only where nothing below zero can arrive."""
    graph, *_ = values(nn.ReLU(), nn.Conv2d(4, 3, 3), nn.MaxPool2d(3, 2, 1), nn.ReLU())
    assert not LowerMaxPooling().run(graph, PassContext()).modified
