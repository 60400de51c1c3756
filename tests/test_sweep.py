"""Sweeps: every point is what compiling and running by hand gives; refusals are rows."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.driver import capture_model, lower
from hsnn_compiler.options import Options
from hsnn_compiler.report.sweep_table import differing, sweep_table, to_csv
from hsnn_compiler.sweep import Point, combinations, mean, sweep, trial
from hsnn_compiler.targets import load_target


@pytest.fixture(scope="module")
def swept():
    """A small network, random labels: what is compared does not depend on what it has learnt."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.AvgPool2d(2),
        torch.nn.Conv2d(4, 6, 3, stride=2, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(24, 3),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    calib, x, y = rng.random((32, 1, 8, 8), np.float32), rng.random((40, 1, 8, 8), np.float32), rng.integers(0, 3, 40)
    graph, _ = capture_model(model, calib, "small")
    options = combinations(Options(), max_spikes=(1, 2), reset=("subtract", "zero"), timesteps=(1, 2))
    known = trial(graph, x, y)
    told = []
    points = sweep(graph, options, calib, known, lambda *done: told.append(done))
    return model, graph, calib, known, options, points, told


def test_points_are_what_compiling_and_running_gives(swept):
    model, graph, calib, known, options, points, _ = swept
    with torch.no_grad():
        predicted = model(torch.from_numpy(known.x)).argmax(1).numpy()
    assert known.source == (predicted == known.expected).mean()
    checked = 0
    for point, each in zip(points, options, strict=True):
        assert (point.max_spikes, point.reset) == (each.max_spikes, each.reset)
        if point.refused:
            continue
        program = lower(graph, each, calib)
        result, costs = program.count(known.x)
        assert point.timesteps == program.timesteps == each.timesteps
        assert point.score == result.accuracy(known.expected)
        assert point.before_quantisation == program.simulate(known.x, "float").accuracy(known.expected)
        assert point.costs == costs
        assert point.energy == costs.energy(load_target("loihi2"))
        assert point.latency == each.timesteps + 2  # depth of the read-out
        checked += 1
    assert checked >= 3


def test_what_the_compiler_refuses_is_a_row_that_says_so(swept):
    _, _, _, known, options, points, _ = swept
    refused = [point for point in points if point.max_spikes == 2 and point.reset == "zero"]
    assert len(refused) == 2
    assert all(point.refused.startswith("E0") and point.why and point.score is None for point in refused)
    assert [point.timesteps for point in refused] == [1, 2]
    table = sweep_table(points, known, load_target("loihi2"))
    assert table.columns[-1] == "refused"
    assert {row[-1] for row in table.rows} >= {"", refused[0].refused}
    assert any(note.startswith(refused[0].refused) for note in table.notes)
    assert len(options) == len(points) == len(table.rows)


def test_progress_counts_combinations(swept):
    *_, told = swept
    assert [done for what, done, _ in told if what == "combinations"] == list(range(9))


def test_more_steps_cost_more(swept):
    *_, points, _ = swept
    one, two = points[:2]
    assert (one.timesteps, two.timesteps) == (1, 2)
    assert two.costs.spikes > one.costs.spikes
    assert two.costs.membrane_updates == 2 * one.costs.membrane_updates
    assert two.energy > one.energy
    assert two.costs.host_multiplications == one.costs.host_multiplications == 4 * 22**2


def test_csv_holds_every_number_in_full(swept):
    _, _, _, known, _, points, _ = swept
    rows = list(csv.DictReader(io.StringIO(to_csv(points, known))))
    assert len(rows) == len(points)
    for row, point in zip(rows, points, strict=True):
        assert row["refused"] == point.refused
        if not point.refused:
            assert float(row["accuracy_integers"]) == point.score
            assert float(row["accuracy_source"]) == known.source
            assert float(row["synaptic_operations_per_inference"]) == point.costs.synaptic_operations
            assert float(row["energy_estimate_joules_per_inference"]) == point.energy


def test_only_what_differs_has_a_column(swept):
    _, _, _, known, _, points, _ = swept
    assert differing(points) == ["max_spikes", "reset"]
    assert differing(points[:2]) == []
    columns = sweep_table(points[:2], known, load_target("loihi2")).columns
    assert columns[:2] == ("T", "float %")
    assert "refused" not in columns
    assert "~ energy (uJ)" in columns


def test_points_survive_json(swept):
    *_, points, _ = swept
    for point in points:
        assert Point.from_plain(json.loads(json.dumps(point.plain()))) == point


def test_mean_weighs_samples_and_keeps_refusals(swept):
    *_, points, _ = swept
    one, two = points[:2]
    both = mean([replace(one, samples=10), replace(two, samples=30)])
    assert both.samples == 40
    assert both.score == pytest.approx((one.score + 3 * two.score) / 4)
    assert both.costs.spikes == pytest.approx((one.costs.spikes + 3 * two.costs.spikes) / 4)
    assert both.energy == pytest.approx((one.energy + 3 * two.energy) / 4)
    assert mean([one]) is one
    assert mean([one, replace(one, refused="E0442")]).refused == "E0442"
    assert mean([one, replace(one, costs=None, energy=None)]).costs is None


def test_without_labels_the_sources_own_class_is_expected(swept):
    _, graph, _, known, _, _, _ = swept
    alone = trial(graph, known.x, None)
    assert alone.source == 1
    assert alone.what == "agreement with the source"
    assert (alone.expected == known.expected).mean() == known.source


def test_bad_values_are_refused_together():
    with pytest.raises(HsnnError) as caught:
        combinations(Options(), encode=("current", "morse"), max_spikes=(1, 0), timesteps=(1, 2))
    messages = [finding.message for finding in caught.value.findings]
    assert sorted(messages) == ["encode 'morse'", "max_spikes 0"]


def test_a_model_with_one_output_predicts_nothing():
    graph, _ = capture_model(torch.nn.Sequential(torch.nn.Linear(3, 1)), np.zeros((2, 3), np.float32), "regression")
    with pytest.raises(HsnnError) as caught:
        trial(graph, np.zeros((4, 3), np.float32), None)
    assert caught.value.findings[0].code == "E0226"
