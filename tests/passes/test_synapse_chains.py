"""Layers of weights without neurons between become one, exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.driver import lower
from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.options import Options

IMAGE, LINE = (4, 8, 6), (4, 12)


def compiled(shape, *layers):
    """A network with ReLUs at both ends, captured and compiled."""
    torch.manual_seed(0)
    for layer in layers:  # made when the tests were collected, before any seed
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    convolution = nn.Conv2d if len(shape) == 3 else nn.Conv1d
    model = nn.Sequential(convolution(shape[0], 4, 1), nn.ReLU(), *layers, nn.ReLU(), nn.Flatten()).eval()
    for parameter in model.parameters():
        parameter.data += 0.1  # biases too, and mostly positive sums
    x = torch.rand(30, *shape)
    graph = capture(model, x[:1])
    return lower(graph, Options(timesteps=256), x.numpy()), x, model


@pytest.mark.parametrize(
    ("shape", "layers"),
    [
        (IMAGE, (nn.Conv2d(4, 5, 3), nn.Conv2d(5, 6, 2))),
        (IMAGE, (nn.Conv2d(4, 5, 2, stride=2), nn.Conv2d(5, 6, 2, dilation=2))),
        (IMAGE, (nn.Conv2d(4, 5, 3, padding=1, dilation=2), nn.Conv2d(5, 6, 1), nn.Conv2d(6, 3, 2, stride=2))),
        (IMAGE, (nn.Conv2d(4, 8, 1, groups=2), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 2, 1))),
        (LINE, (nn.AvgPool1d(2), nn.Conv1d(4, 6, 3, padding=1))),
        (LINE, (nn.Conv1d(4, 6, 3), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(30, 7))),
        (IMAGE, (nn.Conv2d(4, 2, 3), nn.Flatten(), nn.Linear(48, 20), nn.Linear(20, 6))),
    ],
)
def test_exactly_the_same(shape, layers):
    program, x, model = compiled(shape, *layers)
    chip = [node for node in program.floating if node.is_synapse and node.on_chip]
    assert chip
    assert all(program.floating.successors(node.name)[0].is_neuron for node in chip)
    with torch.no_grad():
        expected = model(x).numpy()
    # 256 steps of a rate code: what is left is its own error, far below that of one wrong tap.
    error = np.abs(program.simulate(x.numpy(), "float").output - expected).mean() / np.abs(expected).mean()
    assert error < 0.02


def test_what_pads_zeros_between_is_refused():
    with pytest.raises(HsnnError) as error:
        compiled(IMAGE, nn.Conv2d(4, 5, 3), nn.Conv2d(5, 6, 3, padding=1))
    assert [finding.code for finding in error.value.findings if finding.is_error] == ["E0434"]


def test_linear_bottlenecks_with_a_residual_sum():
    class Bottlenecks(nn.Module):
        """As in MobileNetV2: sums of projections that no activation follows."""

        def __init__(self):
            super().__init__()
            self.project, self.expand = nn.Conv2d(4, 3, 1), nn.Conv2d(3, 6, 1)
            self.depthwise, self.again = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 3, 1)
            self.last = nn.Conv2d(3, 5, 1)

        def forward(self, x):
            y = self.project(x)
            inner = torch.relu(self.depthwise(torch.relu(self.expand(y))))
            return self.last(y + self.again(inner))

    program, x, model = compiled(IMAGE, Bottlenecks())
    with torch.no_grad():
        expected = model(x).numpy()
    error = np.abs(program.simulate(x.numpy(), "float").output - expected).mean() / np.abs(expected).mean()
    assert error < 0.02
