"""SpikingJelly's layers, containers and loops, captured; and what happens to states."""

import pytest
import torch
from torch import nn

pytest.importorskip("spikingjelly", reason="spikingjelly is not installed (constraints-peers.txt)")

from dialect_nets import series
from spikingjelly.activation_based import encoding, functional, layer, neuron, surrogate

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.reference.float_executor import FloatExecutor


def lif(**options):
    return neuron.LIFNode(v_threshold=0.4, surrogate_function=surrogate.ATan(), **options)


def plain():
    return nn.Sequential(
        layer.Conv2d(2, 4, 3), layer.BatchNorm2d(4), lif(), layer.MaxPool2d(2), layer.Conv2d(4, 5, 2, bias=False),
        lif(), layer.AvgPool2d(2), layer.Dropout(0.3), layer.Flatten(), layer.Linear(5, 20), lif(tau=3.0, v_reset=None),
        layer.VotingLayer(4),
    )  # fmt: skip


def one_dimensional():
    return nn.Sequential(
        layer.SeqToANNContainer(nn.Flatten(2), nn.Conv1d(2, 3, 5), nn.BatchNorm1d(3)), lif(), layer.AvgPool1d(4),
        layer.AdaptiveAvgPool1d(3), layer.Flatten(), layer.BatchNorm1d(9), layer.Linear(9, 9), neuron.IFNode(0.2),
    )  # fmt: skip


class Recurrent(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.flat, self.fc, self.cell = layer.Flatten(), layer.Linear(128, 8), cell

    def forward(self, x):
        return self.cell(self.fc(self.flat(x)))


def element_wise():
    return Recurrent(layer.ElementWiseRecurrentContainer(neuron.IFNode(0.5), lambda a, b: 0.4 * a + b))


def linear_recurrent():
    return Recurrent(layer.LinearRecurrentContainer(neuron.LIFNode(v_threshold=0.2), 8, 8))


def normalised():
    return nn.Sequential(
        layer.Conv2d(2, 4, 3), layer.ThresholdDependentBatchNorm2d(1.0, 0.5, 4), lif(), layer.AdaptiveAvgPool2d(1),
        layer.Upsample(scale_factor=2), layer.WSConv2d(4, 3, 2), neuron.IFNode(0.1), layer.Flatten(),
        layer.Linear(3, 4), neuron.IFNode(0.1),
    )  # fmt: skip


def prepared(net, mode="m", dtype=torch.float64):
    """Large weights and random running statistics, so that it spikes; in evaluation mode."""
    dice = torch.Generator().manual_seed(4)
    for part in net.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d)):
            part.weight.data *= 3
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.copy_(torch.rand(part.num_features, generator=dice) / 2)
            part.running_var.copy_(torch.rand(part.num_features, generator=dice) + 0.5)
    functional.set_step_mode(net, mode)
    return net.eval().to(dtype)


def outputs(graph, model, x, given):
    functional.reset_net(model)
    with torch.no_grad():
        expected = model(x)
    functional.reset_net(model)
    return torch.from_numpy(FloatExecutor(graph, torch.float64).run(given.numpy()).output), expected


@pytest.mark.parametrize("net", [plain, one_dimensional, element_wise, linear_recurrent, normalised])
def test_series(net):
    torch.manual_seed(2)
    model = prepared(net())
    x = series((2, 8, 8), 1, 2.0, batch=2, steps=20)
    graph = capture(model, x[:3], axes="TB")
    graph.timesteps = len(x)
    found, expected = outputs(graph, model, x, x.transpose(0, 1))
    assert expected.any()
    torch.testing.assert_close(found, expected.transpose(0, 1), rtol=0, atol=1e-6)


class Steps(nn.Module):
    """The tutorials' loop: one step per call, the mean of the results."""

    def __init__(self, net, how):
        super().__init__()
        self.net, self.how = net, how

    def forward(self, x):
        functional.reset_net(self.net)
        if self.how == "stack":
            return torch.stack([self.net(x) for _ in range(7)]).mean(0)
        total = 0.0
        for _ in range(7):
            total += self.net(x)
        return total / 7


@pytest.mark.parametrize("how", ["stack", "sum"])
@pytest.mark.parametrize("net", [plain, element_wise, linear_recurrent])
def test_loop(net, how):
    torch.manual_seed(2)
    model = Steps(prepared(net(), "s"), how)
    x = series((2, 8, 8), 1, 2.0, batch=3, steps=1)[0]
    found, expected = outputs(capture(model, x), model, x, x)
    assert expected.any()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["s", "m"])
