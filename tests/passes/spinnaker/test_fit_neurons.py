"""What stock SpiNNaker neurons cannot do is refused, all at once; what is lost is measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import nir
import numpy as np
import pytest
from spinnaker_graphs import compile_, reference
from value_graphs import Net, outputs, run_passes

from hsnn_compiler.backends.spinnaker.lower import lower
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Dynamics, Graph
from hsnn_compiler.ir.ops import Encode
from hsnn_compiler.passes.pipeline import default_pipeline
from hsnn_compiler.targets import load_target


def net(**rule: Any) -> Graph:
    """Two layers, of which the second has the rule."""
    made = Net((5,), timesteps=6, seed=1).encode().linear("w0", 8).neuron("n0", reset="zero").linear("w1", 4)
    made.neuron("n1", reset="zero")
    node = made.graph["n1"]
    assert node.dynamics is not None
    made.graph.update("n1", dynamics=replace(node.dynamics, **rule))
    return made.done("mean")


def samples(count: int = 8) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 3, (count, 5)).astype(np.float32)


def codes(graph: Graph, **context: Any) -> list[tuple[str, str]]:
    with pytest.raises(HsnnError) as error:
        compile_(graph, **context)
    return [(finding.code, finding.node) for finding in error.value.findings]


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ({"reset": "subtract"}, "E0510"),
        ({"refractory": 2}, "E0511"),
        ({"v_min": 0.0}, "E0511"),
        ({"reset_at": "after"}, "E0511"),
        ({"reset": "none"}, "E0511"),
        ({"decay": 1.5}, "E0511"),
    ],
)
def test_other_steps_are_refused(rule: dict[str, Any], code: str):
    assert codes(net(**rule)) == [(code, "n1")]


def test_all_is_said_at_once():
    graph = net(reset="subtract", max_spikes=3)
    graph.update("n0", dynamics=replace(graph["n0"].dynamics, reset="subtract"))  # type: ignore[type-var]
    found = codes(graph)
    assert set(found) == {("E0510", "n0"), ("E0510", "n1"), ("E0511", "n1")}


def test_a_synaptic_current_is_refused():
    made = Net((5,), timesteps=6).add("events", Encode("rate")).linear("w0", 4)
    one = np.ones(1)
    op = nir.CubaLIF(5 * one, 10 * one, one, 0 * one, one, v_reset=0 * one)
    assert codes(made.add("n0", op, dynamics=Dynamics()).done("mean")) == [("E0511", "n0")]


def test_neurons_pinned_to_the_host_are_not_refused():
    graph = net(refractory=2)
    layers = {"n1": {"place": "host"}, "w1": {"place": "host"}}
    compiled = compile_(graph, layers=layers)
    assert not compiled["n1"].on_chip
    assert compiled["n0"].on_chip
    np.testing.assert_allclose(outputs(compiled, samples()), outputs(graph, samples()), atol=1e-9)


def test_force_zero_resets_to_zero_and_measures_it():
    graph = net(reset="subtract")
    stages = run_passes(
        graph, default_pipeline("spinnaker"), target=load_target("spinnaker"), force_zero=True, calibration=samples()
    )
    stage = next(stage for stage in stages if stage.item.name == "fit-neurons")
    (finding,) = stage.result.findings
    assert finding.code == "W0514"
    table = stage.result.tables[0]
    before, after = (reference(g, samples())[0]["n1"] for g in (graph, stage.result.graph))
    row = next(row for row in table.rows if row[0] == "n1")
    assert row[1:4] == (before.sum(), after.sum(), (before != after).sum())
    assert row[3] > 0


def test_integrate_and_fire_neurons_get_a_leak_that_is_measured():
    graph = net(integrator="none", decay=1.0, gain=0.5)
    stages = run_passes(graph, default_pipeline("spinnaker"), target=load_target("spinnaker"), calibration=samples(40))
    stage = next(stage for stage in stages if stage.item.name == "fit-neurons")
    assert [finding.code for finding in stage.result.findings] == ["W0515"]
    population = lower(stages[-1].result.graph).populations["n1"]
    np.testing.assert_allclose(population.beta, np.exp(-1 / 256))
    before, after = (reference(g, samples(40))[0]["n1"] for g in (graph, stages[-1].result.graph))
    row = next(row for row in stage.result.tables[0].rows if row[0] == "n1")
    assert row[1:4] == (before.sum(), after.sum(), (before != after).sum())


def test_leaks_stay_as_they_are():
    population = lower(compile_(net(integrator="none", decay=0.999))).populations["n1"]
    np.testing.assert_array_equal(population.beta, 0.999)


def test_the_threshold_test_decides_at_the_threshold():
    thresholds = {test: lower(compile_(net(threshold_test=test))).populations["n1"].threshold for test in (">", ">=")}
    np.testing.assert_array_equal(thresholds[">="], 1.0)
    np.testing.assert_array_equal(thresholds[">"], np.nextafter(1.0, 2.0))
