"""The waterfall: on a network that is as it should be, and on ones broken on purpose, it names what was broken."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

import hsnn_compiler as hc
from hsnn_compiler.data import load_arrays
from hsnn_compiler.loading import load_model
from hsnn_compiler.passes.base import Pass, PassContext, PassResult
from hsnn_compiler.passes.batchnorm import with_weights
from hsnn_compiler.passes.pipeline import DEFAULT_PIPELINE
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.registry import PASSES, load_pass
from hsnn_compiler.report.waterfall_plot import draw

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
CALIB = load_arrays(DIGITS / "digits_calib.npz").x[:128]
TEST = load_arrays(DIGITS / "digits_test.npz")
X, Y = TEST.x[:64], TEST.y[:64]


def model():
    return load_model(DIGITS / "digits_cnn.pt").module


def compiled(module, **options):
    return hc.compile(module, calibration=CALIB, timesteps=8, name="digits", **options)


@pytest.fixture(scope="module")
def sound():
    module = model()
    program = compiled(module)
    return program, module, program.verify(module, X, Y, calibration=CALIB, alone=True, bisect=True)


def test_a_sound_network_is_verified(sound):
    _, _, made = sound
    assert made.ok
    assert not made.findings
    assert not made.causes
    assert made.bisection is None
    names = [outcome.name for outcome in made.outcomes]
    assert names[:3] == ["source", "captured", "fold-batchnorm"]
    assert names[-4:] == ["quantise: weights", "quantise: state", "schedule", "program"]
    assert made.outcomes[0].accuracy >= 0.98
    assert made.outcomes[-1].agreement >= 0.98


def test_rates_follow_the_activations_of_the_source(sound):
    _, _, made = sound
    assert made.layers == ["relu1", "relu2", "relu3", "relu4"]
    for layer in made.outcomes[-1].layers.values():
        assert layer.correlation > 0.95
        assert 0.05 < layer.rate < 0.3
        assert layer.rounding <= layer.error + 1e-3 < 0.35
        assert layer.saturated == 0


def test_the_numbers_are_those_of_simulate(sound):
    program, module, made = sound
    result = program.simulate(X, record=["relu3"])
    last = made.outcomes[-1]
    assert last.accuracy == result.accuracy(Y)
    assert last.spikes == sum(count for name, count in result.spikes.items() if name.startswith("relu"))
    assert last.layers["relu3"].rate == pytest.approx(result.trace["relu3", "s"].mean())
    with torch.no_grad():
        assert made.outcomes[0].accuracy == float((module(torch.from_numpy(X)).argmax(1).numpy() == Y).mean())


def test_single_changes_cost_less_than_all_of_them(sound):
    _, _, made = sound
    whole = {outcome.name: outcome.output.error for outcome in made.outcomes}
    alone = {(a.stage, a.layer): a.error for a in made.alone}
    assert set(alone) >= {("calibrate-thresholds", f"relu{i}") for i in range(1, 5)}
    assert set(alone) >= {("quantise: weights", name) for name in ("", "relu2", "relu3", "relu4", "fc1.readout")}
    assert all(error < 1.05 * whole["calibrate-thresholds"] for error in alone.values())
    assert alone["quantise: weights", ""] < 0.03 < whole["quantise: weights"]


def test_it_prints_as_text_html_json_and_picture(sound):
    _, _, made = sound
    assert "calibrate-thresholds" in repr(made)
    assert repr(made).endswith("verified")
    assert "<table>" in made._repr_html_()
    assert json.loads(json.dumps(made.to_dict()))["ok"] is True
    assert draw(made).count("<rect") == len(made.outcomes) + 4


def test_a_channel_with_a_huge_batch_norm_scale_is_named():
    module = model()
    with torch.no_grad():
        module.bn2.weight[5] *= 100
    made = compiled(module).verify(module, X, Y, calibration=CALIB)
    assert made.ok  # quantisation is bounded, not exact
    cause = made.causes[0]
    assert (cause.layer, cause.kind) == ("conv3", "dominating channel")
    for said in ("input channel 5", "relu2", "batch norm bn2", "levels"):
        assert said in cause.what


def test_a_layer_with_too_few_bits_is_named_and_the_way_out_is_measured():
    module = model()
    made = compiled(module, layers={"conv3": {"bits": "2"}}).verify(module, X, Y, calibration=CALIB, bisect=True)
    cause, found = made.causes[0], made.bisection
    assert (cause.layer, cause.kind, len(made.causes)) == ("conv3", "coarse weights", 1)
    assert (found.stage, found.layer) == ("quantise: weights", "relu3")
    assert found.lost > 10
    assert found.step is not None
    best = found.tried[0]
    assert best.text == "--layer conv3:bits=8"
    assert best.points == pytest.approx(found.lost, abs=3)


def test_a_threshold_three_times_too_high_is_named(sound):
    _, module, good = sound
    top = float(good.outcomes[-1].layers["relu3"].peak.max())
    program = compiled(module, layers={"relu3": {"threshold": f"{3 * top:.3f}"}})
    made = program.verify(module, X, Y, calibration=CALIB, bisect=True)
    cause = made.causes[0]
    assert (cause.layer, cause.kind, cause.stage) == ("relu3", "threshold too high", "calibrate-thresholds")
    assert float(cause.what.split("threshold is ")[1].split()[0]) >= 3
    assert made.bisection.layer == "relu3"
    assert made.bisection.stage == "calibrate-thresholds"
    before, after = made.bisection.tried[0].errors
    assert after < before - 0.02


def test_a_threshold_that_is_too_low_is_named():
    module = model()
    made = compiled(module, layers={"relu4": {"threshold": "0.3"}}).verify(module, X, calibration=CALIB)
    assert (made.causes[0].layer, made.causes[0].kind) == ("relu4", "threshold too low")
    assert made.outcomes[-1].accuracy is None


def test_reset_to_zero_and_few_steps_are_named():
    module = model()
    program = hc.compile(module, calibration=CALIB, timesteps=2, reset="zero")
    kinds = {cause.kind for cause in program.verify(module, X, calibration=CALIB).causes}
    assert kinds >= {"too few steps", "reset to zero"}


def test_inputs_beyond_calibration_are_named():
    module = model()
    made = compiled(module).verify(module, 4 * X, calibration=CALIB)
    cause = next(cause for cause in made.causes if cause.kind == "input clipped")
    assert cause.layer == "conv1.encode"
    assert made.outcomes[-1].saturated["conv1.encode"] > 0


def test_states_that_saturate_are_named():
    """Strong inhibition over many steps drives potentials to the limit of 24 bits."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(20, 400), torch.nn.ReLU(), torch.nn.Linear(400, 5), torch.nn.ReLU()]
    module = torch.nn.Sequential(*layers, torch.nn.Linear(5, 2)).eval()
    with torch.no_grad():
        module[2].weight[1:] = -abs(module[2].weight[1:])
    x = torch.rand(64, 20).numpy()
    program = hc.compile(module, calibration=x, timesteps=256)
    made = program.verify(module, x, calibration=x)
    cause = next(cause for cause in made.causes if cause.kind == "state saturates")
    assert cause.layer == "_3"
    assert made.outcomes[-1].layers["_3"].saturated == program.simulate(x).saturated["_3"] > 0


