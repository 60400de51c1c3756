"""Costs against brute force: every spike of every neuron, every entry of every synapse op's dense matrix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from chip_graphs import random_network
from picks import Picks
from raw_graphs import random_raw

import hsnn_compiler as hc
from hsnn_compiler import costs
from hsnn_compiler.costs import energy_notes, run_counted
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.driver import capture_model
from hsnn_compiler.ir import Graph
from hsnn_compiler.ir.fan_out import fan_out
from hsnn_compiler.passes.usage import chip_weights, connections
from hsnn_compiler.reference.batches import has_time
from hsnn_compiler.reference.loihi_executor import LoihiExecutor
from hsnn_compiler.reference.torch_ops import bind
from hsnn_compiler.targets import load_target

FILTERS = [
    (torch.nn.Conv2d(3, 4, 3, padding=1), (3, 5, 6)),
    (torch.nn.Conv2d(2, 3, (3, 2), stride=2), (2, 6, 7)),
    (torch.nn.Conv2d(4, 6, 3, stride=(1, 3), dilation=(2, 1), padding=(2, 0), groups=2), (4, 7, 8)),
    (torch.nn.Conv2d(4, 4, 3, groups=4, padding="same"), (4, 5, 5)),
    (torch.nn.Conv2d(2, 2, 2, stride=3), (2, 6, 6)),  # some pixels are never looked at
]


def pattern(op: object, weights: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Which inputs reach which outputs, [inputs, outputs], by what the op answers to each single spike."""
    ones = {"weight": (weights != 0).astype(np.float64)}
    if hasattr(op, "bias"):
        ones["bias"] = np.zeros_like(op.bias)
    function = bind(replace(op, **ones), torch.float64)
    one_hot = torch.eye(int(np.prod(shape)), dtype=torch.float64).reshape(-1, *shape)
    return function(one_hot).reshape(len(one_hot), -1).numpy() > 0.5


def brute_force(graph: Graph, executor: LoihiExecutor, inputs: object, reset: int | None = None) -> float:
    """Synaptic operations of all samples: each event, at each synapse that it reaches."""
    synapses = [node for node in graph if node.is_synapse and has_time(node) and (not node.placement or node.on_chip)]
    sources = {(edge.src, "s") for node in synapses for edge in graph.in_edges(node.name)}
    trace = executor.run(inputs, sources, reset_interval=reset).trace
    total = 0
    for node in synapses:
        for edge in graph.in_edges(node.name):
            shape = graph[edge.src].shape
            reach = pattern(node.op, chip_weights(node), shape).sum(1)
            events = trace[edge.src, "s"].reshape(-1, len(reach)) != 0
            for step in events:
                total += int(reach[step].sum())
    return total


@pytest.mark.parametrize(("layer", "shape"), FILTERS)
def test_fan_out_of_convolutions_is_what_the_op_answers_to_each_spike(layer, shape):
    with torch.no_grad():
        layer.weight[torch.rand_like(layer.weight) < 0.3] = 0
    graph, _ = capture_model(torch.nn.Sequential(layer, torch.nn.ReLU()), np.zeros((2, *shape), "f"), "n")
    node = next(node for node in graph if node.is_synapse)
    found = fan_out(node.op, chip_weights(node), shape)
    assert np.array_equal(found.ravel(), pattern(node.op, chip_weights(node), shape).sum(1))
    assert found.sum() == connections(graph, node)


def test_costs_of_random_chip_networks_are_those_of_brute_force():
    reached = 0
    for seed in range(20):
        graph, x = random_network(Picks.seeded(seed))
        executor = LoihiExecutor(graph)
        result, counted = run_counted(graph, x, lambda part, record, bar, run=executor.run: run(part, record))
        assert counted is not None
        assert counted.synaptic_operations * len(x) == pytest.approx(brute_force(graph, executor, x), rel=1e-12)
        assert counted.spikes * len(x) == pytest.approx(sum(result.spikes.values()))
        neurons = sum(node.type.size for node in graph if node.is_neuron)
        assert counted.membrane_updates == graph.timesteps * neurons
        assert counted.host_multiplications == 0
        assert not result.trace
        reached += counted.synaptic_operations > 0
    assert reached > 8


