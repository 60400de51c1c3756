"""Several turns of the chip, values of the host, and read-outs."""

from __future__ import annotations

import nir
import numpy as np
import pytest
from spinnaker_graphs import compile_, reference, run_netlist
from value_graphs import Net, outputs

from hsnn_compiler.backends.spinnaker.lower import lower
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Dynamics, Graph
from hsnn_compiler.ir.ops import Decode, Encode, ReLU


def agrees(graph: Graph, x: np.ndarray) -> Graph:
    """Compiled: the netlist has the reference's spikes, the reference the source's outputs."""
    compiled = compile_(graph, calibration=x)
    signals, _ = reference(compiled, x)
    signals["x"] = x
    for name, window in run_netlist(lower(compiled), signals).items():
        np.testing.assert_allclose(window, signals[name], atol=1e-12, err_msg=name)
    assert outputs(graph, x).std() > 0
    np.testing.assert_allclose(outputs(compiled, x), outputs(graph, x), atol=1e-9)
    return compiled


def samples(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, (4, *shape)).astype(np.float32)


def two_turns() -> Net:
    net = (
        Net((6,), timesteps=5, seed=2)
        .add("events", Encode("rate"))
        .linear("w0", 8)
        .neuron("n0", reset="zero", threshold=[0.2])
    )
    net.add("decode0", Decode("mean")).add("relu", ReLU()).linear("host", 8)
    return net.add("again", Encode("rate")).linear("w1", 4).neuron("n1", reset="zero", threshold=[0.2])


def test_the_host_works_between_two_turns():
    netlist = lower(agrees(two_turns().done("mean"), samples(6)))
    assert [turn.number for turn in netlist.turns] == [0, 1]
    assert [turn.steps for turn in netlist.turns] == [6, 6]
    assert [stage["number"] for stage in netlist.stages] == [0, 1, 2]


def test_spikes_that_a_later_turn_needs_go_through_the_host():
    net = two_turns()
    net.linear("skip", 3, "n0").linear("w2", 3, "n1", bias=False).neuron("n2", "skip", "w2", reset="zero")
    compiled = agrees(net.done("mean"), samples(6))
    netlist = lower(compiled)
    assert "n0.again" in netlist.turns[1].populations
    assert netlist.turns[1].populations["n0.again"].kind == "source"
    assert netlist.turns[1].projections["skip"].delay == 2


def test_an_analog_input_beside_spikes_is_refused():
    net = Net((6,), timesteps=5).encode().linear("w0", 8).neuron("n0", reset="zero").linear("w1", 3)
    net.linear("direct", 3, "encode").neuron("n1", "w1", "direct", reset="zero")
    with pytest.raises(HsnnError) as error:
        compile_(net.done("mean"))
    assert [(f.code, f.node) for f in error.value.findings] == [("E0513", "n1")]


def test_gains_of_presented_values_are_the_hosts():
    net = Net((6,), timesteps=5).encode().linear("w0", 8)
    ones = np.ones(8)
    rule = Dynamics(integrator="none", decay=0.9, gain=np.linspace(0.2, 2, 8))
    compiled = agrees(net.add("n0", nir.LIF(ones, ones, 0 * ones, ones, 0 * ones), dynamics=rule).done("mean"),
                      samples(6))  # fmt: skip
    assert "n0" in lower(compiled).populations


def test_a_potential_in_every_step_cannot_be_read():
    net = Net((6,), timesteps=5).encode().linear("w0", 8).neuron("n0", reset="zero").linear("w1", 3)
    one = np.ones(1)
    leaky = net.add("leaky", nir.LI(one, one, 0 * one), dynamics=Dynamics(integrator="none", decay=0.5, gain=1.0))
    with pytest.raises(HsnnError) as error:
        compile_(leaky.done("mean"))
    assert [(f.code, f.node) for f in error.value.findings] == [("E0512", "leaky")]


def test_layers_behind_the_last_neurons_are_the_hosts():
    net = Net((2, 6, 6), timesteps=5).encode().conv("c0", 4).neuron("n0", reset="zero").pool("pool", 2)
    net.flatten().linear("fc0", 5).linear("fc1", 3)
    compiled = agrees(net.done("bitplane"), samples(2, 6, 6))
    assert [node.name for node in compiled if node.on_chip and node.is_population] == ["n0"]
    assert not lower(compiled).turns[0].projections
