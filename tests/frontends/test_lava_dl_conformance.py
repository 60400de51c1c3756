"""Networks and recordings that lava-dl publishes: the very spikes, and Lava agrees."""

from __future__ import annotations

import nir
import numpy as np
import pytest
from conformance import PUBLISHED

from hsnn_compiler.backends.lava.presence import lava_version
from hsnn_compiler.backends.lava.simulate_raw import run_raw
from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.frontends.lava_dl import read_input_transform, read_net
from hsnn_compiler.ir import Dynamics, Edge, Graph, Node, Placement
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.quant import NeuronQuant, WeightQuant
from hsnn_compiler.ir.types import Coding, TensorType
from hsnn_compiler.reference.loihi_executor import LoihiExecutor
from hsnn_compiler.verify.traces import compare

DATA = PUBLISHED / "lava_dl"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="lava-dl's published data are not beside the repository")
needs_lava = pytest.mark.skipif(lava_version() is None, reason="lava-nc is not installed")
PERIOD = 17
"""tinynet's reset interval."""


def test_dense_recording() -> None:
    """One layer of 200 to 256 neurons: none of 512000 spikes and none of 512000 currents differs."""
    data = np.load(DATA / "dense" / "dense.npz")
    weight, chip, one = data["weight"].astype(np.int32), Placement("chip"), np.ones(1)
    graph = Graph("dense")
    graph.add(Node("x", nir.Input(np.array([200])), TensorType((200,), Coding.SPIKES)))
    quant = WeightQuant(weight, 0, 8, "mixed", 1.0)
    graph.add(Node("w", nir.Linear(weight.astype(float)), placement=chip, quant=quant), Edge("x", "w", delay=1))
    neurons = NeuronQuant(4095, 415, 6, 0, np.zeros(256, np.int32), 6, 1.0)
    op = nir.LIF(tau=one * 4096 / 415, r=one, v_leak=0 * one, v_threshold=6 * one)
    graph.add(Node("n", op, dynamics=Dynamics(), placement=chip, quant=neurons), "w")
    graph.add(Node("y", nir.Output(np.array([256]))), "n")
    result = LoihiExecutor(infer_types(graph)).run(data["input"].T[None], [("w", "s")])
    assert data["output"].sum() > 1000
    assert data["output"].size == 512_000
    assert np.count_nonzero(data["output"] != result.output[0].T) == 0
    assert np.count_nonzero(data["current"] != result.trace["w", "s"][0].T) == 0


def load(name: str) -> np.ndarray:
    """A recording of tinynet, [channels, x, y, time] without the batch axis."""
    return np.load(DATA / "tinynet" / f"{name}.npy")[0]


def test_tinynet_recordings() -> None:
    """Three layers, biases, convolutions with stride, resets: every period repeats the recordings exactly.

    A recording begins one step before its layer: SLAYER delays what a layer puts out by one step.
    """
    graph, findings = read_net(DATA / "tinynet" / "tiny.net")
    assert [f.code for f in findings] == ["I0250"]
    bias = np.load(DATA / "tinynet" / "input_bias.npy").transpose(2, 1, 0)  # (x, y, channel)
    x = np.broadcast_to(bias, (1, 3 * PERIOD + 4, *bias.shape))
    record = [(f"layer{i}", "s") for i in range(3)] + [("layer1.weight", "s")]
    trace = LoihiExecutor(graph).run(x, record, reset_interval=PERIOD).trace
    wanted = {"layer0": load("input"), "layer1": load("layer1"), "layer2": load("output")}
    for layer, (name, recorded) in enumerate(wanted.items()):
        assert recorded.sum() > 50
        assert not recorded[..., 0].any()
        for period in range(3):
            start = period * PERIOD + layer
            own = np.moveaxis(trace[name, "s"][0, start : start + 15], 0, -1)
            np.testing.assert_array_equal(own, recorded[..., 1:], err_msg=f"{name}, period {period}")
    currents = np.moveaxis(trace["layer1.weight", "s"][0, :16], 0, -1)
    np.testing.assert_array_equal(currents, load("current"))


def on_both(name: str, x: np.ndarray, reset_interval: int | None) -> tuple[list[Finding], dict[str, int]]:
    """Run a published network in the executor and on Lava, and compare everything there is."""
    graph, findings = read_net(DATA / name)
    record = [(n.name, v) for n in graph if n.is_neuron for v in ("suv" if n.is_spiking else "uv")]
    reference = LoihiExecutor(graph).run(x, record, reset_interval=reset_interval)
    lava = run_raw(graph, x, record, reset_interval=reset_interval, deadline_s=200)
    assert set(lava.trace) == set(record)
    differences = compare(lava, reference)
    assert not differences, "\n".join(map(str, differences))
    np.testing.assert_array_equal(lava.output, reference.output)
    return findings, reference.spikes


@needs_lava
def test_tinynet_on_lava() -> None:
    bias = np.load(DATA / "tinynet" / "input_bias.npy").transpose(2, 1, 0)
    x = np.broadcast_to(bias, (1, 2 * PERIOD, *bias.shape))
    _, spikes = on_both("tinynet/tiny.net", x, PERIOD)
    assert all(count > 50 for count in spikes.values())


@needs_lava
def test_oxford_on_lava() -> None:
    x = np.load(DATA / "oxford" / "input.npz")["input"].T[None]
    findings, spikes = on_both("oxford/network.net", x, None)
    assert [f.code for f in findings] == ["I0250"]  # that it is fed from outside
    assert spikes == {"layer0": 1826, "layer1": 9565}


@needs_lava
def test_mnist_on_lava() -> None:
    """Trained network, random images, each for 16 steps, reset as each begins."""
    transform = read_input_transform(DATA / "mnist_network.net")
    assert transform is not None
    images = transform.apply(np.random.default_rng(0).random((3, 784)))
    findings, spikes = on_both("mnist_network.net", images.repeat(16, 0)[None], 16)
    assert [f.code for f in findings] == ["I0250", "I0250"]
    assert all(count > 1000 for count in spikes.values())
