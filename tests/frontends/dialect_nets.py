"""Neurons of any library in a loop over time, and how they compare with what was captured."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.reference.float_executor import FloatExecutor

SHAPES = [(7,), (3, 4, 5)]
STEPS = 120


class OverTime(nn.Module):
    """A layer called once per step of a series [T, B, ...], its states handed back as `thread` says."""

    def __init__(self, layer, thread):
        super().__init__()
        self.layer, self.thread = layer, thread
        self.potentials = []

    def forward(self, x):
        self.potentials = []
        outputs, states = [], ()
        for x_t in x:
            result = self.layer(x_t, *states)
            output, states, v = self.thread(result)
            outputs.append(output)
            self.potentials.append(v)
        return torch.stack(outputs)


class AtOnce(nn.Module):
    """A layer that takes the whole series."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        result = self.layer(x)
        return result[0] if isinstance(result, tuple) else result


def series(shape, seed, scale=1.0, batch=3, steps=STEPS):
    """Inputs [T, B, ...] that make neurons fire often, with rare large ones, in float64."""
    dice = torch.Generator().manual_seed(seed)
    x = torch.randn(steps, batch, *shape, generator=dice, dtype=torch.float64) + 0.25
    return scale * torch.where(torch.rand(x.shape, generator=dice) < 0.03, 6 * x, x)


def captured_series(model, x, steps=6):
    """The graph of a model of series, captured on a few steps."""
    graph = capture(model, x[:steps], axes="TB")
    graph.timesteps = len(x)
    return graph


class Found(NamedTuple):
    """How many outputs differ and by how much, their sum, and the largest difference of a potential."""

    different: int
    largest: float
    total: float
    error: float


def compare(model, x, dtype=torch.float64, node="layer"):
    """Run the model and its graph on a series."""
    model, x = model.to(dtype), x.to(dtype)
    graph = captured_series(model, x)
    with torch.no_grad():
        expected = model(x)
    assert expected.dtype is dtype
    potentials = getattr(model, "potentials", [None])
    record = [(node, "v")] if potentials[0] is not None else []
    result = FloatExecutor(graph, dtype).run(x.transpose(0, 1).numpy(), record=record)
    error = 0.0
    if record:
        v = torch.stack(potentials, 1).detach().numpy()
        error = float(np.abs(v - result.trace[record[0]]).max())
    gap = np.abs(result.output - expected.transpose(0, 1).numpy())
    return Found(int((gap > 0).sum()), float(gap.max()), float(expected.sum()), error)
