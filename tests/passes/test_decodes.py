"""What leaves the chip: sums of spikes without neurons for them, steps that count differently, values never encoded."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from hybrid_graphs import random_hybrid
from hypothesis import given, settings
from picks import Picks, picks
from value_graphs import Net, assert_same_function, run_passes

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Dynamics, Graph
from hsnn_compiler.ir.crossings import DECODE_KINDS, WEIGHTED_KINDS
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Add, Collect, Decode, Encode, Mean, ReLU
from hsnn_compiler.passes.decodes import read_populations
from hsnn_compiler.passes.pipeline import DEFAULT_PIPELINE
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.reference.loihi_executor import LoihiExecutor

TO_CHIP = (
    "remove-noops,fold-batchnorm,partition,convert-activations,map-direct-coding,merge-adds,fold-pooling,"
    "fold-scales,insert-readout,lower-connections"
)


def lower(graph: Graph, text: str = TO_CHIP) -> Graph:
    return run_passes(graph, text)[-1].result.graph


def samples(graph: Graph, n: int = 8) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(n, *graph["x"].shape)).astype(np.float32)


def two_populations(steps: int = 8) -> Net:
    """``a`` and ``b``, spiking differently, [4, 6, 6]."""
    net = Net((2, 6, 6), steps).encode().conv("c0", 4, padding=1).neuron("a", threshold=0.3 * np.ones((4, 1, 1)))
    return net.conv("c1", 4, padding=1).neuron("b", threshold=0.4 * np.ones((4, 1, 1)), reset="zero")


def decode(p: Picks, steps: int) -> Decode:
    return Decode(p.choice(DECODE_KINDS), p.choice([1.0, 2.5]), p.divisor(steps))


@settings(max_examples=60)
@given(picks())
def test_a_sum_of_spikes_needs_no_neurons(p: Picks) -> None:
    """Added up at random, through pooling, scales and flattening, some of it read by others too."""
    steps = p.choice([4, 8])
    net = two_populations(steps)
    parts = ["a", "b"]
    for i in range(p.integer(1, 4)):
        if p.flag(3):
            net.add(f"n{i}", nir.Scale(net.rng.uniform(0.5, 2, (4, 1, 1))), p.choice(parts))
        else:
            net.add(f"n{i}", Add(), *p.choice([[parts[-1], parts[-1]], ["a", parts[-1]], parts[:3]]))
        parts.append(net.at)
    for end in p.choice([["pool", "flatten"], ["mean"], [], ["pool"]]):
        if end == "pool":
            net.pool("pool", 2)
        elif end == "flatten":
            net.flatten()
        else:
            net.add("mean", Mean((1, 2)))
    last = net.at
    net.add("d", decode(p, steps))
    if p.flag():  # somebody else reads what is on the way
        other = p.choice([*parts[2:], last])
        net.add("d2", decode(p, steps), other).add("y2", nir.Output(np.array(net.shape("d2"))))
        net.at = "d"
    graph = net.done()
    after = lower(graph)
    assert {node.name for node in after if node.is_neuron} == {"a", "b"}
    assert not any(node.on_chip for node in after.of_kind("Add", "Scale", "AvgPool2d", "Mean"))
    x = samples(graph)
    before, got = (FloatExecutor(g, torch.float64).run(x).outputs for g in (graph, after))
    for name, output in before.items():
        np.testing.assert_allclose(got[name], output, rtol=1e-9, atol=1e-9)
    assert before["y"].std() > 1e-6


def test_sums_that_nobody_merged() -> None:
    """Before `merge-adds`: what is added to itself counts twice."""
    net = two_populations().add("twice", Add(), "a", "a").add("sum", Add(), "twice", "b", "a").pool("pool", 2)
    graph = net.add("d", Decode("bitplane")).done()
    placed = lower(graph, "remove-noops,partition,convert-activations,map-direct-coding")
    after = placed.copy()
    assert set(read_populations(after, "d")) >= {"pool", "d.sum"}
    assert not any(node.on_chip for node in after.of_kind("Add", "AvgPool2d"))
    assert_same_function(graph, infer_types(after), samples(graph))
    assert read_populations(after, "d") == []


def test_thresholds_of_converted_neurons_leave_with_the_sum() -> None:
    """Two converted layers added up at the chip's end: their scales go to the host, and nothing integrates."""
    net = Net((3, 4, 4)).conv("c0", 4, 1).add("r0", ReLU()).conv("c1", 4, 1).add("r1", ReLU())
    graph = net.add("sum", Add(), "r0", "r1").pool("pool", 4).flatten().done()
    x = samples(graph)
    text = TO_CHIP.replace("convert-activations", "convert-activations,calibrate-thresholds")
    stages = run_passes(graph, text, calibration=x)
    converted = next(s.result.graph for s in stages if s.item.name == "calibrate-thresholds")
    after = stages[-1].result.graph
    assert {node.name for node in after if node.is_neuron} == {"r0", "r1"}
    assert_same_function(converted, after, x)


