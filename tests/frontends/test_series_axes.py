"""Tensors with batch and time in front, in models without neurons."""

import numpy as np
import pytest
import torch
from torch import nn

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.reference.float_executor import FloatExecutor

SIZES = {"T": 6, "B": 3}


def given(axes, *shape):
    """An example with these leading axes, and the same [samples, time, ...]."""
    order = axes.strip("()")
    x = torch.rand(*(SIZES[axis] for axis in order), *shape)
    return x, x.transpose(0, 1) if order == "TB" else x


@pytest.mark.parametrize("axes", ["TB", "BT", "(TB)", "(BT)"])
def test_leading_axes(axes):
    """Layers see one sample at a step, whatever stands in front of it."""
    torch.manual_seed(0)
    merged = axes.startswith("(")
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)) if not merged else nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3, 2)
    ).eval()  # fmt: skip
    example, samples = given(axes, *((2, 4, 4) if merged else (5,)))
    graph = capture(model, example, axes=axes)
    assert graph.timesteps == 6
    with torch.no_grad():
        expected = model(samples.flatten(0, 1)).unflatten(0, (3, 6))
    np.testing.assert_allclose(FloatExecutor(graph).run(samples.numpy()).output, expected.numpy(), atol=1e-6)


def test_unknown_axes():
    with pytest.raises(HsnnError) as error:
        capture(nn.Linear(5, 4), torch.rand(3, 6, 5), axes="T")
    assert error.value.findings[0].code == "E0408"


class Product(nn.Module):
    def forward(self, x):
        return x * (1.0 - x)


def test_product_of_series():
    example, samples = given("TB", 4)
    graph = capture(Product(), example, axes="TB")
    np.testing.assert_allclose(FloatExecutor(graph).run(samples.numpy()).output, samples * (1 - samples), atol=1e-6)


def test_one_pixel_becomes_many():
    x = torch.rand(2, 3, 1, 1)
    graph = capture(nn.AdaptiveAvgPool2d((2, 4)), x)
    assert [node.kind for node in graph] == ["Input", "Conv2d", "Output"]
    np.testing.assert_array_equal(FloatExecutor(graph).run(x.numpy()).output, x.expand(2, 3, 2, 4).numpy())


class TwoLengths(nn.Module):
    def forward(self, x):
        return x.unsqueeze(0).repeat(4, 1, 1).mean(0) + x.unsqueeze(0).repeat(5, 1, 1).mean(0)


def test_two_numbers_of_steps():
    with pytest.raises(HsnnError) as error:
        capture(TwoLengths(), torch.rand(3, 4))
    assert error.value.findings[0].code == "E0407"
