"""Decays of their own for every neuron: what becomes of them in integers, and of the gains that come with them."""

from __future__ import annotations

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from picks import Picks, picks
from value_graphs import Net, assert_same_function, run_passes

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Dynamics, Graph, Node
from hsnn_compiler.ir.dynamics import discretize
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.quant import NeuronQuant
from hsnn_compiler.ir.types import Coding, TensorType
from hsnn_compiler.network import Network
from hsnn_compiler.passes.batchnorm import with_weights
from hsnn_compiler.passes.pipeline import DEFAULT_PIPELINE
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.reference.loihi_executor import LoihiExecutor
from hsnn_compiler.report.sections import quantised_neurons

SHAPE = (2, 5, 4)
MAP = (3, 5, 4)
TO_CHIP = DEFAULT_PIPELINE.split(",quantise", maxsplit=1)[0]


def data(n: int = 24) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, *SHAPE)).astype(np.float32)


def network(p: Picks) -> Graph:
    """Convolution, LIF, convolution, LIF or CubaLIF, matrix, LI, with Euler's gains: as different as time constants."""
    net = Net(SHAPE, timesteps=8, seed=p.integer(0, 99)).encode().conv("c0", 3, padding=1)
    reset = p.choice(["zero", "subtract"])
    how = Dynamics(reset=reset, reset_at=p.choice(["spike", "after"]) if reset == "subtract" else "spike")
    one, tau = np.ones((3, 1, 1)), net.rng.uniform(2, 12, (3, 3, 1, 1))
    theta = net.rng.uniform(0.1, 0.3, (3, 1, 1)) if p.flag() else 0.2 * one
    net.add("n0", nir.LIF(tau[0], one, 0 * one, theta, 0 * one), dynamics=how).conv("c1", 3, padding=1)
    if p.flag():
        conv = net.graph["c1"].op
        net.graph.update("c1", op=with_weights(conv, conv.weight, 0 * conv.bias))  # no constant through a current
        op = nir.CubaLIF(tau[1], tau[2], one, 0 * one, 0.05 * one, 0 * one, one)
    else:
        op = nir.LIF(tau[1], one, 0 * one, 0.1 * one, 0 * one)
    net.add("n1", op, dynamics=how).flatten().linear("fc", 4, bias=False)
    tau = net.rng.uniform(2, 9, 4)
    return net.add("li", nir.LI(tau, 0 * tau + 1, 0 * tau), dynamics=Dynamics()).done("last")


@settings(max_examples=20)
@given(picks())
def test_gains_that_differ_go_into_the_weights_exactly(p: Picks) -> None:
    graph = network(p)
    after = run_passes(graph, TO_CHIP)[-1].result.graph
    assert_same_function(graph, after, data().astype(np.float64))
    for node in (n for n in after if n.is_neuron):
        step = discretize(node.op, node.dynamics)
        assert np.ptp(step.decay) > 0
        assert all(np.ptp(array) == 0 for array in (step.gain, step.w_in, step.threshold) if array is not None)


@settings(max_examples=20)
@given(picks())
def test_each_neuron_keeps_its_decay(p: Picks) -> None:
    graph = network(p)
    after = run_passes(graph, DEFAULT_PIPELINE, calibration=data())[-1].result.graph
    for node in (n for n in after if n.is_neuron):
        quant, wanted = node.quant, discretize(graph[node.name].op, graph[node.name].dynamics)
        assert isinstance(quant, NeuronQuant)
        step = discretize(node.op, node.dynamics)
        assert quant.has_own_decays
        assert np.shape(quant.dv) == node.shape
        for got, real, integer in (
            (step.decay, wanted.decay, quant.dv),
            (step.current_decay, wanted.current_decay, quant.du + 1),
        ):
            if real is not None:
                assert np.abs(got - real).max() <= 1 / 8192
                np.testing.assert_array_equal(np.broadcast_to(got, node.shape), 1 - integer / 4096)
        if step.reset_at == "after" and node.is_spiking:
            np.testing.assert_array_equal(quant.taken, np.rint(quant.vth * 64 * 4096 / (4096 - quant.dv)))
    real, integers = FloatExecutor(graph).run(data()), LoihiExecutor(after).run(data())
    spikes = sum(real.spikes.values())
    assert spikes > 200
    assert abs(spikes - sum(integers.spikes[name] for name in real.spikes)) < 0.05 * spikes


