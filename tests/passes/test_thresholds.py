"""Thresholds from data: histograms against numpy, least squares against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from picks import Picks, picks
from value_graphs import Net, run_passes

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Graph
from hsnn_compiler.ir.ops import ReLU
from hsnn_compiler.passes.activations import analog_twin
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.calibration.histograms import BINS, ChannelHistogram, collect
from hsnn_compiler.passes.calibration.methods import Settings, balanced, least_squares
from hsnn_compiler.passes.calibration.thresholds import firing_fraction
from hsnn_compiler.reference.float_executor import FloatExecutor

CONVERT = "partition,convert-activations,"


def filled(samples: np.ndarray, parts: int = 1) -> ChannelHistogram:
    top = np.maximum(samples.reshape(len(samples), samples.shape[1], -1).max((0, 2)), 0)
    histogram = ChannelHistogram(top, np.zeros((samples.shape[1], BINS), np.int64), reach=top)
    for part in np.array_split(samples, parts):
        histogram.add(part)
    return histogram


@settings(max_examples=40)
@given(picks())
def test_percentiles_are_those_of_the_positive_activations(p: Picks) -> None:
    rng = p.rng()
    samples = rng.normal(size=(p.integer(5, 40), 3, 4, 4)) * rng.uniform(0.1, 100, (1, 3, 1, 1))
    percent = p.choice([99.9, 50.0, 90.0, 100.0, 1.0])
    histogram = filled(samples, p.integer(1, 4))
    assert (histogram.counts == filled(samples).counts).all()
    got = histogram.percentile(percent)
    for channel in range(3):
        values = samples[:, channel][samples[:, channel] > 0]
        assert histogram.counts[channel].sum() == len(values)
        wanted = np.percentile(values, percent, method="inverted_cdf")
        assert abs(got[channel] - wanted) <= histogram.maximum[channel] / BINS * 1.001
    merged = histogram.merged()
    values = samples[samples > 0]
    assert merged.counts.sum() == len(values)
    wanted = np.percentile(values, percent, method="inverted_cdf")
    assert abs(merged.percentile(percent)[0] - wanted) <= 2 * values.max() / BINS


@settings(max_examples=20)
@given(picks())
def test_least_squares_finds_the_best_threshold_of_the_grid(p: Picks) -> None:
    steps = p.choice([4, 16, 1])
    samples = p.rng().exponential(size=(200, 2)) ** p.choice([1, 2])
    theta = least_squares(filled(samples), Settings(steps))
    for channel in range(2):
        x = samples[:, channel]

        def error(t: float, x: np.ndarray = x) -> float:
            return float(((x - np.clip(np.floor(x * steps / t + 0.5), 0, steps) * t / steps) ** 2).sum())

        best = min(error(x.max() * (1 - i / 100)) for i in range(95))
        assert error(theta[channel]) <= best * 1.02 + 1e-6  # bins are a little coarser than the data


@settings(max_examples=20)
@given(picks())
def test_balanced_thresholds_are_where_iteration_settles(p: Picks) -> None:
    samples = p.rng().normal(size=(300, 2)) * p.choice([0.1, 3.0])
    levels, given = p.choice([(1, 0.0), (7, 0.0), (7, 0.05)])
    theta = balanced(filled(samples), Settings(levels, tolerance=given))
    tolerance = given or 0.04 / (levels + 1)
    for channel in range(2):
        x, t = samples[:, channel], 0.0
        while (step := 2 * np.maximum(x - t, 0).mean()) > tolerance * t:
            t += step * 0.01  # the published rule with all data as one batch, in steps too small to jump over its end
        assert abs(theta[channel] - t) <= 0.02 * x.max()


def network() -> Graph:
    net = Net((2, 5, 5), seed=3).conv("c0", 3, padding=1).add("r0", ReLU()).conv("c1", 4).add("r1", ReLU())
    return net.flatten().linear("fc", 3).done()


def data(graph: Graph) -> np.ndarray:
    return np.random.default_rng(4).normal(size=(50, *graph["x"].shape)).astype(np.float32)


def test_the_firing_fraction_is_the_best_of_its_candidates() -> None:
    samples = np.abs(np.random.default_rng(3).normal(size=(50, 4, 6)))
    samples[:, 3] = 0
    histogram, theta, steps = filled(samples), np.array([0.5, 1.0, 2.0, 1.0]), 16
    fraction = firing_fraction(histogram, theta, steps)

    def error(channel: int, alpha: float) -> float:
        total = 0.0
        for x, weight in zip(histogram.values()[channel], histogram.counts[channel], strict=True):
            v = spikes = 0.0
            for _ in range(steps):  # the neuron itself, with reset to zero
                v += x
                if v > alpha * theta[channel]:
                    v, spikes = 0.0, spikes + 1
            total += weight * (x - theta[channel] * spikes / steps) ** 2
        return total

    for channel in range(3):
        errors = {round(alpha, 2): error(channel, alpha) for alpha in np.arange(1.0, 0.45, -0.05)}
        assert errors[round(fraction[channel], 2)] <= min(errors.values()) * 1.01
    assert fraction[3] == 1


def calibrated(options: str = "", **context: object) -> Graph:
    graph = network()
    return run_passes(graph, CONVERT + f"calibrate-thresholds{options}", calibration=data(graph), **context)[
        -1
    ].result.graph


def activations(name: str) -> np.ndarray:
    graph = network()
    return FloatExecutor(graph).run(data(graph), [(name, "s")]).trace[name, "s"]


@pytest.mark.parametrize("batch_size", [7, 128])
def test_max_and_percentile_thresholds(batch_size: int) -> None:
    maxima = calibrated("{method=max,correct=none,mixtures=false}", batch_size=batch_size)
    by_percentile = calibrated("{method=percentile,percentile=95,correct=none,mixtures=false}", batch_size=batch_size)
    for name in ("r0", "r1"):
        act = activations(name)
        np.testing.assert_allclose(maxima[name].op.v_threshold.ravel(), act.max((0, 2, 3)), rtol=1e-6)
        for channel, theta in enumerate(by_percentile[name].op.v_threshold.ravel()):
            values = act[:, channel][act[:, channel] > 0]
            assert abs(theta - np.percentile(values, 95)) < 0.02 * values.max()
        for graph in (maxima, by_percentile):  # what the neuron counts in is what its scale gives back
            np.testing.assert_array_equal(graph[name].op.v_threshold, graph[f"{name}.scale"].op.scale)
            np.testing.assert_allclose(graph[name].dynamics.v_init, graph[name].op.v_threshold / 2)


def test_per_layer_and_fixed_thresholds() -> None:
    whole = calibrated("{method=max,correct=none,per-channel=false,mixtures=false}")
    assert len(set(whole["r0"].op.v_threshold.flat)) == 1
    np.testing.assert_allclose(whole["r0"].op.v_threshold.flat[0], activations("r0").max(), rtol=1e-6)
    fixed = calibrated("{correct=none,mixtures=false}", layers={"r1": {"threshold": "2.5"}, "r0": {"method": "max"}})
    assert set(fixed["r1"].op.v_threshold.flat) == {2.5}
    np.testing.assert_allclose(fixed["r0"].op.v_threshold.ravel(), activations("r0").max((0, 2, 3)), rtol=1e-6)


def test_the_analog_twin_is_the_network_before_conversion() -> None:
    graph = network()
    converted = run_passes(graph, CONVERT.rstrip(","))[-1].result.graph
    x = data(graph)
    np.testing.assert_allclose(FloatExecutor(analog_twin(converted)).run(x).output, FloatExecutor(graph).run(x).output)


def test_a_converted_neuron_rounds_its_activation() -> None:
    """theta/T clip(floor(x T / theta + 1/2), 0, T), for a constant current: what the docstring says."""
    graph = Net((40,)).add("relu", ReLU()).done()
    steps = 8
    x = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
    stages = run_passes(
        graph,
        CONVERT + "calibrate-thresholds{method=percentile,percentile=80,correct=none}",
        calibration=x,
        timesteps=steps,
    )
    after = stages[-1].result.graph
    theta = after["relu"].op.v_threshold.ravel()
    wanted = theta / steps * np.clip(np.floor(x * steps / theta + 0.5), 0, steps)
    np.testing.assert_allclose(FloatExecutor(after).run(x).output, wanted, atol=1e-4)


def test_silent_layers_are_told() -> None:
    graph = network()
    stage = run_passes(graph, CONVERT + "calibrate-thresholds", calibration=0 * data(graph) - 0)[-1]
    silent = {finding.node for finding in stage.result.findings if finding.code == "W0441"}
    act = FloatExecutor(graph).run(0 * data(graph), [("r0", "s"), ("r1", "s")]).trace
    assert silent == {name for name, _ in act if not (act[name, "s"] > 0).any()}


def test_histograms_do_not_depend_on_the_batch_size() -> None:
    graph = network()
    found = [collect(graph, ["r0"], PassContext(calibration=data(graph), batch_size=size))["r0"] for size in (3, 50)]
    np.testing.assert_allclose(found[0].maximum, found[1].maximum, rtol=1e-6)
    assert abs(found[0].counts - found[1].counts).sum() <= 4  # a value on the border of two bins, at most


@pytest.mark.parametrize("options", ["{method=magic}", "{method=max,percentile=x}", "{speed=1}"])
def test_wrong_options(options: str) -> None:
    with pytest.raises(HsnnError) as error:
        calibrated(options)
    assert error.value.findings[0].code == "E0212"
