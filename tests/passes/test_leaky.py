"""Leaky ReLU as two populations."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from hsnn_compiler.driver import lower
from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.options import Options
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.leaky import SplitLeakyReLU
from hsnn_compiler.reference.float_executor import FloatExecutor


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 3, 3), nn.LeakyReLU(0.1), nn.Flatten())
    model.append(nn.Linear(48, 5))
    x = torch.randn(40, 1, 8, 8)
    return model, capture(model, x[:1]), x.numpy()


def outputs(model, x):
    with torch.no_grad():
        return model(torch.from_numpy(x)).numpy()


def test_exact_in_values():
    model, graph, x = network()
    after = SplitLeakyReLU().run(graph, PassContext()).graph
    assert not after.of_kind("LeakyReLU")
    np.testing.assert_allclose(FloatExecutor(after).run(x).output, outputs(model, x), atol=1e-5)


def test_on_the_chip():
    model, graph, x = network()
    program = lower(graph, Options(timesteps=32), x)
    assert len([node for node in program.graph if node.on_chip and node.is_spiking]) == 4
    right = outputs(model, x)
    assert np.corrcoef(program.simulate(x).output.ravel(), right.ravel())[0, 1] > 0.99


def test_pinned_to_the_host_it_stays():
    _, graph, _ = network()
    pins = {node.name: {"place": "host"} for node in graph.of_kind("LeakyReLU")}
    assert not SplitLeakyReLU().run(graph, PassContext(layers=pins)).modified