def test_neurons_of_one_channel_may_differ_in_decay_but_not_in_gain() -> None:
    """A convolution has the same weights at every pixel; decays are not in the weights."""

    def graph(**field: np.ndarray | float) -> Graph:
        net = Net(SHAPE, timesteps=6).encode().conv("c", 3, padding=1).neuron("n0", threshold=[[[0.3]]])
        one = np.ones((1, 1, 1))
        op, how = nir.LIF(one, one, 0 * one, one / 4, 0 * one), {"decay": 0.5, "gain": 1.0} | field
        return net.conv("d", 3, padding=1).add("n", op, dynamics=Dynamics(integrator="none", **how)).done("sum")

    pixels = np.random.default_rng(1).uniform(0.2, 0.9, MAP)
    after = run_passes(graph(decay=pixels), DEFAULT_PIPELINE, calibration=data())[-1].result.graph
    np.testing.assert_allclose(1 - after["n"].quant.dv / 4096, pixels, atol=1 / 8192)  # type: ignore[union-attr]
    with pytest.raises(HsnnError) as error:
        run_passes(graph(gain=pixels), DEFAULT_PIPELINE, calibration=data())
    assert {finding.code for finding in error.value.findings} == {"E0445"}


def test_what_is_equal_in_integers_is_one_number() -> None:
    """Then nothing changes: Lava's own process runs it. The report says where it does not."""
    for spread in (1e-5, 1e-2):
        net = Net((3,), timesteps=6).encode().neuron("in", threshold=[0.3]).linear("fc", 3)
        one, decay = np.ones(3), 0.9 + spread * np.arange(3)
        op, how = nir.LIF(one, one, 0 * one, one, 0 * one), Dynamics(integrator="none", decay=decay, gain=1.0)
        graph = net.add("n", op, dynamics=how).done("sum")
        x = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
        stages = run_passes(graph, DEFAULT_PIPELINE, calibration=x)
        after = stages[-1].result.graph
        assert np.ndim(after["n"].quant.dv) == int(spread > 1e-3)  # type: ignore[union-attr]
        said = [note for stage in stages for note in stage.result.notes if "decays per neuron" in note]
        table = quantised_neurons(after)
        assert bool(said) == bool(table.notes) == (spread > 1e-3)
        assert ("328..410" in [row[3] for row in table.rows]) == (spread > 1e-3)


def test_time_constants_of_a_nir_file() -> None:
    """Quantised on the fly: every decay within half a step of 1/4096, and what is said of it."""
    one, tau = np.ones(4), np.array([2.0, 3.0, 7.0, 50.0])
    graph = Graph("raw")
    graph.add(Node("x", nir.Input(np.array([6])), TensorType((6,), Coding.CURRENT)))
    weight = np.random.default_rng(0).normal(size=(4, 6))
    graph.add(Node("w", nir.Linear(weight)), "x")
    op = nir.CubaLIF(tau_mem=tau, tau_syn=tau[::-1].copy(), r=tau / 4, v_leak=0 * one, v_threshold=one, w_in=tau[::-1])
    graph.add(Node("n", op, dynamics=Dynamics(reset="subtract")), "w")
    graph.add(Node("out", nir.Output(np.array([4]))), "n")
    x = (np.random.default_rng(1).random((2, 60, 6)) < 0.4).astype(np.float32)
    real = Network(infer_types(graph))
    integers = real.quantised({"x": x})
    quant = integers.graph["n"].quant
    assert isinstance(quant, NeuronQuant)
    np.testing.assert_allclose(1 - quant.dv / 4096, 1 - 1 / tau, atol=1 / 8192)
    np.testing.assert_allclose(1 - (quant.du + 1) / 4096, 1 - 1 / tau[::-1], atol=1 / 8192)
    text = next(f.message for f in integers.findings if f.code == "I0457" and f.node == "n")
    assert "decay 0.5 to 0.97998, off by at most 8e-05" in text
    wanted, found = real.simulate({"x": x}, "float").spikes["n"], integers.simulate({"x": x}, "reference").spikes["n"]
    assert wanted > 40
    assert abs(found - wanted) < 0.05 * wanted
