"""Models of `hsnn_compiler.nn` against what capture makes of them, in float64."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.frontends.torch.crossings import KINDS
from hsnn_compiler.nn import (
    IF,
    LIF,
    TTFS,
    BitPlane,
    BitPlaneSum,
    Delta,
    Direct,
    FirstSpikeTime,
    Last,
    Membrane,
    Phase,
    PhaseSum,
    Rate,
    RateCode,
    Sum,
    calibrate,
    reset_states,
)
from hsnn_compiler.reference.float_executor import FloatExecutor

T = 8
ENCODERS = [
    Direct(T),
    BitPlane(T, 1.7),
    RateCode(T, 1.7),
    TTFS(T, 1.7),
    Delta(T, 1.7),
    Phase(T, 1.7, period=4),
]
DECODERS = [
    Rate(),
    Sum(),
    Last(),
    BitPlaneSum(0.7),
    PhaseSum(0.7, period=2),
    FirstSpikeTime(0.7),
    Membrane(),
    Membrane(0.75),
    Membrane(0.0),
]


def body(neuron=lambda: LIF(0.8, 0.4)):
    """One step: [1, 6, 6] to spikes of 5 neurons."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        lively(nn.BatchNorm2d(4)),
        neuron(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 5),
        IF(0.2),
    )


def lively(norm):
    """Statistics and weights other than those before training."""
    with torch.no_grad():
        for tensor, low, high in (
            (norm.running_mean, -0.2, 0.2),
            (norm.running_var, 0.3, 1),
            (norm.weight, 0.7, 1.4),
            (norm.bias, -0.1, 0.3),
        ):
            tensor.uniform_(low, high)
    return norm


def check(model, x, spikes=True, tolerance=1e-9):
    """Capture, and compare outputs and the events of all encoders and neurons in float64. Returns the graph."""
    model = model.eval()
    findings = []
    graph = capture(model, x, findings=findings)
    expected, events = run(copy.deepcopy(model).double(), x.double())
    record = [
        (node.name, "s") for node in graph if node.is_event_source or (node.is_spiking and ".first" not in node.name)
    ]
    result = FloatExecutor(graph, torch.float64).run(x.double().numpy(), record=record)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(result.output, expected, rtol=0, atol=tolerance)
    if spikes:
        found = {graph[name].source.module: trace for (name, _), trace in result.trace.items()}
        assert set(found) == set(events)
        for path, wanted in events.items():
            np.testing.assert_array_equal(found[path], wanted, err_msg=path)
    with torch.no_grad():
        single = FloatExecutor(graph).run(x.numpy()).output
        np.testing.assert_allclose(single, model(x).numpy(), rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))
    return graph


def run(model, x):
    """Outputs, and what encoders and neurons put out, [samples, time, ...], by their paths."""
    kept, hooks = {}, []
    for path, part in model.named_modules():
        if isinstance(part, (IF, LIF)) or type(part) in KINDS:
            hooks.append(part.register_forward_hook(lambda mod, given, out, p=path: kept.setdefault(p, []).append(out)))
    with torch.no_grad():
        output = model(x)
    reset_states(model)
    for hook in hooks:
        hook.remove()
    events = {}
    for path, parts in kept.items():
        if isinstance(model.get_submodule(path), (IF, LIF)):
            events[path] = torch.stack(parts).transpose(0, 1).numpy()
        elif KINDS[type(model.get_submodule(path))] != "direct" and len(parts[0]) == T and len(x) != T:
            (whole,) = parts
            events[path] = whole.transpose(0, 1).numpy()
    return output.numpy(), events


def findings_of(model, x):
    with pytest.raises(HsnnError) as error:
        capture(model, x)
    return error.value.findings


def image(n=5, scale=2.0):
    return torch.rand(n, 1, 6, 6) * scale


def has(model, shape, n=4):
    """Lively batch norms, and calibrated encoders."""
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            lively(part)
    x = torch.rand(n, *shape)
    calibrate(model, x)
    return model, x
