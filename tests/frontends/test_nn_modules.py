"""Every module of `hsnn_compiler.nn` as a node: outputs, spikes and events as PyTorch has them, in float64."""

import pytest
import torch
from nn_checks import DECODERS, ENCODERS, T, body, check, image, run
from torch import nn

import hsnn_compiler.nn as hnn
from hsnn_compiler.frontends.torch.crossings import KINDS
from hsnn_compiler.frontends.torch.registry import MODULES
from hsnn_compiler.nn import (
    IF,
    LIF,
    QCFS,
    BitPlane,
    Direct,
    FirstSpikeTime,
    Membrane,
    Rate,
    RateCode,
    Residual,
    SEWAdd,
    Sum,
    TimeLoop,
)
from hsnn_compiler.reference.float_executor import FloatExecutor


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_every_module_has_a_row_here_or_is_looked_into():
    """A new module must be added to the tests."""
    looked_into = {"HASBlock", "Parts", "Residual", "SEWAdd"}  # ordinary code, captured as such
    classes = {name for name in hnn.__all__ if isinstance(getattr(hnn, name), type)}
    surrogates = {cls.__name__ for cls in hnn.SURROGATES.values()}
    handled = {name for name in classes if getattr(hnn, name) in MODULES}
    assert handled == classes - looked_into - surrogates


@pytest.mark.parametrize("layerwise", [False, True])
@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda m: type(m).__name__)
def test_encoders(encoder, layerwise):
    graph = check(TimeLoop(encoder, body(), Rate(), layerwise=layerwise), image())
    assert graph["encode"].op.kind == KINDS[type(encoder)]
    assert graph["encode"].source.module == "encoder"
    assert graph.timesteps == T


@pytest.mark.parametrize("decoder", DECODERS, ids=str)
def test_decoders(decoder):
    graph = check(TimeLoop(BitPlane(T, 2.0), body(), decoder), image())
    assert graph["decode"].op.kind == KINDS[type(decoder)]


@pytest.mark.parametrize("decoder", [d for d in DECODERS if not isinstance(d, FirstSpikeTime)], ids=str)
def test_decoders_of_currents(decoder):
    check(TimeLoop(RateCode(T, 2.0), body()[:-1], decoder), image())


@pytest.mark.parametrize("neuron", [
    lambda: LIF(torch.tensor([0.9, 0.5, 0.0, 1.0]), torch.tensor([0.3, 0.5, 0.7, 0.2]), v_init=0.1),
    lambda: LIF(0.7, 0.3, reset="zero"), lambda: IF(0.6, reset="zero", v_init=0.25), lambda: IF(torch.full((4,), 0.5)),
])  # fmt: skip
def test_neurons(neuron):
    check(TimeLoop(Direct(T), body(neuron), Sum()), image())


def test_first_spike_time_reads_the_first_spike_alone():
    """Neurons that fire again and again, two of which are added up: only the first step above zero counts."""
    loud = Residual(nn.Sequential(nn.Linear(6, 5), IF(0.1)), nn.Sequential(nn.Linear(6, 5), IF(0.3)))
    model = TimeLoop(Direct(T), loud, FirstSpikeTime(2.5))
    x = torch.rand(40, 6)
    graph = check(model, x)
    passed = FloatExecutor(graph).run(x.numpy(), record=[("decode.first", "s")]).trace["decode.first", "s"]
    assert passed.sum(1).max() == 1
    assert run(model, x)[1]["body.branch.1"].sum(1).max() > 2


@pytest.mark.parametrize("mode", ["add", "and", "iand"])
def test_spike_element_wise(mode):
    block = Residual(
        nn.Sequential(nn.Linear(6, 6), IF(0.3)), nn.Sequential(nn.Linear(6, 6), LIF(0.9, 0.2)), SEWAdd(mode)
    )
    check(TimeLoop(Direct(T), nn.Sequential(block, nn.Linear(6, 4)), Membrane(0.5)), torch.rand(9, 6))
    check(TimeLoop(BitPlane(T), Residual(block, nn.Identity(), SEWAdd(mode)), FirstSpikeTime()), torch.rand(9, 6))


@pytest.mark.parametrize("threshold", [1.5, torch.tensor([0.5, 1.0, 1.5])], ids=["one", "per channel"])
def test_qcfs(threshold):
    model = nn.Sequential(nn.Conv2d(1, 3, 3), QCFS(5, threshold), nn.Flatten(), nn.Linear(48, 2))
    graph = check(model, image(scale=4))
    (node,) = graph.of_kind("Quantised")
    assert (node.name, node.op.levels, node.op.ties) == ("_1", 5, "up")
    assert node.op.threshold.shape == ((1, 1, 1) if isinstance(threshold, float) else (3, 1, 1))
