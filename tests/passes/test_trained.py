"""Quantised activations: first spikes compute them exactly, and no calibration touches what was trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from picks import Picks, picks
from value_graphs import Net, outputs, run_passes

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Graph
from hsnn_compiler.ir.ops import Add, MaxPool2d, Quantised, ReLU
from hsnn_compiler.passes.activations import SCALE_SUFFIX, converted_neurons
from hsnn_compiler.passes.layer_options import check_layer_options
from hsnn_compiler.passes.pipeline import DEFAULT_PIPELINE
from hsnn_compiler.reference.float_executor import FloatExecutor

REAL = DEFAULT_PIPELINE.partition(",quantise")[0]
CALIBRATED = REAL.partition(",calibrate-thresholds")[0] + ",calibrate-thresholds"


def network(p: Picks, levels: int) -> tuple[Graph, np.ndarray]:
    """Convolutions, pooling and residual blocks between quantised activations, thresholds per channel or not."""
    net = Net((2, 6, 6), seed=p.integer(0, 99))

    def activation(channels: int) -> Quantised:
        size = p.choice([1, channels])
        return Quantised(net.rng.uniform(0.4, 1.5, (size, 1, 1)).astype(np.float32), levels)

    net.conv("c0", 4, padding=1).add("r0", activation(4))
    block = p.choice(["plain", "average", "largest", "residual", "twice"])
    if block == "average":
        net.pool("pool", 2)
    elif block == "largest":
        net.add("pool", MaxPool2d((3, 3), (2, 2), (1, 1)))
    elif block == "residual":
        net.conv("a", 4, padding=1).add("ra", activation(4)).conv("b", 4, padding=1)
        net.add("add", Add(), "b", "r0").add("rb", activation(4))
    elif block == "twice":
        net.conv("a", 4, padding=1).add("ra", activation(4)).add("add", Add(), "ra", "r0")
        net.conv("b", 3).add("rb", activation(3))
    if p.flag():
        net.flatten().linear("fc", 3)
    else:
        net.conv("last", 3, 1).add("rl", activation(3)).pool("out", 2)
    return net.done(), net.rng.normal(size=(8, 2, 6, 6)).astype(np.float32)


@settings(max_examples=15)
@given(picks())
def test_first_spikes_are_the_network_itself(p: Picks) -> None:
    levels = p.choice([1, 3, 4, 8])
    graph, x = network(p, levels)
    wanted = outputs(graph, x)
    for stage in run_passes(graph, REAL, calibration=x, coding="ttfs"):
        assert not stage.result.findings
        np.testing.assert_allclose(outputs(stage.result.graph, x), wanted, rtol=0, atol=1e-9, err_msg=stage.item.name)
        if stage.item.name == "calibrate-thresholds":
            assert not stage.result.modified
    assert stage.result.graph.timesteps == levels


@pytest.mark.parametrize(("max_spikes", "timesteps"), [(1, 6), (2, 3), (3, 2)])
def test_rates_of_a_constant_current_are_exact(max_spikes: int, timesteps: int) -> None:
    graph = Net((3, 5, 5)).add("act", Quantised(np.array([[[0.5]], [[1.0]], [[0.7]]], np.float32), 6)).done()
    x = np.random.default_rng(0).normal(size=(9, 3, 5, 5)).astype(np.float32)
    after = run_passes(graph, CALIBRATED, calibration=x, max_spikes=max_spikes)[-1].result.graph
    assert after.timesteps == timesteps
    np.testing.assert_allclose(outputs(after, x), outputs(graph, x), atol=1e-12)


def test_rates_behind_rates_are_near() -> None:
    """Spikes that come unevenly cost something from the second layer on; the first one stays exact."""
    net = Net((2, 6, 6)).conv("c0", 6).add("q0", Quantised(np.full((1, 1, 1), 0.8, np.float32), 8))
    graph = (
        net.conv("c1", 6).add("q1", Quantised(np.full((1, 1, 1), 0.8, np.float32), 8)).flatten().linear("f", 4).done()
    )
    x = net.rng.normal(size=(50, 2, 6, 6)).astype(np.float32)
    after = run_passes(graph, CALIBRATED + "{correct=none}", calibration=x)[-1].result.graph
    got = FloatExecutor(after, torch.float64).run(x, [("q0.scale", "s"), ("q1.scale", "s")]).trace
    want = FloatExecutor(graph, torch.float64).run(x, [("q0", "s"), ("q1", "s")]).trace
    np.testing.assert_allclose(got["q0.scale", "s"].mean(1), want["q0", "s"], atol=1e-12)
    off = got["q1.scale", "s"].mean(1) - want["q1", "s"]
    assert 0 < (off**2).mean() / want["q1", "s"].var() < 0.1
    assert abs(off).max() / 0.1 == pytest.approx(round(abs(off).max() / 0.1), abs=1e-6)  # whole levels


def mixed(levels: tuple[int, int] = (4, 4)) -> tuple[Graph, np.ndarray]:
    net = Net((2, 5, 5), seed=3).conv("c0", 3).add("q0", Quantised(np.full((1, 1, 1), 0.5, np.float32), levels[0]))
    net.conv("c1", 3).add("r1", ReLU()).flatten().linear("f", 4)
    graph = net.add("q1", Quantised(np.array([0.5, 1, 2, 1 / 3], np.float32), levels[1])).linear("fc", 3).done()
    return graph, net.rng.normal(size=(50, 2, 5, 5)).astype(np.float32)


@pytest.mark.parametrize("options", ["", "{method=max}", "{correct=none}", "{correct=weights,per-channel=false}"])
@pytest.mark.parametrize("context", [{}, {"coding": "ttfs"}, {"max_spikes": 2}])
def test_thresholds_stay_as_they_were_trained(options: str, context: dict[str, object]) -> None:
    graph, x = mixed()
    stage = run_passes(graph, CALIBRATED + options, calibration=x, **context)[-1]
    spikes = context.get("max_spikes", 1)
    after = stage.result.graph
    assert after.timesteps == 4 // spikes
    for name, theta in (("q0", [0.5] * 3), ("q1", np.array([0.5, 1, 2, 1 / 3], np.float32))):
        neuron = after[name]
        threshold = neuron.op.v_threshold if neuron.is_neuron else neuron.op.threshold
        np.testing.assert_array_equal(threshold.ravel(), np.asarray(theta, np.float64) / spikes)
        np.testing.assert_array_equal(after[name + SCALE_SUFFIX].op.scale.ravel(), threshold.ravel())
    assert len(converted_neurons(after)) == 3
    assert "3 layers, 2 of them with trained thresholds" in stage.result.notes[0]


def test_reset_to_zero_counts_in_trained_thresholds() -> None:
    graph, x = mixed()
    after = run_passes(graph, CALIBRATED, calibration=x, reset="zero")[-1].result.graph
    np.testing.assert_allclose(after["q1.scale"].op.scale, [0.5, 1, 2, 1 / 3], rtol=1e-6)
    assert np.all(after["q1"].op.v_threshold <= after["q1.scale"].op.scale)


def test_thresholds_by_hand() -> None:
    graph, x = mixed()
    layers = {"q0": {"threshold": "0.25"}, "q1": {"method": "max"}}
    after = run_passes(graph, CALIBRATED + "{correct=none,mixtures=false}", calibration=x, layers=layers)[
        -1
    ].result.graph
    assert set(after["q0"].op.v_threshold.flat) == {0.25}
    largest = FloatExecutor(graph).run(x, [("q1", "s")]).trace["q1", "s"].max(0)
    np.testing.assert_allclose(after["q1"].op.v_threshold[largest > 0], largest[largest > 0], rtol=1e-6)
    assert check_layer_options(graph, layers, {"threshold", "method"}) == []
    (finding,) = check_layer_options(graph, {"q1": {"threshold": "0.4"}}, {"threshold"})
    assert finding.supported == "at most 0.333333, where the activation is clipped"


def test_steps_that_are_not_the_levels_are_told() -> None:
    graph, x = mixed((4, 8))
    stages = run_passes(graph, CALIBRATED + "{correct=none}", calibration=x, coding="ttfs")
    converted = next(stage.result for stage in stages if stage.item.name == "convert-activations")
    assert converted.graph.timesteps == 16
    (finding,) = converted.findings
    assert finding.code == "W0440"
    assert finding.message == "activations trained with 4, 8 levels are compiled for 16, one per step: q0, q1"
    told = run_passes(graph, CALIBRATED + "{correct=none}", calibration=x, coding="ttfs", timesteps=8)
    assert [f.message for stage in told for f in stage.result.findings] == [
        "activations trained with 4 levels are compiled for 8, one per step: q0"
    ]


def test_max_pooling_takes_the_activation_for_its_comparisons() -> None:
    net = Net((3, 4, 4)).add("act", Quantised(np.array([[[0.5]], [[1.0]], [[2.0]]], np.float32), 4))
    graph = net.add("pool", MaxPool2d((2, 2), (2, 2))).done()
    x = net.rng.normal(size=(20, 3, 4, 4)).astype(np.float32)
    lowered = run_passes(graph, "lower-max-pooling")[-1].result.graph
    assert [node.kind for node in lowered.of_kind("ReLU", "Quantised")] == ["Quantised"] * 4
    np.testing.assert_allclose(outputs(lowered, x), outputs(graph, x), atol=1e-12)


def test_wrong_activations_are_not_legal() -> None:
    for op in (Quantised(np.zeros(3), 4), Quantised(np.ones(3), 0), Quantised(np.ones(3), 4, "down")):
        with pytest.raises(AssertionError):
            Net((3,)).add("act", op).done()
    with pytest.raises((HsnnError, ValueError)):
        Net((3,)).add("act", Quantised(np.ones(2), 4)).done()


def test_the_executor_computes_the_equation() -> None:
    top, x = np.array([0.7, 1.3], np.float32), np.random.default_rng(0).normal(size=(500, 2))
    for levels in (1, 5):
        graph = Net((2,)).add("act", Quantised(top, levels)).done()
        wanted = top * np.clip(np.floor(x * levels / top.astype(float) + 0.5), 0, levels) / levels
        np.testing.assert_allclose(FloatExecutor(graph, torch.float64).run(x).output, wanted, atol=1e-12)
