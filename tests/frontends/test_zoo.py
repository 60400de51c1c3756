"""SpikingJelly's model zoo at 32x32 inputs, captured and compiled: outputs and all spikes as the library has them."""

import time

import numpy as np
import pytest
import stand_ins
import torch
from dialect_rows import row, up_to_date
from torch import nn

stand_ins.for_spikingjelly_models()
pytest.importorskip("spikingjelly", reason="spikingjelly is not installed (constraints-peers.txt)")

from spikingjelly.activation_based import functional, neuron, surrogate  # noqa: E402
from spikingjelly.activation_based.model import (  # noqa: E402
    parametric_lif_net,
    sew_resnet,
    spiking_resnet,
    spiking_vgg,
)

from hsnn_compiler.driver import lower  # noqa: E402
from hsnn_compiler.frontends.torch import capture  # noqa: E402
from hsnn_compiler.options import Options  # noqa: E402
from hsnn_compiler.passes.base import PassContext  # noqa: E402
from hsnn_compiler.passes.place import Place, fit  # noqa: E402
from hsnn_compiler.passes.usage import usages  # noqa: E402
from hsnn_compiler.reference.float_executor import FloatExecutor  # noqa: E402
from hsnn_compiler.targets import load_target  # noqa: E402

STEPS = 4
LIF = {"spiking_neuron": neuron.LIFNode, "surrogate_function": surrogate.ATan(), "detach_reset": True}
IF = LIF | {"spiking_neuron": neuron.IFNode}
PLIF = LIF | {"spiking_neuron": neuron.ParametricLIFNode}


def lively(net, shape):
    """Running statistics of random images, and weights large enough for spikes in all layers; in evaluation mode."""
    functional.set_step_mode(net, "m")
    norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
    for part in norms:
        part.momentum = None
    with torch.no_grad():
        net.train()(torch.rand(2, 2, *shape) * 2)
    for part in norms:
        part.weight.data *= 2
    for part in net.modules():
        if isinstance(part, nn.Linear):
            part.weight.data *= 4
    functional.reset_net(net)
    return net.eval()


class Repeated(nn.Module):
    """The same image at every step, in multi-step mode."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x.unsqueeze(0).repeat(STEPS, 1, 1, 1, 1)).mean(0)


class Looped(nn.Module):
    """The same image at every step, in single-step mode."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        functional.set_step_mode(net, "s")

    def forward(self, x):
        functional.reset_net(self.net)
        total = 0.0
        for _ in range(STEPS):
            total = total + self.net(x)
        return total / STEPS


class Series(nn.Module):
    """A series of images."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)


def check(net, form, shape=(3, 32, 32)):
    """Capture, and compare in float32 (outputs) and in float64 (outputs and spikes). Returns the seconds it took."""
    model = form(lively(net, shape))
    x = torch.rand(1, *shape) * 3
    if form is Series:
        x = x * torch.rand(STEPS, 1, 1, 1, 1)
    begin = time.perf_counter()
    graph = capture(model, x, axes="TB" if form is Series else "B")
    took = time.perf_counter() - begin
    assert graph.timesteps == STEPS
    for dtype in (torch.float32, torch.float64):
        model, x = model.to(dtype), x.to(dtype)
        expected, spikes = run(model, x)
        given = x.transpose(0, 1) if form is Series else x
        record = [(name, "s") for name in spikes] if dtype is torch.float64 else []
        result = FloatExecutor(graph, dtype).run(given.numpy(), record=record)
        expected = expected.transpose(0, 1) if form is Series else expected
        assert expected.abs().max() > 0.01
        np.testing.assert_allclose(result.output, expected.numpy(), rtol=0, atol=1e-5)
    assert set(spikes) == {node.name for node in graph if node.is_spiking}
    for name, wanted in spikes.items():
        assert wanted.any(), name
        np.testing.assert_array_equal(result.trace[name, "s"], wanted.numpy(), err_msg=name)
    return took


def run(model, x):
    """The model's outputs, and the spikes of its neurons [samples, time, ...] by their names in the graph."""
    kept = {}
    hooks = [
        part.register_forward_hook(lambda mod, given, out, name=name: kept.setdefault(name, []).append(out))
        for name, part in model.named_modules()
        if isinstance(part, neuron.BaseNode)
    ]
    functional.reset_net(model)
    with torch.no_grad():
        outputs = model(x)
    functional.reset_net(model)
    for hook in hooks:
        hook.remove()
    joined = {name: parts[0] if len(parts) == 1 else torch.stack(parts) for name, parts in kept.items()}
    return outputs, {name: part.transpose(0, 1) for name, part in joined.items()}


