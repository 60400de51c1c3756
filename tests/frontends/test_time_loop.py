"""Spiking models: TimeLoop, its coding, and the neurons' dynamics."""

import numpy as np
import pytest
import torch
from torch import nn

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.ir import Coding, discretize
from hsnn_compiler.ir.records import graphs_equal
from hsnn_compiler.ir.text import arrays_of, parse, to_text
from hsnn_compiler.nn import IF, LIF, Direct, Last, Rate, Sum, TimeLoop
from hsnn_compiler.reference.float_executor import FloatExecutor

IMAGE = torch.rand(2, 1, 6, 6)


def body(**neuron):
    return nn.Sequential(nn.Conv2d(1, 3, 3), LIF(**neuron), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 4), IF())


def codes(model, x=IMAGE):
    with pytest.raises(HsnnError) as error:
        capture(model, x)
    return [finding.code for finding in error.value.findings]


@pytest.mark.parametrize(("decoder", "kind"), [(Rate(), "mean"), (Sum(), "sum"), (Last(), "last")])
def test_whole_model(decoder, kind):
    graph = capture(TimeLoop(Direct(7), body(), decoder), IMAGE)
    assert graph.timesteps == 7
    assert [n.name for n in graph] == [
        "input",
        "encode",
        "_0",
        "_1",
        "_2",
        "_3",
        "_4",
        "_5",
        "decode",
        "output",
    ]
    assert graph["encode"].op.kind == "direct"
    assert graph["decode"].op.kind == kind
    assert graph["_0"].source.module == "body.0"
    assert [graph[n].type.coding for n in ("encode", "_0", "_1", "_2", "_5", "output")] == [
        Coding.CURRENT, Coding.CURRENT, Coding.SPIKES, Coding.CURRENT, Coding.SPIKES, Coding.VALUE,
    ]  # fmt: skip
    assert graphs_equal(parse(to_text(graph), arrays_of(graph)), graph)


@pytest.mark.parametrize("decoder", [Rate(), Sum(), Last()])
def test_reference_executor_gives_what_pytorch_gives(decoder):
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), LIF(torch.tensor([0.9, 0.5, 0.0]), v_init=0.2, reset="zero"),
        nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 64), IF(0.02),
    )  # fmt: skip
    model = TimeLoop(Direct(11), layers, decoder).eval()
    x = torch.rand(8, 1, 6, 6) * 3
    with torch.no_grad():
        expected = model(x).numpy()
    assert expected.any()
    np.testing.assert_allclose(FloatExecutor(capture(model, x)).run(x.numpy()).output, expected, atol=1e-6)


def test_part_of_a_model():
    class Hybrid(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU())
            self.snn = TimeLoop(Direct(3), body(), Sum())
            self.snn2 = TimeLoop(Direct(3), nn.Sequential(nn.Linear(4, 4), IF()), Rate())
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            y = self.snn(self.stem(x))
            return self.head(self.snn2(y) + y)

    graph = capture(Hybrid(), IMAGE)
    assert [n.name for n in graph] == [
        "input", "stem.0", "stem.1", "snn.encode", "snn.0", "snn.1", "snn.2", "snn.3", "snn.4", "snn.5", "snn.decode",
        "snn2.encode", "snn2.0", "snn2.1", "snn2.decode", "add", "head", "output",
    ]  # fmt: skip
    assert graph["snn.1"].source.module == "snn.body.1"