# -- what fails --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lies(Pass):
    """Says it is exact, and scales one weight."""

    name: ClassVar[str] = "lies"

    def run(self, graph, context: PassContext) -> PassResult:
        graph = graph.copy()
        op = graph["conv2"].op
        weight = np.array(op.weight, np.float64)
        weight[3, 2, 1, 1] *= 1.5
        graph.update("conv2", op=with_weights(op, weight, op.bias))
        return PassResult(graph, True)


@dataclass(frozen=True)
class Nudges(Pass):
    """Says it is exact, and changes the threshold of one neuron."""

    name: ClassVar[str] = "nudges"

    def run(self, graph, context: PassContext) -> PassResult:
        graph = graph.copy()
        node = graph["relu2"]
        threshold = np.broadcast_to(node.op.v_threshold, node.shape).copy()
        threshold[7, 2, 3] *= 1.2
        op = type(node.op)(r=np.ones_like(threshold), v_threshold=threshold, v_reset=np.zeros_like(threshold))
        graph.update("relu2", op=op)
        return PassResult(graph, True)


def registered(monkeypatch, cls, after):
    """A pipeline with one more pass in it."""
    monkeypatch.setitem(PASSES, cls.name, "unused")
    monkeypatch.setattr(
        "hsnn_compiler.passes.pipeline.load_pass",
        lambda name: cls if name == cls.name else load_pass(name),
    )
    return DEFAULT_PIPELINE.replace(after, f"{after},{cls.name}")


