"""--timesteps auto: what is tried, what is chosen, and what is kept of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import hsnn_compiler as hc
from hsnn_compiler import choice as module
from hsnn_compiler.choice import Choice, candidates, choose_timesteps, folds
from hsnn_compiler.data import load_arrays
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.driver import capture_model, lower
from hsnn_compiler.loading import load_model
from hsnn_compiler.options import Options
from hsnn_compiler.report.sections import sections
from hsnn_compiler.sweep import Point

DIGITS = Path(__file__).parents[1] / "examples" / "digits"
CALIB = load_arrays(DIGITS / "digits_calib.npz")


def tiny(timesteps=None):
    """A captured network of one layer and its calibration data, 40 samples."""
    torch.manual_seed(0)
    x = np.random.default_rng(0).random((40, 6), np.float32)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    graph, _ = capture_model(model, x, "tiny")
    graph.timesteps = timesteps
    return graph, x


def searched(monkeypatch, score, *, own=None, drop=0.0, reset="subtract"):
    """What the search finds if compiling for T gives `score(T)`; None for a refusal."""
    graph, x = tiny()
    calls = []

    def measure(graph, options, calibration, trial, progress):
        calls.append((options.timesteps, len(calibration), len(trial.x)))
        asked = {"encode": "current", "coding": "rate", "max_spikes": 1, "reset": reset}
        value = score(options.timesteps)
        if value is None:
            return Point(options.timesteps, **asked, refused="E0999", why="no")
        return Point(options.timesteps, **asked, samples=len(trial.x), score=value, before_quantisation=value)

    monkeypatch.setattr(module, "measure", measure)
    monkeypatch.setattr(module, "lower", lambda *_: None)
    monkeypatch.setattr(module, "candidates", lambda _: candidates(own))
    found = choose_timesteps(graph, Options(accuracy_drop=drop, reset=reset), x)
    return found, [steps for steps, _, _ in calls], calls


@given(st.integers(1, 64))
def test_the_fewest_steps_are_found_where_more_are_never_worse(least):
    with pytest.MonkeyPatch.context() as patch:
        found, _, calls = searched(patch, lambda steps: 1.0 if steps >= least else 0.5)
    assert found.timesteps == least
    tried = [point.timesteps for point in found.points]
    assert tried == sorted(tried)
    assert least == 1 or least - 1 in tried
    assert len(calls) <= 4 * 12  # four parts; seven powers of two, five between the last two
    assert {(rest, held) for _, rest, held in calls} == {(30, 10)}


@given(st.lists(st.sampled_from([None, 0.2, 0.9, 1.0]), min_size=65, max_size=65), st.sampled_from([0, 10, 100]))
def test_what_is_chosen_passed_even_where_scores_jump(scores, drop):
    passing = [steps for steps in module.LADDER if scores[steps] is not None and scores[steps] >= 1 - drop / 100]
    with pytest.MonkeyPatch.context() as patch:
        if not passing:
            with pytest.raises(HsnnError, match="E0608"):
                searched(patch, lambda steps: scores[steps], drop=drop)
            return
        found, _, _ = searched(patch, lambda steps: scores[steps], drop=drop)
    assert found.timesteps <= passing[0]
    assert scores[found.timesteps] >= 1 - drop / 100


def test_a_reset_to_zero_keeps_to_powers_of_two(monkeypatch):
    found, tried, _ = searched(monkeypatch, lambda steps: float(steps >= 5), reset="zero")
    assert found.timesteps == 8
    assert set(tried) == {1, 2, 4, 8}


def test_a_spiking_model_is_tried_below_and_around_its_own_steps(monkeypatch):
    assert candidates(None) == [1, 2, 4, 8, 16, 32, 64]
    assert candidates(25) == [1, 2, 4, 8, 16, 25, 50]
    assert candidates(16) == [1, 2, 4, 8, 16, 32]
    assert candidates(1) == [1, 2]
    found, _, _ = searched(monkeypatch, lambda steps: float(steps >= 20), own=25)
    assert found.timesteps == 20


def test_what_can_no_longer_pass_is_not_measured_further(monkeypatch):
    found, tried, _ = searched(monkeypatch, lambda steps: 1.0 if steps >= 2 else 0.8, drop=7)
    assert tried == [1, 1, 2, 2, 2, 2]  # of 40 samples 37.2 must be right: after 10 and 10, four are wrong
    assert [(point.timesteps, point.samples) for point in found.points] == [(1, 20), (2, 40)]


def test_parts_hold_every_sample_out_once_and_fewer_are_taken_of_much_data():
    parts = folds(37, 0)
    assert sorted(np.concatenate(parts).tolist()) == list(range(37))
    assert len(parts) == 4
    assert not np.array_equal(parts[0], np.arange(len(parts[0])))
    assert len(folds(2000, 0)) == 2
    assert len(folds(4000, 0)) == 1
    assert len(folds(100_000, 0)) == 1
    assert all(np.array_equal(a, b) for a, b in zip(folds(37, 3), folds(37, 3), strict=True))


def test_out_of_reach_names_the_best(monkeypatch):
    with pytest.raises(HsnnError) as caught:
        searched(monkeypatch, lambda steps: 0.9 if steps == 8 else 0.3, drop=5)
    (finding,) = caught.value.findings
    assert finding.code == "E0608"
    assert "T = 8 gives 90.00%" in finding.message
    assert "10.00 points" in finding.supported
    assert caught.value.exit_code == 6


@pytest.mark.parametrize("calibration", [None, np.zeros((7, 6), np.float32)])
def test_a_choice_needs_data(calibration):
    with pytest.raises(HsnnError) as caught:
        lower(tiny()[0], Options(accuracy_drop=1.0), calibration)
    assert caught.value.findings[0].code == "E0226"


def test_where_all_is_refused_the_compiler_says_why():
    graph, x = tiny()
    options = Options(accuracy_drop=1.0, layers={"_0": {"place": "host"}}, reset="zero", max_spikes=2)
    with pytest.raises(HsnnError) as caught:
        lower(graph, options, x)
    assert caught.value.findings[0].code not in ("E0608", "E0226")


def test_options_that_contradict_each_other_are_refused():
    graph, x = tiny()
    for options in (Options(accuracy_drop=1.0, timesteps=4), Options(accuracy_drop=-1.0)):
        with pytest.raises(HsnnError) as caught:
            lower(graph, options, x)
        assert caught.value.findings[0].code == "E0217"


@pytest.fixture(scope="module")
def compiled():
    """The spiking digits model with a choice of T, from Python."""
    module_ = load_model(DIGITS / "digits_direct.pt").module
    return hc.compile(
        module_, calibration=CALIB.x[:120], labels=CALIB.y[:120], timesteps="auto", accuracy_drop=3.0, name="direct"
    )


def test_from_python_the_chosen_steps_are_compiled_with_all_of_the_data(compiled):
    found = compiled.choice
    assert found is not None
    assert compiled.timesteps == found.timesteps
    assert compiled.options["timesteps"] == found.timesteps  # so that verify compiles the same again
    assert "accuracy_drop" not in compiled.options
    assert (found.own, found.what, found.held_out, found.allowed) == (16, "accuracy", 120, 3.0)
    scores = {point.timesteps: point.score for point in found.points}
    assert scores[found.timesteps] >= found.source - 0.03 - 1e-9
    assert all(score < found.source - 0.03 for steps, score in scores.items() if steps < found.timesteps)
    assert 1 < found.timesteps < 16
    again = hc.compile(
        load_model(DIGITS / "digits_direct.pt").module, calibration=CALIB.x[:120], timesteps=found.timesteps
    )
    x = CALIB.x[120:150]
    assert np.array_equal(compiled.simulate(x).output, again.simulate(x).output)


def test_the_curve_is_kept_and_shown(compiled, tmp_path):
    compiled.save(tmp_path / "bundle")
    back = hc.load(tmp_path / "bundle")
    assert back.choice == compiled.choice
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert manifest["choice"]["why"] == compiled.choice.why
    assert Choice.from_plain(manifest["choice"]) == compiled.choice
    table = sections(back)[0]
    assert table.title == "Choice of T"
    assert [row[0] for row in table.rows] == [point.timesteps for point in compiled.choice.points]
    assert "the model's own are 16" in table.notes[0]
    assert "held out from calibration" in table.notes[0]
    assert f"T = {compiled.timesteps} " in (tmp_path / "bundle" / "report.md").read_text()


def test_without_labels_agreement_with_the_source_is_what_counts():
    graph, x = tiny()
    made = lower(graph, Options(accuracy_drop=100.0), x)
    assert made.timesteps == 1
    assert made.choice.what == "agreement with the source"
    assert made.choice.source == 1
