"""Quantisation: bounds, formats, dequantised parameters, and what is refused."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from picks import Picks, picks
from value_graphs import Net, run_passes

from hsnn_compiler.backends.lava.emit import check
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Dynamics, Edge, Graph, Node
from hsnn_compiler.ir.dynamics import discretize
from hsnn_compiler.ir.ops import BatchNorm, ReLU
from hsnn_compiler.ir.quant import CurrentQuant, NeuronQuant, WeightQuant
from hsnn_compiler.passes.loihi_format import WeightFormat, bias_exponent, decay_integer, weight_format
from hsnn_compiler.passes.pipeline import DEFAULT_PIPELINE
from hsnn_compiler.reference.loihi_ends import mantissas
from hsnn_compiler.reference.loihi_executor import LoihiExecutor
from hsnn_compiler.reference.loihi_synapse import lava_dense_weights


def data(graph: Graph, n: int = 16, size: float = 1.0) -> np.ndarray:
    return size * np.random.default_rng(5).normal(size=(n, *graph["x"].shape)).astype(np.float32)


def compile_(graph: Graph, pipeline: str = DEFAULT_PIPELINE, **context: object) -> Graph:
    return run_passes(graph, pipeline, **({"calibration": data(graph)} | context))[-1].result.graph


@settings(max_examples=200)
@given(picks())
def test_weights_fit_the_format_and_the_bound(p: Picks) -> None:
    rng, bits = p.rng(), p.integer(2, 8)
    weight = rng.normal(size=(p.integer(1, 5), p.integer(1, 5)))
    weight = p.choice([weight, np.abs(weight), -np.abs(weight), 0 * weight, np.minimum(weight, 1e-4)])
    form = weight_format(weight, bits)
    fits = form.largest_scale(weight)
    scale = 1.0 if np.isinf(fits) else fits * p.choice([1.0, 0.9, 0.1])
    integers, clipped = form.round(weight, scale)
    # What Lava's Dense would make of them is what they are.
    np.testing.assert_array_equal(lava_dense_weights(integers, bits), integers)
    if clipped == 0:
        assert np.abs(weight - integers / scale).max() <= form.step / (2 * scale) * (1 + 1e-9)


def test_formats() -> None:
    assert (WeightFormat("mixed", 8).low, WeightFormat("mixed", 8).high, WeightFormat("mixed", 8).step) == (
        -256,
        254,
        2,
    )
    assert (WeightFormat("excitatory", 8).low, WeightFormat("excitatory", 8).high) == (0, 255)
    assert (WeightFormat("inhibitory", 8).low, WeightFormat("inhibitory", 8).high) == (-255, 0)
    assert (WeightFormat("mixed", 4).high, WeightFormat("excitatory", 4).high) == (224, 240)
    for largest in (0, 1, 4095, 4096, 4096 * 128 - 200, 1e9):
        exponent = bias_exponent(largest)
        assert largest <= 4095 * 2**exponent
        assert exponent == 0 or largest > 4095 * 2 ** (exponent - 1)
    assert [decay_integer(d) for d in (1.0, 0.5, 0.0, 1 - 1 / 4096)] == [0, 2048, 4095, 1]


@settings(max_examples=30)
@given(picks())
def test_networks_keep_to_the_chips_numbers(p: Picks) -> None:
    net = Net((2, 5, 5), timesteps=8, seed=p.integer(0, 99)).encode().conv("c0", 3, padding=1)
    reset = p.choice(["zero", "subtract"])
    net.neuron("n0", threshold=net.rng.uniform(0.3, 1, (3, 1, 1)), reset=reset).conv("c1", 4).neuron("n1", reset=reset)
    graph = net.flatten().linear("fc", 3, bias=p.flag()).done("mean")
    bits = p.choice([8, 5])
    after = compile_(graph, DEFAULT_PIPELINE.replace("quantise", f"quantise{{bits={bits}}}"))
    before = compile_(graph, DEFAULT_PIPELINE.split(",quantise", maxsplit=1)[0])
    for node in after:
        quant = node.quant
        if isinstance(quant, WeightQuant):
            form = weight_format(before[node.name].op.weight, bits)
            assert quant.bits == bits
            assert not (quant.integers % form.step).any()
            assert form.low <= quant.integers.min() <= quant.integers.max() <= form.high
            np.testing.assert_allclose(node.op.weight, quant.integers * 2.0**quant.exponent / quant.scale)
            error = np.abs(node.op.weight - before[node.name].op.weight).max()
            assert error <= form.step * 2.0**quant.exponent / (2 * quant.scale) * (1 + 1e-9)
        elif isinstance(quant, NeuronQuant):
            unit = quant.scale * 64
            step = discretize(node.op, node.dynamics)
            assert 0 <= quant.vth < 2**17
            assert 0 <= quant.du <= 4095
            assert 0 <= quant.dv <= 4095
            assert np.abs(quant.bias_mant).max(initial=0) <= 4095
            assert 0 <= quant.bias_exp <= 7
            np.testing.assert_allclose(step.decay, 1 - quant.dv / 4096)
            np.testing.assert_allclose(step.v_init * unit, quant.v_init, atol=1e-6)
            if step.threshold is not None:
                np.testing.assert_allclose(step.threshold * unit, quant.vth * 64)
            biases = [s.op.bias for s in after.predecessors(node.name) if hasattr(s.op, "bias")]
            if biases:
                total = np.broadcast_to(sum(biases), node.shape[:1])
                stored = (
                    np.broadcast_to(quant.bias_mant, node.shape).reshape(node.shape[0], -1)[:, 0] * 2.0**quant.bias_exp
                )
                np.testing.assert_allclose(total * unit * step.gain, stored, atol=1e-6)
    assert LoihiExecutor(after).run(data(graph)).output.shape == (16, 3)


def test_several_analog_inputs_together_stay_within_13_bits() -> None:
    net = Net((3,), timesteps=4).encode("e1").linear("small", 3, "x")
    net.encode("e2").neuron("n", "e1")
    net.graph.connect(Edge("e2", "n"))
    graph = net.done("sum")
    after = compile_(graph)
    for size in (1.0, 100.0, -100.0):
        written = mantissas(LoihiExecutor(after), size * np.abs(data(graph)))["n"]
        assert written.min() >= -4096
        assert written.max() <= 4095
    encodes = [n.quant for n in after.of_kind("Encode")]
    assert len(encodes) == 2
    assert all(isinstance(quant, CurrentQuant) for quant in encodes)


def codes(graph: Graph, **context: object) -> set[str]:
    with pytest.raises(HsnnError) as error:
        compile_(graph, **context)
    return {finding.code for finding in error.value.findings}


def neuron_with(**parameters: object) -> Graph:
    """A network whose second population has these parameters."""
    net = Net((3,), timesteps=4).encode().neuron("in", threshold=[0.3]).linear("fc", 3)
    values = {"tau": 10.0, "r": 10.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0} | parameters
    reset = values.pop("reset", "zero")
    op = nir.LIF(**{key: np.broadcast_to(np.asarray(value, float), 3).copy() for key, value in values.items()})
    return net.add("n", op, dynamics=Dynamics(reset=reset)).done("sum")


def test_what_the_chip_does_not_have_is_refused() -> None:
    assert codes(neuron_with(r=-5.0)) == {"E0445"}
    assert codes(neuron_with(reset="none")) == {"E0444"}
    assert codes(neuron_with(reset="value", v_reset=-0.5)) == {"E0444"}
    huge = neuron_with()
    huge.update("fc", op=nir.Affine(np.diag([1.0, 1.0, 1000.0]), np.zeros(3)))
    assert codes(huge) == {"E0443"}
    biased = neuron_with()
    biased.update("fc", op=nir.Affine(np.eye(3), np.array([0, 0, 1e4])))
    assert codes(biased) == {"E0442"}


def test_all_findings_of_a_pass_come_together() -> None:
    net = Net((3,), timesteps=4).encode()
    for i in range(2):
        op = nir.LIF(5 * np.ones(3), -np.ones(3), np.zeros(3), np.ones(3), np.zeros(3))
        net.linear(f"fc{i}", 3).add(f"n{i}", op, dynamics=Dynamics())
    with pytest.raises(HsnnError) as error:
        compile_(net.done("sum"))
    assert [finding.node for finding in error.value.findings] == ["n0", "n1"]


@pytest.mark.parametrize("bits", [0, 1, 9, -3])
def test_bits_out_of_range(bits: int) -> None:
    graph = neuron_with()
    with pytest.raises(HsnnError) as error:
        compile_(graph, DEFAULT_PIPELINE.replace("quantise", f"quantise{{bits={bits}}}"))
    assert error.value.findings[0].code == "E0212"
    assert codes(graph, layers={"fc": {"bits": str(bits)}}) == {"E0212"}


def test_bits_of_one_layer() -> None:
    after = compile_(neuron_with(), layers={"fc": {"bits": "4"}})
    assert after["fc"].quant.bits == 4  # type: ignore[union-attr]


def test_a_huge_batch_norm_channel_is_refused() -> None:
    net = Net((3, 6, 6), timesteps=None)
    net.conv("c0", 4).add("r0", ReLU()).conv("c1", 4)
    net.add("bn", BatchNorm(np.array([1.0, 1, 1, 1e5]), np.zeros(4), np.zeros(4), np.ones(4))).add("r1", ReLU())
    graph = net.flatten().linear("fc", 2).done()
    # A threshold for all channels: the small ones would be lost beside the huge one.
    found = codes(graph, layers={"r1": {"threshold": "1.0"}})
    assert found <= {"E0443", "E0442"}
    assert found


def test_a_start_potential_with_reset_to_zero_is_found_by_the_backend(tmp_path: Path) -> None:
    net = Net((3,), timesteps=4).encode().neuron("n", reset="zero", v_init=0.5)
    after = compile_(net.done("sum"))
    assert [finding.code for finding in check(after)] == ["E0450"]
    soft = compile_(Net((3,), timesteps=4).encode().neuron("n", reset="subtract", v_init=0.5).done("sum"))
    assert check(soft) == []


def test_quantising_needs_data() -> None:
    graph = neuron_with()
    assert codes(graph, calibration=None) == {"E0213"}


def test_currents_that_were_not_seen_are_clipped_and_counted() -> None:
    graph = neuron_with()
    after = compile_(graph)
    encode = after.of_kind("Encode")[0].name
    executor = LoihiExecutor(after)
    assert executor.run(data(graph)).saturated[encode] == 0
    assert executor.run(data(graph, size=100)).saturated[encode] > 0


def test_nodes_are_not_shared_between_before_and_after() -> None:
    graph = neuron_with()
    weight = graph["fc"].op.weight.copy()
    node: Node = graph["n"]
    compile_(graph)
    assert graph["n"] is node
    np.testing.assert_array_equal(graph["fc"].op.weight, weight)