def test_body_written_as_code():
    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(36, 8), nn.Linear(8, 8)
            self.lif1, self.lif2 = LIF(0.5), LIF(0.25)

        def forward(self, x):
            spikes = self.lif1(self.fc1(x.flatten(1)))
            return self.lif2(self.fc2(spikes) + spikes)

    graph = capture(TimeLoop(Direct(4), Body(), Rate()), IMAGE)
    assert [n.name for n in graph][2:-2] == ["flatten", "fc1", "lif1", "fc2", "add", "lif2"]
    assert graph["add"].type.coding is Coding.CURRENT


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_one_neuron_steps_as_pytorch(reset, per_channel):
    """`discretize` of the captured node gives, step by step, the spikes and potentials of the module."""
    beta = torch.tensor([0.9, 0.5, 1.0]) if per_channel else 0.9
    threshold = torch.tensor([1.0, 0.7, 0.3]) if per_channel else 0.8
    lif = LIF(beta, threshold, reset=reset, v_init=0.25)
    x = torch.rand(2, 3, 4, 4)
    graph = capture(TimeLoop(Direct(9), lif, Sum()), x)
    node = graph["lif"]
    shape = (3, 1, 1) if per_channel else (1, 1, 1)
    assert {np.shape(v) for k, v in vars(node.op).items() if k in ("tau", "r", "v_leak", "v_threshold", "v_reset")} == {
        shape
    }
    step = discretize(node.op, node.dynamics)
    assert not step.inclusive
    assert step.reset == reset
    v = np.broadcast_to(step.v_init.astype(np.float32), x.shape)
    for _ in range(9):
        spikes = lif(x).numpy()
        v = step.decay.astype(np.float32) * v + step.gain.astype(np.float32) * x.numpy()
        fired = (v > step.threshold.astype(np.float32)).astype(np.float32)
        v = v - fired * step.threshold.astype(np.float32) if reset == "subtract" else v * (1 - fired)
        np.testing.assert_array_equal(spikes, fired)
        np.testing.assert_array_equal(lif.v.numpy(), v)


def test_lif_is_also_right_as_a_differential_equation():
    """Read as plain NIR, with dt = 1 and forward Euler, the node has the same coefficients."""
    op = capture(TimeLoop(Direct(2), LIF(0.9), Sum()), IMAGE)["lif"].op
    beta = float(np.float32(0.9))
    np.testing.assert_allclose(1 - 1 / op.tau, beta, rtol=1e-12)
    np.testing.assert_allclose(op.r / op.tau, 1, rtol=1e-12)


def test_integrate_and_fire():
    node = capture(TimeLoop(Direct(2), IF(torch.tensor([0.5]), reset="zero"), Sum()), IMAGE)["if"]
    assert node.kind == "IF"
    assert (node.dynamics.decay, node.dynamics.gain, node.dynamics.reset) == (1.0, 1.0, "zero")


def test_states_are_reset_afterwards():
    model = TimeLoop(Direct(2), body(), Rate())
    model(IMAGE)
    capture(model, IMAGE)
    assert model.body[1].v is None


class OneMinus(nn.Module):
    def forward(self, x):
        return x.unsqueeze(0)


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (nn.Sequential(nn.Flatten(), LIF()), "E0414"),
        (TimeLoop(OneMinus(), body(), Rate()), "E0407"),
        (TimeLoop(Direct(2), body(), OneMinus()), "E0406"),
        (TimeLoop(Direct(2), TimeLoop(Direct(2), body(), Rate()), Rate()), "E0407"),
        (
            nn.Sequential(nn.Flatten(), TimeLoop(Direct(2), IF(), Rate()), TimeLoop(Direct(3), IF(), Rate())),
            "E0407",
        ),
        (TimeLoop(Direct(2), nn.Sequential(LIF(), nn.Flatten(1, 2), nn.GRU(6, 2)), Rate()), "E0406"),
        (TimeLoop(Direct(2), nn.Sequential(nn.CrossMapLRN2d(1), LIF()), Rate()), "E0401"),
        (TimeLoop(Direct(2), LIF(beta=1.5), Rate()), "E0402"),
    ],
)
def test_refused(model, code):
    assert code in codes(model)


def test_findings_inside_a_body_are_collected():
    model = TimeLoop(OneMinus(), nn.Sequential(nn.CrossMapLRN2d(1), LIF(), nn.CrossMapLRN2d(1)), Rate())
    assert codes(model) == ["E0407", "E0401", "E0401"]


def test_value_and_step_do_not_mix():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.loop = TimeLoop(Direct(2), nn.Identity(), Rate())
            self.loop.body.register_forward_hook(lambda mod, args, out: out + self.x)

        def forward(self, x):
            self.x = x
            return self.loop(x)

    assert codes(Mixed()) == ["E0409"]
