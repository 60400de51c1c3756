"""What counts as exact: rounding and ties do, anything else does not; and the source in its several forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

import hsnn_compiler as hc
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.driver import capture_model
from hsnn_compiler.ir.dynamics import Dynamics
from hsnn_compiler.nn import LIF, Direct, Rate, TimeLoop
from hsnn_compiler.passes.base import Pass, PassContext, PassResult
from hsnn_compiler.passes.batchnorm import with_weights
from hsnn_compiler.passes.pipeline import DEFAULT_PIPELINE
from hsnn_compiler.registry import PASSES, load_pass

QUARTERS = np.random.default_rng(0).integers(0, 3, (40, 4)).astype(np.float32) / 4


@dataclass(frozen=True)
class Rescales(Pass):
    """Multiplies the weights, the threshold and v_0 of one population by the same factors: exact up to rounding."""

    unit: float = 0.1
    threshold: float = 0.1

    name: ClassVar[str] = "rescales"

    def run(self, graph, context: PassContext) -> PassResult:
        graph = graph.copy()
        op, node = graph["_2"].op, graph["_3"]
        weight, bias = np.asarray(op.weight, np.float64) * self.unit, np.asarray(op.bias, np.float64) * self.unit
        graph.update("_2", op=with_weights(op, weight, bias))
        fields = {"r": node.op.r, "v_threshold": node.op.v_threshold * self.threshold, "v_reset": node.op.v_reset}
        start = Dynamics(**{**vars(node.dynamics), "v_init": node.dynamics.v_init * self.unit})
        graph.update("_3", op=type(node.op)(**fields), dynamics=start)
        return PassResult(graph, True)


def quartered():
    """Weights that are multiples of 1/4: potentials often lie at the threshold of 1."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(4, 12), torch.nn.ReLU(), torch.nn.Linear(12, 10), torch.nn.ReLU(), torch.nn.Linear(10, 3)]
    model = torch.nn.Sequential(*layers).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter * 4).round() / 4)
    return model


def verified(monkeypatch, options):
    monkeypatch.setitem(PASSES, "rescales", "unused")
    monkeypatch.setattr(
        "hsnn_compiler.passes.pipeline.load_pass", lambda name: Rescales if name == "rescales" else load_pass(name)
    )
    layers = {name: {"threshold": "1"} for name in ("_1", "_3")}
    pipeline = DEFAULT_PIPELINE.replace("calibrate-thresholds", "calibrate-thresholds{correct=none}")
    pipeline = pipeline.replace("fold-scales", f"fold-scales,rescales{options}")
    model = quartered()
    program = hc.compile(model, calibration=QUARTERS, timesteps=8, layers=layers, pipeline=pipeline)
    return program.verify(model, QUARTERS, calibration=QUARTERS)


def test_ties_are_counted_and_not_blamed(monkeypatch):
    made = verified(monkeypatch, "")
    stage = next(outcome for outcome in made.outcomes if outcome.name == "rescales")
    assert made.ok
    assert stage.departure is None
    assert stage.ties > 0


def test_a_threshold_off_by_a_thousandth_is_no_tie(monkeypatch):
    made = verified(monkeypatch, "{threshold=0.0998}")
    assert not made.ok
    assert "rescales" in made.findings[0].message


class OneStep(torch.nn.Module):
    """Makes tensors in single precision, so that it does not run in double."""

    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(4, 6)
        self.out = torch.nn.Linear(6, 3)

    def forward(self, x):
        return self.out(torch.relu(self.fc(x.float())))


def test_a_source_in_single_precision_is_compared_all_the_same():
    model = OneStep().eval()
    program = hc.compile(model, calibration=QUARTERS, timesteps=8)
    made = program.verify(model, QUARTERS, calibration=QUARTERS)
    assert made.ok
    assert made.outcomes[1].output.error < 1e-6


def test_a_captured_graph_can_stand_for_the_source():
    model = quartered()
    program = hc.compile(model, calibration=QUARTERS, timesteps=8)
    graph, _ = capture_model(model, QUARTERS, "model")
    assert program.verify(graph, QUARTERS, calibration=QUARTERS).ok


def test_another_model_than_the_graph_came_from_departs_at_once():
    """The same layers with other weights: what compiling again gives is not the program."""
    program = hc.compile(quartered(), calibration=QUARTERS, timesteps=8)
    other = quartered()
    with torch.no_grad():
        other[2].weight[0, 0] += 1
    made = program.verify(other, QUARTERS, calibration=QUARTERS)
    assert [finding.code for finding in made.findings] == ["E0602", "E0601"]
    assert made.findings[0].node == "_2"


def test_a_single_output_has_an_error_and_no_classes():
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(4, 20), torch.nn.ReLU(), torch.nn.Linear(20, 1)).eval()
    program = hc.compile(model, calibration=QUARTERS, timesteps=32)
    made = program.verify(model, QUARTERS, calibration=QUARTERS, bisect=True, allowed_drop=20)
    assert made.outcomes[-1].agreement is None
    assert made.outcomes[-1].output.error < 0.2
    assert made.bisection is None


def test_a_model_of_one_step_per_call_is_called_once_per_step():
    snn = pytest.importorskip("snntorch")
    torch.manual_seed(0)
    neuron = {"beta": 0.9, "init_hidden": True}
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 20), snn.Leaky(**neuron), torch.nn.Linear(20, 4), snn.Leaky(**neuron)
    ).eval()
    program = hc.compile(model, calibration=QUARTERS, timesteps=8)
    made = program.verify(model, QUARTERS, calibration=QUARTERS)
    assert made.ok
    assert made.outcomes[1].output.error == 0
    assert made.outcomes[-1].spikes > 0


def test_without_data_noise_is_made_up_again():
    model = TimeLoop(Direct(8), torch.nn.Sequential(torch.nn.Linear(4, 8), LIF(beta=0.9)), Rate()).eval()
    program = hc.compile(model, example=QUARTERS[:1])
    made = program.verify(model, QUARTERS)
    assert made.ok
    assert not made.findings


def test_labels_that_do_not_fit_are_refused():
    model = quartered()
    program = hc.compile(model, calibration=QUARTERS, timesteps=8)
    with pytest.raises(HsnnError, match="E0315"):
        program.verify(model, QUARTERS, np.zeros(3, np.int64), calibration=QUARTERS)
