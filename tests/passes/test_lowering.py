"""Lower-connections, readout and direct coding: same function, and the form the chip needs."""

from __future__ import annotations

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from picks import Picks, picks
from value_graphs import Net, assert_same_function, outputs, run_passes

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Graph
from hsnn_compiler.ir.ops import Add

TO_CHIP = (
    "remove-noops,fold-batchnorm,partition,convert-activations,map-direct-coding,merge-adds,fold-pooling,"
    "fold-scales,insert-readout,lower-connections"
)


def lower(graph: Graph) -> Graph:
    after = run_passes(graph, TO_CHIP)[-1].result.graph
    for node in after:
        if node.on_chip and node.is_synapse:
            assert len(after.in_edges(node.name)) == len(after.out_edges(node.name)) == 1
            assert after.successors(node.name)[0].is_neuron
        if node.is_spiking and node.name != "host":
            assert len(set(np.asarray(node.op.v_threshold).flat)) == 1
    return after


def samples(graph: Graph) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(8, *graph["x"].shape))


def theta(net: Net, channels: int, rank: int) -> np.ndarray:
    return net.rng.uniform(0.3, 1.2, (channels, *[1] * (rank - 1)))


@settings(max_examples=25)
@given(picks())
def test_random_spiking_networks(p: Picks) -> None:
    """Residual blocks, shared layers, thresholds per channel, any end."""
    net = Net((2, 5, 4), timesteps=6, seed=p.integer(0, 99)).encode().conv("c0", 3, padding=1)
    net.neuron("n0", threshold=theta(net, 3, 3) if p.flag() else 0.5 * np.ones((1, 1, 1)))
    if p.flag():  # the encoded input also goes to a second population, with thresholds of its own
        net.neuron("side", "c0", threshold=theta(net, 3, 3)).add("join", Add(), "n0", "side")
    base = net.at
    for i in range(p.integer(1, 2)):
        block = p.choice(["identity", "conv", "shared", "plain"])
        net.conv(f"a{i}", 3, 3, base, padding=1).neuron(f"s{i}", threshold=theta(net, 3, 3))
        net.conv(f"b{i}", 3, 3, padding=1)
        if block == "identity":
            net.add(f"add{i}", Add(), f"b{i}", base)
        elif block == "conv":
            net.conv(f"skip{i}", 3, 1, base).add(f"add{i}", Add(), f"b{i}", f"skip{i}")
        elif block == "shared":
            net.neuron(f"t{i}", f"b{i}").add(f"add{i}", Add(), f"b{i}", f"t{i}")
        base = net.neuron(f"o{i}", threshold=theta(net, 3, 3) if p.flag() else None).at
    end = p.choice(["neurons", "linear", "conv"])
    if end == "conv":
        net.conv("last", 2, 1)
    elif end == "linear":
        net.flatten().linear("last", 3)
    graph = net.done(p.choice(["mean", "sum"]))
    after = lower(graph)
    a, b = outputs(graph, samples(graph)), outputs(after, samples(graph))
    np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)


def test_thresholds_per_channel_on_a_shared_input() -> None:
    """What one population divides out of its input must not reach the other."""
    net = Net((3, 4, 4), timesteps=5).encode()
    net.neuron("a", "encode", threshold=np.array([0.2, 0.5, 1.5]).reshape(3, 1, 1)).neuron("b", "encode")
    graph = (
        net.conv("ca", 2, 1, "a")
        .conv("cb", 2, 1, "b")
        .add("add", Add(), "ca", "cb")
        .neuron("out", threshold=[[[0.2]]])
        .done("sum")
    )
    assert_same_function(graph, lower(graph), np.abs(samples(graph)))