def test_costs_of_random_raw_networks_with_loops_delays_and_payloads():
    reached = entered = 0
    for seed in range(12):
        raw = random_raw(Picks.seeded(seed), samples=2)
        executor = LoihiExecutor(raw.graph)
        _, counted = run_counted(
            raw.graph,
            raw.inputs,
            lambda part, record, bar, run=executor.run, n=raw.reset_interval: run(part, record, reset_interval=n),
        )
        assert counted is not None
        expected = brute_force(raw.graph, executor, raw.inputs, raw.reset_interval)
        assert counted.synaptic_operations * 2 == pytest.approx(expected, rel=1e-12)
        assert counted.input_events == sum(np.count_nonzero(array) for array in raw.inputs.values()) / 2
        reached += counted.synaptic_operations > 0
        entered += counted.input_events > 0
    assert reached > 8
    assert entered > 8


@pytest.fixture(scope="module")
def program():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.AvgPool2d(2),
        torch.nn.Conv2d(4, 6, 3, stride=2, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(24, 3),
    )  # fmt: skip
    x = np.random.default_rng(0).random((20, 1, 8, 8), np.float32)
    return hc.compile(model, calibration=x, timesteps=6), x


def test_a_compiled_network_counts_the_host_apart(program):
    made, x = program
    result, counted = made.count(x)
    assert counted is not None
    assert np.array_equal(result.output, made.simulate(x).output)
    assert counted.spikes == sum(made.simulate(x).spikes.values()) / len(x)
    assert counted.synaptic_operations * len(x) == brute_force(made.graph, LoihiExecutor(made.graph), x)
    assert counted.host_multiplications == 4 * 22**2  # 3 taps along each of 8 positions, but 2 at both borders
    assert counted.membrane_updates == 6 * (4 * 64 + 24 + 3)
    assert counted.input_events == 0


def test_parts_give_what_one_run_gives(program, monkeypatch):
    made, x = program
    done = []
    whole, counted = made.count(x, record=["_1"])
    monkeypatch.setattr(costs, "RECORDED_BYTES", 3 * 4 * 6 * (4 * 64 + 24) + 1)
    parts, again = made.count(x, record=["_1"], progress=lambda *told: done.append(told))
    assert again == counted
    assert np.array_equal(parts.output, whole.output)
    assert set(parts.trace) == set(whole.trace) == {("_1", "s")}
    assert np.array_equal(parts.trace["_1", "s"], whole.trace["_1", "s"])
    assert done[-1] == (20, 20)
    assert len(done) == 7  # three samples at a time


def test_a_sample_too_large_to_record_is_run_and_not_counted(program, monkeypatch):
    made, x = program
    monkeypatch.setattr(costs, "RECORDED_BYTES", 1000)
    result, counted = made.count(x)
    assert counted is None
    assert np.array_equal(result.output, made.simulate(x).output)


def test_energy_is_operations_times_constants_and_says_where_they_come_from(program):
    made, x = program
    counted = made.count(x)[1]
    chip = load_target("loihi2")
    expected = 23.6e-12 * counted.synaptic_operations + 81e-12 * counted.membrane_updates
    assert counted.energy(chip) == pytest.approx(expected)
    notes = " ".join(energy_notes(chip))
    for said in ("estimate", "confidence low", "Loihi 1", "none is public for Loihi 2", "Davies 2018", "left out"):
        assert said in notes


def test_nothing_is_counted_on_lava(program):
    with pytest.raises(HsnnError) as caught:
        program[0].count(program[1], "lava")
    assert caught.value.findings[0].code == "E0202"
