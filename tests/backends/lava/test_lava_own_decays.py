"""Networks with learned decays per channel and per neuron: as accurate in integers, and on Lava bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import snntorch as snn
import torch
from lava_runs import assert_equal
from sklearn.datasets import load_digits
from torch import nn

from hsnn_compiler.driver import lower
from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.options import Options
from hsnn_compiler.program import Program

pytestmark = pytest.mark.usefixtures("fast_lava")

STEPS = 8


class Digits(nn.Module):
    """Convolution and two linear layers, every `snn.Leaky` with a vector of learned betas; counts of spikes."""

    def __init__(self, reset: str) -> None:
        super().__init__()
        how = {"learn_beta": True, "reset_mechanism": reset}
        self.conv, self.hidden, self.last = nn.Conv2d(1, 6, 3), nn.Linear(6 * 36, 40), nn.Linear(40, 10)
        self.channels = snn.Leaky(torch.linspace(0.4, 0.95, 6).reshape(6, 1, 1), **how)
        self.neurons = snn.Leaky(torch.linspace(0.3, 0.98, 40), **how)
        self.classes = snn.Leaky(torch.full((10,), 0.9), **how)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c = (layer.init_leaky() for layer in (self.channels, self.neurons, self.classes))
        total = 0
        for _ in range(STEPS):
            s, a = self.channels(self.conv(x), a)
            s, b = self.neurons(self.hidden(s.flatten(1)), b)
            s, c = self.classes(self.last(s), c)
            total = total + s
        return total


def trained(reset: str) -> tuple[Digits, np.ndarray, np.ndarray]:
    """A network trained for two epochs, and test data with labels."""
    torch.manual_seed(0)
    digits = load_digits()
    x, y = torch.tensor(digits.images[:, None] / 16, dtype=torch.float32), torch.tensor(digits.target)
    model = Digits(reset)
    optimizer = torch.optim.Adam(model.parameters(), 4e-3)
    for batch in torch.cat([torch.randperm(1400) for _ in range(2)]).split(50):
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval(), x[1400:].numpy(), y[1400:].numpy()


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_learned_decays(reset: str) -> None:
    model, x, y = trained(reset)
    with torch.no_grad():
        wanted = model(torch.from_numpy(x)).numpy()
    program: Program = lower(capture(model, torch.from_numpy(x[:1])), Options(), x[:100])
    quants = {node.name: node.quant for node in program.graph if node.is_neuron}
    assert {name: np.shape(quant.dv) for name, quant in quants.items()} == {  # type: ignore[union-attr]
        "channels": (6, 6, 6), "neurons": (40,), "classes": (10,),
    }  # fmt: skip
    assert all((quant.taken is None) == (reset == "zero") for quant in quants.values())  # type: ignore[union-attr]
    real, integers = program.simulate(x, "float").output, program.simulate(x).output
    np.testing.assert_array_equal(real, wanted)
    right = [float((counts.argmax(1) == y).mean()) for counts in (wanted, integers)]
    print(reset, right)
    assert right[0] > 0.8
    assert right[1] > right[0] - 0.02
    assert abs(integers - real).sum() < 0.05 * real.sum()
    result = assert_equal(program.graph, x[:2])
    assert all(result.spikes[name] > 0 for name in quants)


def test_synaptic_currents_with_decays_of_their_own() -> None:
    """Untrained, with both decays random per neuron, and spikes as inputs."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(9, 20), nn.Linear(20, 8, bias=False)])
            self.first = snn.Leaky(torch.rand(20), threshold=0.3)
            self.second = snn.Synaptic(torch.rand(8), torch.rand(8), threshold=0.1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mem, (syn, other) = self.first.init_leaky(), self.second.init_synaptic()
            total = 0
            for _ in range(STEPS):
                s, mem = self.first(self.layers[0](x), mem)
                s, syn, other = self.second(self.layers[1](s), syn, other)
                total = total + s
            return total

    torch.manual_seed(3)
    model, x = Model(), np.random.default_rng(0).random((40, 9)).astype(np.float32)
    program = lower(capture(model, torch.from_numpy(x[:1])), Options(), x)
    assert np.shape(program.graph["second"].quant.du) == (8,)  # type: ignore[union-attr]
    result = assert_equal(program.graph, x[:3])
    assert result.spikes["second"] > 10