def test_thresholds_per_neuron_behind_a_convolution_are_refused() -> None:
    net = Net((2, 4, 4), timesteps=5).encode().neuron("in").conv("conv", 2, 1)
    graph = net.neuron("out", threshold=net.rng.uniform(0.5, 1, (2, 4, 4))).done("sum")
    after = run_passes(graph, TO_CHIP)[-1].result.graph
    assert_same_function(graph, after, samples(graph))
    with pytest.raises(HsnnError) as error:
        run_passes(graph, TO_CHIP + ",quantise", calibration=samples(graph).astype(np.float32))
    assert {finding.code for finding in error.value.findings} == {"E0445"}


def test_neurons_that_feed_neurons_get_one_to_one_synapses() -> None:
    for shape in ((4,), (3, 5), (2, 3, 4)):
        net = Net(shape, timesteps=7).encode().neuron("a", threshold=0.3 * np.ones((1,) * len(shape)))
        graph = net.neuron("b", threshold=0.6 * np.ones((1,) * len(shape))).done("sum")
        after = lower(graph)
        assert len([node for node in after if node.is_synapse]) == 1
        assert_same_function(graph, after, np.abs(samples(graph)))


def test_two_layers_of_weights_in_a_row_become_one() -> None:
    net = Net((4,), timesteps=5).encode().neuron("a").linear("l1", 3)
    graph = net.linear("l2", 3).neuron("b").done("sum")
    after = lower(graph)
    assert "l1" not in after
    assert_same_function(graph, after, np.abs(samples(graph)))


def test_convolutions_in_a_row_that_cannot_become_one_are_refused() -> None:
    net = Net((2, 6, 6), timesteps=5).encode().neuron("a").conv("c1", 3)
    graph = net.conv("c2", 3, padding=1).neuron("b").done("sum")
    with pytest.raises(HsnnError) as error:
        lower(graph)
    assert [finding.code for finding in error.value.findings] == ["E0434"]
    assert error.value.findings[0].node == "c1"


def test_the_readout_is_the_mean_of_what_arrives() -> None:
    for decode in ("mean", "sum"):
        graph = Net((4,), timesteps=5).encode().neuron("a", threshold=[0.3]).linear("fc", 3).done(decode)
        after = lower(graph)
        assert len([n for n in after if n.is_neuron and not n.is_spiking]) == 1
        assert_same_function(graph, after, np.abs(samples(graph)))


def test_what_is_weightless_behind_the_last_neurons_moves_to_the_host() -> None:
    net = Net((2, 4, 4), timesteps=5).encode().neuron("a", threshold=0.3 * np.ones((1, 1, 1))).pool("pool", 2).flatten()
    graph = net.add("scale", nir.Scale(net.rng.uniform(1, 2, 8))).done("mean")
    after = run_passes(graph, TO_CHIP)[-1].result.graph
    assert not any(after[name].on_chip for name in ("pool", "flatten") if name in after)
    assert_same_function(graph, after, np.abs(samples(graph)))


def test_direct_coding_moves_every_linear_op_to_the_host() -> None:
    net = (
        Net((2, 6, 6), timesteps=4)
        .encode()
        .conv("c1", 3, padding=1)
        .pool("pool", 2)
        .add("s", nir.Scale(np.full((3, 1, 1), 2.0)))
    )
    net.conv("c2", 3, 1, "s").add("add", Add(), "c2", "s").flatten()
    graph = net.linear("fc", 5).neuron("out", threshold=[0.2]).done("mean")
    after = run_passes(graph, TO_CHIP)[-1].result.graph
    assert [node.name for node in after if node.on_chip and not node.is_neuron and node.kind != "Encode"] == []
    assert_same_function(graph, after, samples(graph))


def test_analog_input_and_spikes_meet_in_one_layer() -> None:
    """f(x + s) = f(x) + f(s), the bias counted once."""
    net = Net((3,), timesteps=6).encode().linear("l0", 4).neuron("n0", threshold=[0.3]).linear("back", 3)
    net.neuron("n1", threshold=[0.3]).add("add", Add(), "n1", "encode").linear("mix", 4)
    graph = net.neuron("out", threshold=[0.5]).done("mean")
    assert_same_function(graph, lower(graph), samples(graph))
