"""Loops over time, blocks and networks of `hsnn_compiler.nn`: what capture makes of them, and what it refuses."""

import numpy as np
import pytest
import torch
from nn_checks import DECODERS, ENCODERS, T, body, check, findings_of, has, image
from torch import nn

import hsnn_compiler.nn as hnn
from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.frontends.torch.crossings import KINDS
from hsnn_compiler.nn import (
    IF,
    LIF,
    TTFS,
    BitPlane,
    BitPlaneSum,
    Direct,
    FirstSpikeTime,
    PhaseSum,
    Rate,
    Sum,
    TimeLoop,
    has_resnet,
    has_small,
    reset_states,
)
from hsnn_compiler.nn.loop import over_steps
from hsnn_compiler.reference.float_executor import FloatExecutor


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class OwnLoop(nn.Module):
    """Encoder, loop over time and decoder, without TimeLoop."""

    def __init__(self, encoder, body, decoder):
        super().__init__()
        self.encoder, self.body, self.decoder = encoder, body, decoder

    def forward(self, x):
        reset_states(self)
        return self.decoder(torch.stack([self.body(step) for step in self.encoder(x)]))


class OverSteps(OwnLoop):
    """Layer by layer, whole series."""

    def forward(self, x):
        reset_states(self)
        return self.decoder(over_steps(self.body, self.encoder(x)))


@pytest.mark.parametrize("form", [OwnLoop, OverSteps])
@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda m: type(m).__name__)
def test_own_loops(form, encoder):
    model = form(encoder, body(), BitPlaneSum(0.9))
    graph = check(model, image(), spikes=False)
    assert graph["encode"].op.kind == KINDS[type(encoder)]
    assert sum(node.is_spiking for node in graph) == 2


@pytest.mark.parametrize("form", [OwnLoop, OverSteps])
@pytest.mark.parametrize("decoder", DECODERS, ids=str)
def test_decoders_behind_own_loops(form, decoder):
    check(form(BitPlane(T, 2.0), body(), decoder), image(), spikes=False)


def test_a_series_given_from_outside():
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.decoder = body(), PhaseSum(period=4)

        def forward(self, steps):
            reset_states(self)
            return self.decoder(torch.stack([self.body(step) for step in steps]))

    model, x = Reads().eval(), (torch.rand(T, 3, 1, 6, 6) > 0.5).float()
    graph = capture(model, x, axes="TB")
    with torch.no_grad():
        expected = model.double()(x.double()).numpy()
    result = FloatExecutor(graph, torch.float64).run(x.double().transpose(0, 1).numpy())
    np.testing.assert_allclose(result.output, expected, rtol=0, atol=1e-9)


def test_one_step_per_call():
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), LIF(0.5, 0.2))
    graph = capture(model, image(), timesteps=12)
    assert graph.timesteps == 12
    assert [node.kind for node in graph if node.is_neuron] == ["LIF"]


class Custom(nn.Module):
    """Encoders and decoders of one's own, of code that capture knows."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_encoders_and_decoders_of_ones_own():
    encoder = Custom(lambda x: (2 * x).unsqueeze(0).repeat(T, 1, 1, 1, 1))
    graph = check(TimeLoop(encoder, body(), Custom(lambda s: s.mean(0) * 3)), image())
    assert graph.of_kind("Encode")[0].op.kind == "direct"
    before = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), BitPlane(T))
    after = nn.Sequential(Sum(), nn.Linear(5, 2))
    graph = check(TimeLoop(before, body(), after), image())
    assert [node.name for node in graph][1:4] == ["encoder.0", "encoder.1", "encoder.2"]


def test_scales_are_frozen():
    """Capture takes the scale as it is, says what it thinks of it, and moves none."""
    model, x = has(has_small(), (1, 8, 8))
    findings = []
    capture(model, x, findings=findings)
    assert not findings
    scales = {name: tensor.clone() for name, tensor in model.named_buffers() if name.endswith("high")}

    with hnn.calibration(model):
        model(x / 4)
        before = model.stage1.snn.encoder.high.clone()
        graph = capture(model, x * 100, findings=findings)
        assert model.stage1.snn.encoder.calibrating
        assert model.stage1.snn.encoder.high == before != scales["stage1.snn.encoder.high"]
        assert graph["stage1.snn.encode"].op.high == float(before)
        model(x)
    assert model.stage1.snn.encoder.high > before
    assert [finding.code for finding in findings] == ["W0415", "W0415"]
    assert all("still calibrating" in finding.message for finding in findings)

    findings = []
    fresh = has_resnet(base=2, depth=1, blocks=3)
    capture(fresh, torch.rand(2, 3, 16, 16), findings=findings)
    (finding,) = findings
    assert finding.code == "W0415"
    assert finding.node == "stage1_1.snn.encoder"
    assert finding.message.endswith("the same for 2 more: stage1_2.snn.encoder, stage1_3.snn.encoder")


class Twice(nn.Module):
    def __init__(self, one, other):
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x):
        return self.one(x) + self.other(x)


def test_loops_of_different_lengths_are_both_named():
    found = findings_of(Twice(TimeLoop(Direct(3), IF(), Rate()), TimeLoop(TTFS(5), IF(), Rate())), torch.rand(2, 4))
    assert [finding.code for finding in found] == ["E0407"]
    assert found[0].node == "other.encoder"
    assert "5 time steps here, 3 in one.encoder" in found[0].message


@pytest.mark.parametrize(("model", "words"), [
    (TimeLoop(Direct(T), nn.Linear(4, 4), FirstSpikeTime()), "something other than spikes"),
    (Rate(), "first axis is not time"),
    (nn.Sequential(Direct(T), BitPlane(T)), "encodes a series"),
    (TimeLoop(nn.Linear(4, 4), IF(), Rate()), "no series of T steps"),
    (TimeLoop(Direct(T), IF(), nn.Identity()), "no values, one per sample"),
])  # fmt: skip
def test_refused(model, words):
    found = findings_of(model, torch.rand(3, 4))
    assert [finding.code for finding in found] == ["E0407"]
    assert words in found[0].message


def test_neurons_of_other_libraries_in_a_loop_layer_by_layer():
    snntorch = pytest.importorskip("snntorch")
    step = nn.Sequential(nn.Linear(4, 4), snntorch.Leaky(0.9, init_hidden=True))
    (finding,) = findings_of(TimeLoop(Direct(T), step, Rate(), layerwise=True), torch.rand(3, 4))
    assert finding.code == "E0407"
    assert "Leaky" in finding.message
    capture(TimeLoop(Direct(T), step, Rate()), torch.rand(3, 4))
