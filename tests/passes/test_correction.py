"""Corrections and the choice between them, on small converted networks."""

from __future__ import annotations

import numpy as np
import pytest
from value_graphs import Net, run_passes

from hsnn_compiler.ir import Graph
from hsnn_compiler.ir.ops import ReLU
from hsnn_compiler.passes.activations import SCALE_SUFFIX, analog_twin, converted_neurons
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.calibration import correction
from hsnn_compiler.passes.calibration.correction import Correction
from hsnn_compiler.passes.calibration.selection import Score, Way, best
from hsnn_compiler.reference.float_executor import FloatExecutor

KINDS = ("none", "weights")
CONVERT = "partition,convert-activations,"


def residual() -> Graph:
    """Two convolutions and a linear layer."""
    net = Net((2, 8, 8), seed=5).conv("c0", 6, padding=1).add("r0", ReLU())
    return net.conv("c1", 6, padding=1).add("r1", ReLU()).flatten().linear("fc", 10).done()


def data(samples: int = 300, seed: int = 6) -> np.ndarray:
    """Smooth images, as neighbouring pixels are alike in real ones: [samples, 2, 8, 8]."""
    coarse = np.random.default_rng(seed).normal(size=(samples, 2, 3, 3))
    return np.kron(coarse, np.ones((3, 3)))[..., :8, :8].astype(np.float32)


def converted(options: str, timesteps: int = 2, **context: object) -> tuple[Graph, tuple[str, ...]]:
    given = {"calibration": data(), "timesteps": timesteps} | context
    result = run_passes(residual(), CONVERT + f"calibrate-thresholds{options}", **given)[-1].result
    return result.graph, result.notes


def output_error(graph: Graph, x: np.ndarray) -> float:
    wanted = FloatExecutor(residual()).run(x).output
    return float(np.square(FloatExecutor(graph).run(x).output - wanted).mean() / wanted.var())


def mean_errors(graph: Graph, x: np.ndarray, axes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Mean over `axes` of activation minus scaled spike rate, by neuron."""
    names = [node.name for node in converted_neurons(graph)]
    twin = FloatExecutor(analog_twin(graph)).run(x, [(name, "s") for name in names]).trace
    got = FloatExecutor(graph).run(x, [(name + SCALE_SUFFIX, "s") for name in names]).trace
    return {n: (twin[n, "s"] - got[n + SCALE_SUFFIX, "s"].mean(1)).mean(axes) for n in names}


def test_bias_and_potential_take_away_the_mean_error() -> None:
    x = data()
    plain = mean_errors(converted("{method=max,correct=none,mixtures=false}")[0], x, (0, 2, 3))
    shifted = mean_errors(converted("{method=max,correct=bias,mixtures=false}")[0], x, (0, 2, 3))
    for name in plain:
        assert np.abs(shifted[name]).mean() < 0.5 * np.abs(plain[name]).mean()
    plain_each = mean_errors(converted("{method=max,correct=bias,mixtures=false}")[0], x, (0,))
    graph = converted("{method=max,correct=potential,mixtures=false}")[0]
    each = mean_errors(graph, x, (0,))
    for name in each:
        assert np.abs(each[name]).mean() < 0.8 * np.abs(plain_each[name]).mean()
        assert graph[name].dynamics.v_init.shape == graph[name].shape


def test_fitted_weights_do_better_on_samples_they_have_not_seen() -> None:
    fresh = data(seed=7)
    errors = {kind: output_error(converted(f"{{method=ltb,correct={kind}}}")[0], fresh) for kind in ("none", "weights")}
    assert errors["weights"] < 0.7 * errors["none"]


def test_the_first_layer_and_the_structure_stay() -> None:
    """What gets the analog input itself has nothing to make up for."""
    plain, fitted = (converted(f"{{method=mse,correct={kind}}}")[0] for kind in ("none", "weights"))
    np.testing.assert_array_equal(plain["c0"].op.weight, fitted["c0"].op.weight)
    assert not np.array_equal(plain["c1"].op.weight, fitted["c1"].op.weight)
    assert [node.name for node in plain] == [node.name for node in fitted]


def test_layers_too_large_to_fit_keep_their_weights_and_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = converted("{method=mse,correct=none}")[0]
    monkeypatch.setattr(correction, "LARGEST", plain["fc"].op.weight.shape[1])
    fitted, notes = converted("{method=mse,correct=weights}")
    np.testing.assert_array_equal(plain["fc"].op.weight, fitted["fc"].op.weight)
    assert not np.array_equal(plain["c1"].op.weight, fitted["c1"].op.weight)
    assert notes[-1].endswith("their weights stay: fc")


def test_corrections_do_not_depend_on_the_batch_size() -> None:
    graph = converted("{method=mse,correct=none}")[0]
    for kind in ("weights", "potential"):
        done = [Correction(kind).apply(graph, PassContext(calibration=data(), batch_size=size)) for size in (11, 128)]
        np.testing.assert_allclose(done[0]["c1"].op.weight, done[1]["c1"].op.weight, atol=1e-4)
        np.testing.assert_allclose(done[0]["r0"].dynamics.v_init, done[1]["r0"].dynamics.v_init, atol=1e-5)


@pytest.mark.parametrize("context", [{"max_spikes": 3}, {"reset": "zero"}, {"coding": "ttfs"}])
def test_every_kind_of_converted_neuron_can_be_corrected(context: dict[str, object]) -> None:
    fresh = data(seed=8)
    errors = {k: output_error(converted(f"{{method=mse,correct={k}}}", 2, **context)[0], fresh) for k in KINDS}
    assert errors["weights"] < errors["none"]


def test_auto_is_as_good_as_what_it_chose_from() -> None:
    graph, notes = converted("", 2)
    fresh = data(seed=9)
    alternatives = [
        output_error(converted(f"{{method={method},correct=none}}")[0], fresh)
        for method in ("mse", "ltb", "percentile")
    ]
    assert output_error(graph, fresh) < 0.9 * min(alternatives)
    assert "held-out samples" in notes[1]


def test_auto_does_not_choose_on_made_up_data() -> None:
    _, notes = converted("", assumed=True)
    assert notes == ("2 layers, method mse, correction none, per channel, from 300 made-up samples",)


def test_agreement_counts_only_beyond_its_standard_error() -> None:
    a, b, c = Way("mse", "none"), Way("ltb", "none"), Way("max", "none")
    scores = {a: Score(0.99, 0.3), b: Score(0.98, 0.1), c: Score(0.9, 0.01)}
    assert best(scores, 100) == b  # 0.98 is within 2 * 0.01 of 0.99; 0.9 is not
    assert best(scores, 100_000) == a
    assert best({a: Score(1, 0.1), b: Score(1, 0.097)}, 100) == a  # alike: the simpler one, which comes first
