"""Max pooling of spikes becomes neurons, and stays what it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hsnn_compiler.diagnostics import HsnnError
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
    graph = captured(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), LIF(0.9), nn.Conv2d(4, 3, 2), LIF(0.8))
    assert not LowerMaxPooling().run(graph, PassContext()).modified
    with pytest.raises(HsnnError) as error:
        lower(graph, Options(), X)
    assert [finding.code for finding in error.value.findings if finding.is_error] == ["E0431"]