@pytest.mark.parametrize("kind", DECODE_KINDS)
@pytest.mark.parametrize("bias", [False, True])
def test_currents_are_integrated_and_spikes_are_not(kind: str, bias: bool) -> None:
    """Decode of a linear layer and of spikes at once; weighted kinds through a Collect."""
    net = two_populations().flatten().linear("fc", 5, bias=bias).linear("fc2", 5, "flatten", bias=bias)
    net.linear("small", 5, "flatten").neuron("c", threshold=[0.3]).add("sum", Add(), "fc", "c", "fc2")
    graph = net.add("decode", Decode(kind, 1.5, period=4)).done()
    after = lower(graph)
    assert [n.name for n in after if n.is_neuron and not n.is_spiking] == ["fc.readout"]
    assert not after.in_edges("c.decode")[1:]
    assert after.of_kind("Collect") == [] or kind in WEIGHTED_KINDS
    assert [node.op.code for node in after.of_kind("Collect")] == [kind][: kind in WEIGHTED_KINDS]
    assert_same_function(graph, after, samples(graph))


@pytest.mark.parametrize("kind", WEIGHTED_KINDS)
def test_weighted_currents_in_integers(kind: str) -> None:
    """The whole pipeline; the chip's integers give what the dequantised network does in real numbers."""
    net = Net((6,), 8).encode().linear("l0", 12).neuron("a", threshold=[0.4]).linear("fc", 5)
    graph = net.add("decode", Decode(kind, 2.0)).done()
    x = samples(graph, 64)
    stages = run_passes(graph, DEFAULT_PIPELINE, calibration=x)
    last = stages[-1].result.graph
    floating, integers = FloatExecutor(last).run(x).output, LoihiExecutor(last).run(x).output
    assert np.abs(floating - integers).max() < 0.01 * np.abs(floating).max()
    trained = FloatExecutor(graph).run(x).output
    assert np.abs(trained - integers).mean() < 0.05 * np.abs(trained).max()
    assert {node.schedule.depth for node in last if node.is_neuron} == {0, 9}  # a window later


def test_spikes_and_potentials_are_read_apart() -> None:
    """The host reads potentials when a window ends, and spikes in every step: not in one Decode."""
    net = two_populations().conv("c2", 4, padding=1)
    dynamics = Dynamics(integrator="none", decay=0.5, gain=1.0)
    one = np.ones((1, 1, 1))
    net.add("v", nir.LI(tau=one, r=one, v_leak=0 * one), dynamics=dynamics)
    graph = net.add("decode", Decode("last"), "v", "b").done()
    after = lower(graph)
    assert sorted(edge.src for node in after.of_kind("Decode") for edge in after.in_edges(node.name)) == ["b", "v"]
    assert len(after.of_kind("Decode")) == 2
    assert_same_function(graph, after, samples(graph))


@pytest.mark.parametrize("kind", DECODE_KINDS)
def test_what_is_encoded_directly_and_decoded_again_never_leaves_the_host(kind: str) -> None:
    """With spikes beside it, as in a residual block, or alone."""
    net = Net((3, 4, 4), 8).encode().conv("c0", 3, 1).neuron("a", threshold=[[[0.3]]]).add("sum", Add(), "a", "encode")
    graph = net.add("decode", Decode(kind, 1.5, period=4)).done()
    after = lower(graph)
    assert {node.name for node in after if node.is_neuron} == {"a"}
    assert_same_function(graph, after, samples(graph))
    alone = Net((3,), 8).encode().linear("fc", 2, "encode")
    alone.neuron("n", "encode", threshold=[0.3]).linear("fc2", 2).add("sum", Add(), "fc", "fc2").add("d", Decode(kind))
    graph = alone.done()
    assert_same_function(graph, lower(graph), samples(graph))


def test_an_encoding_is_decoded_on_the_host() -> None:
    """Spikes that the host makes, added to those of neurons: no synapses back from the chip."""
    net = Net((3, 4, 4), 4).add("events", Encode("bitplane", 2.0)).conv("c0", 3, 1).neuron("a", threshold=[[[0.3]]])
    graph = net.add("sum", Add(), "a", "events").add("decode", Decode("bitplane", 2.0)).done()
    after = lower(graph)
    assert {edge.src for edge in after.in_edges("decode")} == {"a", "events"}
    assert {node.name for node in after if node.is_neuron} == {"a"}
    assert_same_function(graph, after, samples(graph))


@pytest.mark.parametrize("kind", WEIGHTED_KINDS)
def test_a_window_behind_a_window(kind: str) -> None:
    """What a Collect presents is a constant to the decoder; beside currents still to be weighed it is refused."""
    net = Net((4,), 8).encode().linear("l0", 5).neuron("a", threshold=[0.4]).linear("fc", 3)
    net.add("collect", Collect("rate", np.ones(1)))
    graph = net.add("decode", Decode(kind, 2.0)).done()
    assert_same_function(graph, lower(graph), samples(graph))
    net = Net((4,), 8).encode().linear("l0", 5).neuron("a", threshold=[0.4]).linear("fc", 3)
    net.add("collect", Collect("rate", np.zeros(1))).linear("also", 3, "a").add("sum", Add(), "collect", "also")
    graph = net.add("decode", Decode(kind)).done()
    with pytest.raises(HsnnError) as error:
        lower(graph)
    assert [finding.code for finding in error.value.findings] == ["E0456"]


def test_hybrid_networks_stay_what_they_are() -> None:
    """Several turns of host and chip, every kind of crossing, before any integer."""
    for seed in range(15):
        graph, x = random_hybrid(Picks.seeded(seed))
        assert_same_function(graph, run_passes(graph, TO_CHIP, calibration=x)[-1].result.graph, x)
