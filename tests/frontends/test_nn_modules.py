"""Every module of `hsnn_compiler.nn` as a node: outputs, spikes and events as PyTorch has them, in float64."""

import numpy as np
import pytest
import torch
from dialect_rows import row, up_to_date
from nn_checks import DECODERS, ENCODERS, T, body, check, has, image, run
from torch import nn

import hsnn_compiler.nn as hnn
from hsnn_compiler.driver import lower
from hsnn_compiler.frontends.torch.crossings import KINDS
from hsnn_compiler.frontends.torch.registry import MODULES
from hsnn_compiler.ir.stages import host_stages
from hsnn_compiler.nn import (
    IF,
    LIF,
    QCFS,
    TTFS,
    BitPlane,
    Direct,
    FirstSpikeTime,
    Membrane,
    Parts,
    Phase,
    PhaseSum,
    Rate,
    RateCode,
    Residual,
    SEWAdd,
    Sum,
    TimeLoop,
    has_resnet,
    has_small,
    has_vgg,
)
from hsnn_compiler.options import Options
from hsnn_compiler.reference.float_executor import FloatExecutor

CROSSINGS = ("Encode", "Decode")


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
    row("nn", type(encoder).__name__, "", True, becomes(graph, "encoder"))


@pytest.mark.parametrize("decoder", DECODERS, ids=str)
def test_decoders(decoder):
    graph = check(TimeLoop(BitPlane(T, 2.0), body(), decoder), image())
    assert graph["decode"].op.kind == KINDS[type(decoder)]
    row("nn", type(decoder).__name__, options(decoder), True, becomes(graph, "decoder"))


@pytest.mark.parametrize("decoder", [d for d in DECODERS if not isinstance(d, FirstSpikeTime)], ids=str)
def test_decoders_of_currents(decoder):
    check(TimeLoop(RateCode(T, 2.0), body()[:-1], decoder), image())


NEURONS = {
    ("LIF", "per channel"): lambda: LIF(
        torch.tensor([0.9, 0.5, 0.0, 1]), torch.tensor([0.3, 0.5, 0.7, 0.2]), v_init=0.1
    ),
    ("LIF", "reset zero"): lambda: LIF(0.7, 0.3, reset="zero"),
    ("IF", "reset zero"): lambda: IF(0.6, reset="zero", v_init=0.25),
    ("IF", "per channel"): lambda: IF(torch.full((4,), 0.5)),
}


@pytest.mark.parametrize("name", NEURONS, ids=" ".join)
def test_neurons(name):
    graph = check(TimeLoop(Direct(T), body(NEURONS[name]), Sum()), image())
    row("nn", *name, True, becomes(graph, "body.2"))


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
    graph = check(TimeLoop(Direct(T), nn.Sequential(block, nn.Linear(6, 4)), Membrane(0.5)), torch.rand(9, 6))
    check(TimeLoop(BitPlane(T), Residual(block, nn.Identity(), SEWAdd(mode)), FirstSpikeTime()), torch.rand(9, 6))
    row("nn", "SEWAdd", mode, True, becomes(graph, "body.0.join") + ("" if mode == "add" else "; neurons on a chip"))


@pytest.mark.parametrize("threshold", [1.5, torch.tensor([0.5, 1.0, 1.5])], ids=["one", "per channel"])
def test_qcfs(threshold):
    model = nn.Sequential(nn.Conv2d(1, 3, 3), QCFS(5, threshold), nn.Flatten(), nn.Linear(48, 2))
    graph = check(model, image(scale=4))
    (node,) = graph.of_kind("Quantised")
    assert (node.name, node.op.levels, node.op.ties) == ("_1", 5, "up")
    assert node.op.threshold.shape == (3, 1, 1)
    np.testing.assert_array_equal(node.op.threshold[:, 0, 0], threshold)
    row("nn", "QCFS", "one threshold" if isinstance(threshold, float) else "per channel", True, becomes(graph, "1"))


PHASE = Parts(lambda: Phase(T), PhaseSum, LIF, join="iand")
FIRST = Parts(lambda: TTFS(T), FirstSpikeTime, IF, lambda: QCFS(4), "and")
NETWORKS = {
    ("has_small", "8x8"): (lambda: has_small(), (1, 8, 8), 2),
    ("has_small", "16x16, phase, LIF, IAND"): (lambda: has_small(size=16, base=4, parts=PHASE), (1, 16, 16), 2),
    ("has_small", "8x8, TTFS, QCFS, AND"): (lambda: has_small(base=4, parts=FIRST), (1, 8, 8), 2),
    ("has_resnet", "32x32, b4-m2-d2"): (lambda: has_resnet(base=4, depth=2, blocks=2), (3, 32, 32), 5),
    ("has_vgg", "16x16, b2-m2-d1"): (lambda: has_vgg(base=2, depth=1, hidden=(12,)), (3, 16, 16), 3),
}


@pytest.mark.parametrize("name", NETWORKS, ids=" ".join)
def test_networks(name):
    """Captured, and compiled: what the passes make of them is exactly the same in real numbers."""
    build, shape, loops = NETWORKS[name]
    model, x = has(build(), shape)
    graph = check(model, x, tolerance=1e-8)
    assert len(graph.of_kind("Encode")) == len(graph.of_kind("Decode")) == loops
    program = lower(graph, Options(), x.numpy())
    before, after = (FloatExecutor(g, torch.float64).run(x.numpy()).output for g in (graph, program.floating))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-9)
    integers = program.simulate(x.numpy()).output
    assert np.abs(integers - before).max() < 0.2 * np.abs(before).max()  # of random weights
    turns = {stage.number for stage in host_stages(program.graph)}
    row("nn", *name, True, f"{loops} loops over time; the host takes {len(turns)} turns")


def becomes(graph, path):
    """Ops of the graph that a module became."""
    nodes = [node for node in graph if node.source.module == path]
    assert nodes
    return ", ".join(f"{node.kind} {node.op.kind}" if node.kind in CROSSINGS else node.kind for node in nodes)


def options(decoder):
    """What tells decoders of one class apart."""
    return decoder.extra_repr() if isinstance(decoder, Membrane) else ""


def test_table_is_up_to_date():
    wanted = [(type(module).__name__, options(module)) for module in (*ENCODERS, *DECODERS)]
    wanted += [*NEURONS, *(("SEWAdd", mode) for mode in ("add", "and", "iand")), *NETWORKS]
    wanted += [("QCFS", "one threshold"), ("QCFS", "per channel")]
    up_to_date("nn", wanted, ("module", "options", "captured graph equals PyTorch", "in the graph"))
