"""Converted neurons that fire several times in a step: conversion, quantisation, and what verify says of them."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from value_graphs import Net, outputs, run_passes

import hsnn_compiler as hc
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.driver import lower
from hsnn_compiler.ir import Dynamics, Graph
from hsnn_compiler.ir.ops import MaxPool2d, ReLU
from hsnn_compiler.ir.quant import NeuronQuant, WeightQuant
from hsnn_compiler.options import Options
from hsnn_compiler.passes.pipeline import DEFAULT_PIPELINE
from hsnn_compiler.program import Program
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.reference.loihi_executor import LoihiExecutor
from hsnn_compiler.report.sections import sections

PLAIN = DEFAULT_PIPELINE.replace("calibrate-thresholds", "calibrate-thresholds{method=max,correct=none}")


def ann(seed: int = 0) -> Graph:
    net = Net((2, 8, 8), seed=seed).conv("c0", 6, padding=1).add("r0", ReLU()).conv("c1", 8, stride=2)
    net.add("r1", ReLU()).pool("pool", 3, 1).flatten().linear("fc0", 20).add("r2", ReLU())
    return net.linear("fc1", 5).done()


def data(n: int = 64, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 2, 8, 8)).astype(np.float32)


def program(graph: Graph, timesteps: int, max_spikes: int, pipeline: str = PLAIN) -> Program:
    return lower(graph, Options(timesteps=timesteps, max_spikes=max_spikes, pipeline=pipeline), data())


@pytest.mark.parametrize(("steps", "most"), [(1, 7), (3, 5), (4, 2), (5, 1)])
def test_a_constant_input_is_rounded_to_as_many_levels_as_there_can_be_spikes(steps: int, most: int) -> None:
    """clip(floor(x T / theta + 1/2), 0, N T) spikes, each worth theta / T."""
    graph = Net((4000,)).add("r", ReLU()).done()
    x = np.random.default_rng(0).uniform(-0.3, 1.4, (1, 4000)).astype(np.float32)
    text = "remove-noops,partition,convert-activations,calibrate-thresholds{method=max,correct=none}"
    after = run_passes(graph, text, calibration=np.ones((2, 4000), np.float32), timesteps=steps, max_spikes=most)
    got = outputs(after[-1].result.graph, x.astype(np.float64))
    theta = 1 / most
    wanted = np.clip(np.floor(x.astype(np.float64) * steps / theta + 0.5), 0, most * steps) * theta / steps
    np.testing.assert_allclose(got, wanted, atol=1e-12)
    assert len(np.unique(np.rint(got * steps / theta))) == most * steps + 1


def test_conversion_and_its_types() -> None:
    stages = run_passes(ann(), PLAIN, calibration=data(), timesteps=2, max_spikes=15)
    after = stages[-1].result.graph
    neurons = [node for node in after if node.is_spiking]
    assert [node.dynamics.max_spikes for node in neurons] == [15] * 3  # type: ignore[union-attr]
    assert {node.type.coding.value for node in neurons} == {"graded"}  # type: ignore[union-attr]
    synapses = [node.quant for node in after if node.is_synapse and node.on_chip]
    assert [quant.message_bits for quant in synapses if isinstance(quant, WeightQuant)] == [5, 5, 5]
    notes = next(stage.result.notes for stage in stages if stage.item.name == "convert-activations")
    assert "up to 15 spikes per step" in notes[0]


def test_more_spikes_per_step_come_closer() -> None:
    graph, x = ann(), data(48, seed=8)
    truth = FloatExecutor(graph).run(x).output
    floats, integers = {}, {}
    for most in (1, 7, 31):
        made = program(graph, 1, most)
        floats[most] = float(np.sqrt(((FloatExecutor(made.floating).run(x).output - truth) ** 2).mean()))
        integers[most] = float(np.sqrt(((LoihiExecutor(made.graph).run(x).output - truth) ** 2).mean()))
    assert floats[31] < 0.4 * floats[7] < 0.4**2 * floats[1]
    assert integers[31] < 0.7 * integers[7] < 0.7 * 0.3 * integers[1]


@pytest.mark.parametrize(("steps", "most"), [(1, 255), (4, 255), (4, 31), (16, 15)])
def test_no_current_wraps_and_nothing_saturates_on_the_data_it_was_calibrated_on(steps: int, most: int) -> None:
    made = program(ann(), steps, most)
    result = LoihiExecutor(made.graph).run(data(), [(n.name, "u") for n in made.graph if n.is_neuron])
    assert sum(result.saturated.values()) == 0
    largest = max(int(np.abs(result.trace[n.name, "u"]).max()) for n in made.graph if n.is_neuron)
    assert most < 100 or largest > 2**20, "currents this small need no care"
    assert any(result.trace[n.name, "u"].size for n in made.graph if n.is_spiking)


def test_the_quantised_network_computes_what_its_dequantised_form_does() -> None:
    """Counts differ where a potential is next to a threshold; sums of currents that are shifted lose their fraction."""
    made = program(ann(), 3, 15)
    record = [(node.name, "s") for node in made.graph if node.is_spiking]
    real = FloatExecutor(made.graph, torch.float64).run(data(32), record)
    integers = LoihiExecutor(made.graph).run(data(32), record)
    for key in record:
        off = np.abs(real.trace[key] - integers.trace[key])
        assert integers.trace[key].max() > 3
        assert (off > 0).mean() < 0.06
        assert off.mean() < 0.03 * real.trace[key].mean()


def refused(**options: object) -> list[str]:
    with pytest.raises(HsnnError) as error:
        lower(ann(), Options(timesteps=4, **options), data())  # type: ignore[arg-type]
    return [finding.code for finding in error.value.findings]


def test_what_does_not_go_together() -> None:
    assert refused(max_spikes=3, reset="zero") == ["E0467"]
    assert refused(max_spikes=3, coding="ttfs") == ["E0467"]
    assert refused(max_spikes=256) == ["E0217"]
    assert refused(max_spikes=0) == ["E0217"]


def spiking(**dynamics: object) -> Graph:
    net = Net((6,), timesteps=4, seed=2).encode().linear("fc0", 12)
    net.add("n0", nir.IF(*(k * np.ones(1) for k in (1, 0.2, 0))), dynamics=Dynamics("none" and 1.0, "none", **dynamics))  # type: ignore[arg-type]
    net.linear("fc1", 8).neuron("n1", threshold=[0.4])
    return net.done("mean")


def test_the_models_own_neurons_are_left_alone() -> None:
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    made = lower(spiking(reset="subtract"), Options(max_spikes=9), x)
    assert [finding.code for finding in made.findings] == ["W0448"]
    assert made.graph["n0"].dynamics.max_spikes == 1  # type: ignore[union-attr]


def test_neurons_trained_to_fire_several_times() -> None:
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    made = lower(spiking(reset="subtract", max_spikes=6), Options(), x)
    record = [("n0", "s"), ("n1", "s")]
    real, integers = FloatExecutor(made.floating).run(x, record), LoihiExecutor(made.graph).run(x, record)
    assert made.graph["fc1"].quant.message_bits == 4  # type: ignore[union-attr]
    for key, most in zip(record, (6, 1), strict=True):
        assert real.trace[key].max() == integers.trace[key].max() == most
        assert (real.trace[key] != integers.trace[key]).mean() < 0.02
        # A graded spike is one message, whatever its payload.
        assert real.spikes[key[0]] == np.count_nonzero(real.trace[key])
        assert integers.spikes[key[0]] == np.count_nonzero(integers.trace[key])
    for wrong in ({"reset": "zero", "max_spikes": 3}, {"reset": "subtract", "max_spikes": 0},
                  {"reset": "subtract", "max_spikes": 300},
                  {"reset": "subtract", "max_spikes": 3, "reset_at": "after"}):  # fmt: skip
        with pytest.raises(HsnnError) as error:
            lower(spiking(**wrong), Options(), x)
        assert "E0453" in {finding.code for finding in error.value.findings}


def test_max_pooling_of_graded_spikes_is_not_one_of_spikes() -> None:
    for most, kept in ((1, False), (4, True)):
        net = Net((2, 6, 6), timesteps=4).encode().conv("c0", 3)
        ones = np.ones((1, 1, 1))
        how = Dynamics(integrator="none", reset="subtract", max_spikes=most)
        net.add("n0", nir.IF(ones, 0.3 * ones, 0 * ones), dynamics=how).add("max", MaxPool2d((2, 2), (2, 2), (0, 0)))
        graph = net.flatten().linear("fc", 3).done("mean")
        after = run_passes(graph, "lower-max-pooling")[-1].result.graph
        assert (after["max"].kind == "MaxPool2d") is kept


def test_constants_and_start_potentials_per_neuron() -> None:
    """Leaks become part of the bias, wherever it comes from; start potentials are kept one by one."""
    rng = np.random.default_rng(4)
    net = Net((2, 5, 5), timesteps=6, seed=1).encode()
    ones = np.ones((2, 1, 1))
    start, leak = rng.uniform(-0.4, 0.4, (2, 5, 5)), rng.uniform(-0.1, 0.2, (2, 1, 1))
    how = {"integrator": "none", "reset": "subtract"}
    first = nir.IF(ones, np.array([0.5, 0.7]).reshape(2, 1, 1), 0 * ones)
    net.add("n0", first, dynamics=Dynamics(**how, v_init=start, leak=leak))  # type: ignore[arg-type]
    net.conv("c1", 3, padding=1)
    op = nir.IF(*(k * np.ones((3, 1, 1)) for k in (1, 0.5, 0)))
    net.add("n1", op, dynamics=Dynamics(**how, leak=rng.uniform(-0.1, 0.1, (3, 5, 5))))  # type: ignore[arg-type]
    net.flatten().linear("fc", 7, bias=False)
    last = nir.IF(*(k * np.ones(7) for k in (1, 0.6, 0)))
    net.add("n2", last, dynamics=Dynamics(**how, v_init=rng.uniform(0, 0.5, 7), leak=rng.uniform(0, 0.3, 7)))  # type: ignore[arg-type]
    graph, x = net.done("mean"), np.random.default_rng(0).normal(size=(64, 2, 5, 5)).astype(np.float32)
    stages = run_passes(graph, DEFAULT_PIPELINE, calibration=x)
    before = next(s.result.graph for s in stages if s.item.name == "lower-connections")
    after = stages[-1].result.graph
    record = [(name, "s") for name in ("n0", "n1", "n2")]
    source, real = (FloatExecutor(g, torch.float64).run(x, record) for g in (graph, before))
    dequantised, integers = FloatExecutor(after, torch.float64).run(x, record), LoihiExecutor(after).run(x, record)
    for key in record:
        np.testing.assert_array_equal(source.trace[key], real.trace[key])
        assert (real.trace[key] != integers.trace[key]).mean() < 0.05
        assert (dequantised.trace[key] != integers.trace[key]).mean() < 0.002
        assert 0.05 < integers.trace[key].mean() < 0.95
    quants = [after[name].quant for name, _ in record]
    assert all(isinstance(quant, NeuronQuant) for quant in quants)
    assert [np.shape(quant.v_init) for quant in quants] == [(2, 5, 5), (), (7,)]  # type: ignore[union-attr]
    assert [np.shape(quant.bias_mant) for quant in quants] == [(2, 1, 1), (3, 5, 5), (7,)]  # type: ignore[union-attr]


def test_a_start_potential_beyond_24_bits_is_refused() -> None:
    graph = spiking(reset="subtract", v_init=np.linspace(0, 1e6, 12))
    with pytest.raises(HsnnError) as error:
        lower(graph, Options(), np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32))
    assert [finding.code for finding in error.value.findings if finding.is_error] == ["E0453"]


def test_verify_counts_payloads_as_spikes() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 40), torch.nn.ReLU(), torch.nn.Linear(40, 30), torch.nn.ReLU(),
                                torch.nn.Linear(30, 4)).eval()  # fmt: skip
    x = np.random.default_rng(1).normal(size=(60, 20)).astype(np.float32)
    made = hc.compile(model, calibration=x, timesteps=2, max_spikes=31)
    done = made.verify(model, x, calibration=x)
    assert done.ok
    last = done.outcomes[-1]
    result = made.simulate(x, record=["_1"])
    assert last.layers["_1"].rate == pytest.approx(result.trace["_1", "s"].mean())
    assert last.layers["_1"].rate > 1.5
    assert last.spikes == result.spikes["_1"] + result.spikes["_3"]
    for layer in last.layers.values():
        assert layer.correlation > 0.99  # type: ignore[operator]
        assert layer.rounding < 0.03  # type: ignore[operator]
        assert layer.clipping < 0.05  # type: ignore[operator]
    assert not [cause for cause in done.causes if cause.kind in ("too few steps", "threshold too low")]
    told = [str(cell) for table in sections(made) for row in table.rows for cell in row]
    assert any("up to 31 spikes per step" in cell for cell in told)
