"""Converted activations as neurons that fire once: exactly the clipped, rounded ReLU network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from picks import Picks, picks
from value_graphs import Net, run_passes

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Graph
from hsnn_compiler.ir.ops import Add, Clip, Collect, FirstSpike, ReLU
from hsnn_compiler.passes.activations import SCALE_SUFFIX, analog_twin, converted_neurons
from hsnn_compiler.passes.properties import PROPERTIES
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.reference.torch_ops import bind

FIRST = "remove-noops,fold-batchnorm,partition,convert-activations,calibrate-thresholds{correct=none}"
REST = ",map-surrogate-to-events,map-direct-coding,merge-adds,fold-pooling,fold-scales,insert-readout,lower-connections"


def network(p: Picks) -> tuple[Graph, np.ndarray]:
    """A feed-forward network of values: convolutions, pooling, residual blocks, any end."""
    net = Net((2, 6, 6), seed=p.integer(0, 99))
    net.conv("c0", 4, padding=1).add("r0", ReLU())
    block = p.choice(["plain", "pool", "residual", "analog skip", "twice"])
    if block == "pool":
        net.pool("pool", 2)
    elif block == "residual":
        net.conv("a", 4, padding=1).add("ra", Clip(0.0, 1.5)).conv("b", 4, padding=1)
        net.add("add", Add(), "b", "r0").add("rb", ReLU())
    elif block == "analog skip":
        net.conv("a", 4, padding=1).conv("skip", 4, 1, "x").add("add", Add(), "a", "skip").add("ra", ReLU())
    elif block == "twice":
        net.conv("a", 4, padding=1).add("ra", ReLU()).add("add", Add(), "ra", "r0").conv("b", 3).add("rb", ReLU())
    end = p.choice(["linear", "neurons", "pooled"])
    if end == "linear":
        net.flatten().linear("fc", 3)
    elif end == "pooled":
        net.conv("last", 3, 1).add("rl", ReLU()).pool("out", 2)
    x = net.rng.normal(size=(8, 2, 6, 6)).astype(np.float32)
    return net.done(), x


def rounded_network(captured: Graph, timed: Graph, x: np.ndarray, steps: int) -> np.ndarray:
    """The network with each activation z replaced by clip(floor(z T / theta + 1/2), 0, T) theta / T, in float64."""
    theta = {
        node.name: torch.from_numpy(np.asarray(timed[node.name + SCALE_SUFFIX].op.scale, np.float64))
        for node in converted_neurons(timed)
    }
    values = {}
    for node in captured.topological():
        parts = [values[edge.src] for edge in captured.in_edges(node.name)]
        if node.kind == "Input":
            values[node.name] = torch.from_numpy(x.astype(np.float64))
        elif node.name in theta:
            top = theta[node.name]
            values[node.name] = torch.clamp(torch.floor(sum(parts) * steps / top + 0.5), 0, steps) * top / steps
        else:
            values[node.name] = bind(node.op, torch.float64)(sum(parts))
    return values[captured.of_kind("Output")[0].name].numpy()


@settings(max_examples=20)
@given(picks())
def test_first_spikes_compute_the_clipped_rounded_network(p: Picks) -> None:
    graph, x = network(p)
    steps = p.choice([4, 9, 16])
    stages = run_passes(graph, FIRST + REST, calibration=x, coding="ttfs", timesteps=steps)
    by_name = {stage.item.name: stage.result.graph for stage in stages}
    expected = rounded_network(graph, by_name["calibrate-thresholds"], x, steps)
    for name in ("calibrate-thresholds", "map-direct-coding", "lower-connections"):
        result = FloatExecutor(by_name[name], torch.float64).run(x)
        np.testing.assert_allclose(result.output, expected, atol=1e-9, err_msg=name)
    last = by_name["lower-connections"]
    assert PROPERTIES["neurons-and-synapses"](last)
    assert PROPERTIES["single-source"](last)
    populations = last.of_kind("FirstSpike")
    fired = FloatExecutor(last).run(x, [(node.name, "s") for node in populations]).trace
    assert all(trace.sum(1).max() <= 1 for trace in fired.values())
    assert all(len(set(node.op.threshold.flat)) == 1 for node in populations)
    assert not any(np.any(getattr(s.op, "bias", 0)) for c in last.of_kind("Collect") for s in last.predecessors(c.name))


def test_the_network_before_conversion_is_found_again() -> None:
    """Calibration looks at it; the biases that collectors took must be in it."""
    graph, x = network(Picks.seeded(3))
    timed = run_passes(graph, FIRST, calibration=x, coding="ttfs", timesteps=8)[-1].result.graph
    assert timed.of_kind("Collect")
    expected = FloatExecutor(graph).run(x).output
    np.testing.assert_allclose(FloatExecutor(analog_twin(timed)).run(x).output, expected, atol=1e-5)


def test_biases_behind_a_padded_pooling_are_collected_per_neuron() -> None:
    """Average pooling with a border lets less of the bias through there."""
    net = Net((2, 6, 6), seed=1).conv("c0", 3, 1).add("r0", ReLU()).conv("c1", 3, 1).pool("pool", 3, 2, 1)
    graph = net.add("r1", ReLU()).flatten().linear("fc", 3).done()
    x = net.rng.normal(size=(8, 2, 6, 6)).astype(np.float32)
    timed = run_passes(graph, FIRST, calibration=x, coding="ttfs", timesteps=8)[-1].result.graph
    assert timed["r1.collect"].op.bias.shape == (3, 3, 3)
    expected = rounded_network(graph, timed, x, 8)
    np.testing.assert_allclose(FloatExecutor(timed, torch.float64).run(x).output, expected, atol=1e-9)


def test_input_events_and_first_spikes() -> None:
    """Time to first spike from the input to the result: the network of the rounded input."""
    graph, x = network(Picks.seeded(0))
    x = np.abs(x)
    stages = run_passes(graph, FIRST + REST, calibration=x, coding="ttfs", timesteps=8, encode="ttfs")
    high = x.max().astype(np.float64)
    seen = (np.rint(x / high * 8) / 8 * high).astype(np.float64)
    timed = next(stage.result.graph for stage in stages if stage.item.name == "calibrate-thresholds")
    expected = rounded_network(graph, timed, seen, 8)
    last = stages[-1].result.graph
    assert not [node for node in last.of_kind("Encode") if not node.is_event_source]
    np.testing.assert_allclose(FloatExecutor(last, torch.float64).run(x).output, expected, atol=1e-6)


def test_thresholds_are_divided_out_of_what_is_collected() -> None:
    graph, x = network(Picks.seeded(5))
    last = run_passes(graph, FIRST + REST, calibration=x, coding="ttfs", timesteps=8)[-1].result.graph
    for node in last.of_kind("FirstSpike"):
        assert isinstance(node.op, FirstSpike)
        assert all(isinstance(s.op, Collect) or s.kind == "Encode" for s in last.predecessors(node.name))


def test_refusals() -> None:
    graph, x = network(Picks.seeded(0))
    with pytest.raises(HsnnError, match="E0467"):
        run_passes(graph, FIRST, calibration=x, coding="ttfs", max_spikes=4)
    text = FIRST + ",map-surrogate-to-events{mapping=statistics}"
    with pytest.raises(HsnnError, match="E0472"):
        run_passes(graph, text, calibration=x, coding="ttfs", encode="rate")
    spiking = Net((4,), 5).encode().neuron("a", threshold=[0.3]).linear("fc", 2).done("mean")
    stage = run_passes(spiking, FIRST, calibration=np.ones((2, 4), np.float32), coding="ttfs")[-2]
    assert [finding.code for finding in stage.result.findings] == ["W0448"]
