"""Steps of neurons that a compiled program keeps, and those it refuses."""

from __future__ import annotations

from dataclasses import replace

import nir
import numpy as np
import pytest
import torch
from torch import nn

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.driver import lower
from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.ir.dynamics import Dynamics, discretize
from hsnn_compiler.ir.graph import Edge
from hsnn_compiler.nn import LIF, Direct, Sum, TimeLoop
from hsnn_compiler.options import Options
from hsnn_compiler.passes.chip_steps import taken_at_a_spike

X = (2 * np.random.default_rng(0).random((40, 6))).astype(np.float32)


def network(**dynamics):
    """Two layers, the second's step changed."""
    torch.manual_seed(2)
    body = nn.Sequential(nn.Linear(6, 30), LIF(0.9), nn.Linear(30, 20), LIF(0.75))
    graph = capture(TimeLoop(Direct(20), body, Sum()), torch.from_numpy(X[:1]))
    graph.update("_3", dynamics=replace(graph["_3"].dynamics, **dynamics))
    return graph


def compiled(graph):
    return lower(graph, Options(), X)


def codes(graph):
    with pytest.raises(HsnnError) as error:
        compiled(graph)
    return [finding.code for finding in error.value.findings if finding.is_error]


def counts(graph):
    program = compiled(graph)
    return program, program.simulate(X, "float").output, program.simulate(X).output


def test_a_late_reset_takes_more_at_once():
    """beta (v - theta / beta) + I is beta v + I - theta."""
    program, real, integers = counts(network(reset_at="after"))
    quant = program.graph["_3"].quant
    assert quant.taken == round((quant.vth << 6) * 4096 / (4096 - quant.dv))
    at_once = counts(network())[1]
    assert abs(real - at_once).sum() > 0.02 * at_once.sum()  # else this could not tell
    assert abs(integers - real).sum() < 0.02 * real.sum()


def test_a_reset_just_before_the_next_step_is_one_at_the_spike():
    program, real, _ = counts(network(reset_at="before"))
    assert program.graph["_3"].quant.taken is None
    np.testing.assert_array_equal(real, counts(network())[1])


@pytest.mark.parametrize(
    "change",
    [
        {"max_spikes": 0},
        {"refractory": 2},
        {"v_min": -1.0},
        {"reset": "zero", "reset_at": "after"},
        {"reset_at": "after", "decay": 0.0},
        {"reset_at": "undelayed"},
        {"decay": 1.5},
    ],
)
def test_what_the_chip_does_not_do_is_refused(change):
    assert codes(network(**change)) == ["E0453"]


def test_a_decay_so_fast_that_the_reset_leaves_the_state_is_refused():
    assert codes(network(reset_at="after", decay=1e-3)) == ["E0453"]


def test_resets_to_a_value_and_without_end_are_refused():
    assert codes(network(reset="none")) == ["E0444"]
    graph = network(reset="value")
    at_zero = counts(network(reset="zero"))
    for to_value, to_zero in zip(counts(graph)[1:], at_zero[1:], strict=True):  # the value is zero
        np.testing.assert_array_equal(to_value, to_zero)
    graph.update("_3", op=replace(graph["_3"].op, v_reset=graph["_3"].op.v_reset - 0.5))
    assert codes(graph) == ["E0444"]


def test_a_bias_through_a_current_is_refused():
    graph = network()
    op, one = graph["_3"].op, np.ones(1)
    cuba = nir.CubaLIF(5 * one, 4 * one, one, 0 * one, op.v_threshold, 0 * one, one)
    graph.update("_3", op=cuba, dynamics=Dynamics(reset="subtract"))
    assert codes(graph) == ["E0453"]
    weights = graph["_2"].op
    graph.update("_2", op=nir.Linear(weights.weight))
    assert compiled(graph).graph["_3"].quant.du < 4095


def test_recurrent_connections_are_refused():
    graph = network()
    graph.add(graph["_2"].with_(name="back", op=nir.Linear(np.eye(20, dtype=np.float32))), Edge("_3", "back", delay=1))
    graph.connect(Edge("back", "_3"))
    assert codes(graph) == ["E0438"]


def test_a_test_with_equality_is_said():
    program = compiled(network(threshold_test=">="))
    (finding,) = [finding for finding in program.findings if finding.code == "W0460"]
    assert "_3" in finding.message


def test_taken_at_a_spike():
    one = np.ones(1)
    op = nir.LIF(tau=one, r=one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)
    late = Dynamics(integrator="none", decay=0.8, gain=1.0, leak=0.0, reset="subtract", reset_at="after")
    assert taken_at_a_spike(discretize(op, late)) == pytest.approx(1.25)
    assert taken_at_a_spike(discretize(op, replace(late, reset_at="spike"))) == 1
