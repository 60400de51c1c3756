"""Batch normalisation where no weights stand beside it: behind a sum, a pooling, before a padded convolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hsnn_compiler.driver import lower
from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.options import Options
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.batchnorm import FoldBatchNorm
from hsnn_compiler.reference.float_executor import FloatExecutor


def norm(channels: int) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(channels)
    made.running_mean.normal_()
    made.running_var.uniform_(0.5, 2)
    nn.init.uniform_(made.weight, 0.5, 1.5)
    nn.init.normal_(made.bias)
    return made


class PreActivation(nn.Module):
    """A residual block with batch norm and ReLU before its convolutions, and a norm behind the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.norms = nn.ModuleList(norm(6) for _ in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1) for _ in range(2))
        self.head = nn.Linear(96, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.convs[0](self.norms[0](x).relu())
        x = x + self.convs[1](self.norms[1](y).relu())
        return self.head(nn.functional.avg_pool2d(self.norms[2](x).relu(), 2).flatten(1))


def behind_a_pooling() -> nn.Module:
    body = (nn.AvgPool2d(2), norm(4), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5))
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), *body)


MODELS = {"pre-activation": PreActivation, "behind a pooling": behind_a_pooling}


@pytest.mark.parametrize("name", MODELS)
def test_it_is_folded_and_stays_on_the_chip(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    x = torch.rand(48, 1, 8, 8)
    graph = capture(model, x[:1])
    with torch.no_grad():
        right = model(x).numpy()
    folded = FoldBatchNorm().run(graph, PassContext()).graph
    assert not folded.of_kind("BatchNorm")
    np.testing.assert_allclose(FloatExecutor(folded).run(x.numpy()).output, right, atol=1e-5)
    program = lower(graph, Options(timesteps=64), x.numpy())
    assert not [finding for finding in program.findings if finding.code == "W0434"]
    for backend in ("float", "reference"):
        assert np.corrcoef(program.simulate(x.numpy(), backend=backend).output.ravel(), right.ravel())[0, 1] > 0.99


def test_a_bias_before_padding_becomes_a_constant_of_each_neuron() -> None:
    """At the border the padding's zeros are without the bias, so neurons there get less of it."""
    torch.manual_seed(1)
    model = behind_a_pooling().eval()
    x = torch.rand(8, 1, 8, 8)
    program = lower(capture(model, x[:1]), Options(timesteps=8), x.numpy())
    (node,) = [n for n in program.floating if n.is_spiking and np.ndim(n.dynamics.leak) == 3]
    leak = node.dynamics.leak
    assert leak.shape == node.shape
    assert not np.allclose(leak[:, 0, 0], leak[:, 1, 1])
    after = {stage.name: stage.modified for stage in program.stages}
    assert after["lower-connections"]
    assert not program.graph.of_kind("Affine")[0].op.weight.shape[1] > 36  # no dense matrix instead of a convolution