@pytest.mark.parametrize("after", ["fold-batchnorm", "fold-scales"])
def test_a_pass_that_lies_is_caught(monkeypatch, after):
    module = model()
    program = compiled(module, pipeline=registered(monkeypatch, Lies, after))
    made = program.verify(module, X, calibration=CALIB)
    assert not made.ok
    assert [(finding.code, finding.node) for finding in made.findings] == [("E0601", "relu2")]
    departure = next(outcome.departure for outcome in made.outcomes if outcome.departure)
    assert departure.stage == "lies"
    assert departure.neuron[0] == 3
    assert (departure.step is None) == (after == "fold-batchnorm")


def test_bisect_names_stage_layer_neuron_and_step(monkeypatch):
    """The threshold of one neuron: the step is the first at which its spikes differ."""
    module = model()
    pipeline = registered(monkeypatch, Nudges, "calibrate-thresholds").split(",lower-connections")[0]
    program = compiled(module, pipeline=pipeline)
    found = program.verify(module, X, calibration=CALIB, bisect=True).bisection
    assert (found.stage, found.layer, found.neuron) == ("nudges", "relu2", (7, 2, 3))
    plain = compiled(module, pipeline=pipeline.replace(",nudges", ""))
    sample = X[found.sample : found.sample + 1]
    traces = [FloatExecutor(p.graph).run(sample, [("relu2", "s")]).trace for p in (plain, program)]
    spikes = [trace["relu2", "s"][0, :, 7, 2, 3] for trace in traces]
    assert found.step == int(np.flatnonzero(spikes[0] != spikes[1])[0])


def test_a_bundle_that_was_changed_is_named(sound):
    program, module, _ = sound
    graph = program.graph.copy()
    quant = graph["relu3"].quant
    graph.update("relu3", quant=type(quant)(**{**vars(quant), "vth": quant.vth * 2}))
    changed = type(program)(**{**vars(program), "graph": graph})
    made = changed.verify(module, X, calibration=CALIB, bisect=True)
    assert [finding.code for finding in made.findings] == ["E0602", "E0601"]
    assert made.findings[0].node == "relu3"
    assert "vth" in made.findings[0].message
    assert (made.bisection.stage, made.bisection.layer) == ("program", "relu3")


def test_without_its_calibration_data_the_bundles_own_graphs_are_replayed(sound):
    program, module, _ = sound
    for calibration in (None, CALIB[:100]):
        made = program.verify(module, X, Y, calibration=calibration)
        assert made.ok
        assert [finding.code for finding in made.findings] == ["W0605"]
        names = [outcome.name for outcome in made.outcomes]
        assert names == ["source", "captured", "before quantisation", "quantised: weights", "quantised: state"]


def test_a_spiking_model_loses_nothing_before_quantisation():
    module = load_model(DIGITS / "digits_direct.pt").module
    program = hc.compile(module, calibration=CALIB, name="direct")
    made = program.verify(module, X, Y, calibration=CALIB, alone=True)
    assert made.ok
    before = next(o for o in made.outcomes if o.name == "map-direct-coding")
    assert before.agreement == 1
    assert before.output.error == 0
    assert {a.layer for a in made.alone} == {"", "lif2", "lif3", "lif_out"}
    assert made.outcomes[-1].layers["lif2"].rounding is None  # it was no activation


class Residual(torch.nn.Module):
    """The skipping connection has weights far larger than those of the convolution beside it."""

    def __init__(self):
        super().__init__()
        self.a, self.b = (torch.nn.Conv2d(n, 8, 3, padding=1) for n in (1, 8))
        self.fc = torch.nn.Linear(512, 4)

    def forward(self, x):
        a = torch.relu(self.a(x))
        return self.fc(torch.relu(self.b(a) + a).flatten(1))


def test_weights_that_share_a_scale_with_larger_ones_are_named():
    torch.manual_seed(0)
    module = Residual().eval()
    with torch.no_grad():
        module.b.weight *= 0.1
    made = compiled(module).verify(module, X, calibration=CALIB)
    assert made.ok
    cause = made.causes[0]
    assert (cause.layer, cause.kind) == ("b", "shared scale")
    assert "share the scale of relu_2" in cause.what