@pytest.mark.parametrize("form", [Repeated, Looped, Series])
def test_spiking_resnet18(form):
    torch.manual_seed(1)
    took = check(spiking_resnet.spiking_resnet18(num_classes=10, **IF), form)
    assert took < 10


@pytest.mark.parametrize(("cnf", "form"), [("ADD", Repeated), ("ADD", Looped), ("AND", Repeated), ("IAND", Series)])
def test_sew_resnet18(cnf, form):
    torch.manual_seed(2)
    check(sew_resnet.sew_resnet18(num_classes=10, cnf=cnf, **LIF), form)


@pytest.mark.parametrize(
    ("made", "form", "shape"),
    [
        (parametric_lif_net.CIFAR10Net, Repeated, (3, 32, 32)),
        (parametric_lif_net.MNISTNet, Looped, (1, 28, 28)),
        (parametric_lif_net.NMNISTNet, Series, (2, 34, 34)),
    ],
)
def test_parametric_lif_nets(made, form, shape):
    torch.manual_seed(4)
    check(made(channels=12, **PLIF), form, shape)


# -- compiled -------------------------------------------------------------------------------------------

KAPOHO = "loihi2-kapoho-point"
COMPILED = {
    "spiking_resnet18": ("loihi2", lambda: spiking_resnet.spiking_resnet18(num_classes=10, **IF)),
    "sew_resnet18, ADD": (KAPOHO, lambda: sew_resnet.sew_resnet18(num_classes=10, cnf="ADD", **LIF)),
    "spiking_vgg11_bn": (
        KAPOHO,
        lambda: spiking_vgg.spiking_vgg11_bn(num_classes=10, init_weights=False, **LIF),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_compiles_for_the_smallest_target_that_holds_it(name):
    """Before quantisation nothing is lost; the cores it needs do not fit anything smaller, as the refusal says."""
    torch.manual_seed(1)
    target, made = COMPILED[name]
    model, x = Repeated(lively(made(), (3, 32, 32))).eval(), torch.rand(4, 3, 32, 32) * 2
    program = lower(capture(model, x[:1]), Options(target=target), x.numpy())
    assert not program.graph.of_kind("MaxPool2d")
    assert {node.kind for node in program.graph if not node.on_chip} <= {"Input", "Output", "Decode", "Conv2d"}
    expected, _ = run(model, x)
    assert expected.abs().max() > 0.01
    np.testing.assert_allclose(program.simulate(x.numpy(), "float").output, expected.numpy(), rtol=0, atol=1e-5)
    expected, spikes = run(model.double(), x.double())
    result = FloatExecutor(program.floating, torch.float64).run(x.numpy(), record=[(name, "s") for name in spikes])
    np.testing.assert_allclose(result.output, expected.numpy(), rtol=0, atol=1e-9)
    for population, wanted in spikes.items():
        assert wanted.any(), population
        np.testing.assert_array_equal(result.trace[population, "s"], wanted.numpy(), err_msg=population)
    integers = program.simulate(x.numpy(), "reference").output  # random weights: what 8 bits cost says nothing here
    assert integers.shape == expected.shape
    assert np.isfinite(integers).all()
    assert integers.any()
    row("zoo", name, target, True, _room(program))


def _room(program):
    """Cores and chips it takes; on a board: that one chip refuses it, and names this board."""
    target = load_target(program.target)
    used = usages(program.graph, target)
    cores = sum(item.cores for item in used)
    if target.chips == 1:
        return f"{cores} of {target['chip.neuron_cores']} cores"
    findings = Place().run(program.graph, PassContext()).findings
    layout, _ = fit(program.graph, used, target)
    assert {finding.code for finding in findings} == {"E0501"}
    assert f"{cores} neuron cores, the chip has 128" in [finding.message for finding in findings]
    assert all(
        finding.suggestion.startswith(f"--target {program.target}: fits on {len(layout.chips)} of its")
        for finding in findings
    )
    return f"{cores} cores on {len(layout.chips)} of {target.chips} chips; does not fit one"


def test_table_is_up_to_date():
    header = ("network", "target", "outputs and spikes equal", "room it takes, estimated")
    up_to_date("zoo", [(name, target) for name, (target, _) in COMPILED.items()], header)