def test_functional_forms(mode):
    """multi_step_forward and seq_to_ann_forward, and the containers made of them."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(2, 3, 3), nn.Linear(27, 6)
            self.step = layer.MultiStepContainer(neuron.IFNode(0.7), nn.MaxPool2d(2))
            self.last = layer.StepModeContainer(True, "m", nn.Linear(6, 4), neuron.IFNode(0.2))
            self.lif = lif()

        def forward(self, x):
            x = x.unsqueeze(0).repeat(6, 1, 1, 1, 1)
            x = self.step(functional.seq_to_ann_forward(x, self.conv))
            if mode == "m":
                self.lif.step_mode = "m"
                x = self.lif(self.fc(x.flatten(2)))
            else:
                x = functional.multi_step_forward(x.flatten(2), [self.fc, self.lif])
            return self.last(x).mean(0)

    torch.manual_seed(0)
    model = Net().eval().double()
    x = series((2, 8, 8), 3, 2.0, steps=1)[0]
    found, expected = outputs(capture(model, x), model, x, x)
    assert expected.any()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_called_once_per_step():
    torch.manual_seed(0)
    model = prepared(plain(), "s", torch.float32)
    graph = capture(model, torch.rand(2, 2, 8, 8), timesteps=9)
    assert graph.timesteps == 9
    assert {node.kind for node in graph} >= {"LIF", "Encode", "MaxPool2d"}


@pytest.mark.parametrize("mode", ["s", "m"])
def test_potential_of_a_neuron_that_never_fires(mode):
    """The way to a result that is no spike, in reinforcement learning for one."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.out = (
                layer.Linear(5, 4),
                neuron.LIFNode(3.0, v_threshold=float("inf"), store_v_seq=mode == "m"),
            )

        def forward(self, x):
            if mode == "m":
                self.out(self.fc(x.unsqueeze(0).repeat(8, 1, 1)))
                return self.out.v_seq[-1]
            for _ in range(8):
                self.out(self.fc(x))
            return self.out.v

    torch.manual_seed(0)
    model = prepared(Net(), mode)
    x = torch.rand(3, 5, dtype=torch.float64)
    found, expected = outputs(capture(model, x), model, x, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_potential_of_a_neuron_that_fires_is_not_used_elsewhere():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif = lif()

        def forward(self, x):
            return torch.stack([self.lif(x) + self.lif.v for _ in range(4)]).mean(0)

    with pytest.raises(HsnnError) as error:
        capture(Net(), torch.rand(2, 5))
    assert [finding.code for finding in error.value.findings] == ["E0412"]


@pytest.mark.parametrize("part", [lif(step_mode="m"), layer.Linear(5, 4, step_mode="m")])
def test_multi_step_mode_needs_time(part):
    with pytest.raises(HsnnError) as error:
        capture(nn.Sequential(part), torch.rand(2, 3, 5))
    assert [finding.code for finding in error.value.findings] == ["E0407"]


def test_subclass_that_only_sets_options():
    class Mine(neuron.LIFNode):
        """A LIF with a habit."""

        def __init__(self):
            super().__init__(tau=4.0, v_threshold=0.3)

    assert "LIF" in {node.kind for node in capture(Mine(), torch.rand(6, 3, 5), axes="TB")}


def findings(model, x, **options):
    with pytest.raises(HsnnError) as error:
        capture(model, x, **options)
    return error.value.findings


def test_subclass_that_computes_something_else():
    class Mine(neuron.LIFNode):
        def single_step_functional_forward(self, inputs, states, **kwargs):
            return super().single_step_functional_forward((2 * inputs[0],), states, **kwargs)

    (finding,) = findings(nn.Sequential(Mine(step_mode="m")), torch.rand(6, 3, 5), axes="TB")
    assert finding.code == "E0401"
    assert "a neuron of yours" in finding.message


@pytest.mark.parametrize("made", [encoding.PoissonEncoder, lambda: encoding.LatencyEncoder(4)])
def test_encoders(made):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.lif = made(), lif()

        def forward(self, x):
            return torch.stack([self.lif(self.encoder(x)) for _ in range(4)]).mean(0)

    (finding,) = findings(Net(), torch.rand(2, 5))
    assert finding.code == "E0401"
    assert "encode before the model" in finding.suggestion


@pytest.mark.parametrize("part", [layer.SynapseFilter(5.0), layer.Delay(2)])
def test_layers_with_other_memory(part):
    part.step_mode = "m"
    (finding,) = findings(nn.Sequential(lif(step_mode="m"), part), torch.rand(6, 3, 5), axes="TB")
    assert finding.code == "E0401"


class Meddling(nn.Module):
    """A loop in which something happens to a neuron's state."""

    def __init__(self, how):
        super().__init__()
        self.lif, self.how = lif(tau=4.0), how

    def forward(self, x):
        if self.how == "start":
            self.lif.v = torch.full_like(x, 0.3)
        outputs = []
        for step in range(6):
            if self.how == "reset" and step == 3:
                self.lif.reset()
            outputs.append(self.lif(x))
            if self.how == "change":
                self.lif.v = self.lif.v * 0.5
        return torch.stack(outputs).mean(0)


@pytest.mark.parametrize("how", ["reset", "change"])
def test_a_state_that_goes_astray(how):
    assert "E0407" in {finding.code for finding in findings(Meddling(how), torch.rand(2, 5))}


def test_a_state_that_is_set_before_the_loop():
    model, x = Meddling("start").double(), torch.rand(2, 5, dtype=torch.float64) / 3
    found, expected = outputs(capture(model, x), model, x, x)
    torch.testing.assert_close(found, expected)
