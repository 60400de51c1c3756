"""Layers of lava-dl files against PyTorch's own functions, which are what SLAYER trains with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from net_files import CUBA, SDNN, dense, image, write_net

from hsnn_compiler.backends.lava.presence import lava_version
from hsnn_compiler.backends.lava.simulate_raw import run_raw
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.frontends.lava_dl import read_net
from hsnn_compiler.ir import Graph
from hsnn_compiler.reference.loihi_executor import LoihiExecutor
from hsnn_compiler.verify.traces import compare

RNG = np.random.default_rng(1)
SHAPE = (4, 6, 8)
LOW = CUBA | {"vThMant": 0}  # spikes often
SPIKES = RNG.integers(0, 2, (1, 5, *SHAPE))
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """Every test draws the same numbers, whichever tests run."""
    RNG.bit_generator.state = START


def even(*shape: int) -> np.ndarray:
    return 2 * RNG.integers(-20, 21, shape)


def currents(graph: Graph, layer: str = "layer1.weight") -> np.ndarray:
    """What arrives at a population, [time, ...], one step after the input."""
    trace = LoihiExecutor(graph).run(SPIKES, [(layer, "s")]).trace[layer, "s"][0]
    assert not trace[0].any()
    return trace[1:]


def read(tmp_path: Path, *layers: dict) -> Graph:  # type: ignore[type-arg]
    return read_net(write_net(tmp_path / "a.net", {"type": "input", "shape": SHAPE}, *layers))[0]


def torch_spikes() -> torch.Tensor:
    return torch.from_numpy(SPIKES[0, :-1]).to(torch.float64)


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), [
    (1, 0, 1, 1), ((2, 1), (1, 2), 1, 1), (1, 1, (1, 2), 2), (2, 1, 1, 4),
])  # fmt: skip
def test_conv(tmp_path: Path, stride: object, padding: object, dilation: object, groups: int) -> None:
    weight = even(8, 4 // groups, 3, 2)
    wanted = F.conv2d(torch_spikes(), torch.from_numpy(weight).double(), None, stride, padding, dilation, groups)  # type: ignore[arg-type]
    layer = image(
        "conv",
        tuple(wanted.shape[1:]),
        weight[..., None],
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    np.testing.assert_array_equal(currents(read(tmp_path, layer)), wanted)


def test_pool(tmp_path: Path) -> None:
    layer = image("pool", (4, 3, 2), np.full((1, 1, 2, 4, 1), 6), stride=[2, 4])
    del layer["groups"]
    wanted = 6 * 8 * F.avg_pool2d(torch_spikes(), (2, 4))
    np.testing.assert_array_equal(currents(read(tmp_path, layer)), wanted)


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), [
    (1, 0, 1, 1), ((2, 3), (1, 0), 1, 1), (2, 2, (1, 2), 2), (3, 0, 1, 4),
])  # fmt: skip
def test_transposed_convolution(tmp_path: Path, stride: object, padding: object, dilation: object, groups: int) -> None:
    weight = even(4, 6 // groups if groups < 4 else 1, 3, 3)
    wanted = F.conv_transpose2d(
        torch_spikes(), torch.from_numpy(weight).double(), None, stride, padding, 0, groups, dilation  # type: ignore[arg-type]
    )  # fmt: skip
    layer = image(
        "convT",
        tuple(wanted.shape[1:]),
        weight[..., None],
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    np.testing.assert_array_equal(currents(read(tmp_path, layer)), wanted)


def test_unpool(tmp_path: Path) -> None:
    layer = image("unpool", (4, 12, 24), np.full((1, 1, 2, 3, 1), 4), stride=[2, 3])
    wanted = 4 * torch_spikes().repeat_interleave(2, 2).repeat_interleave(3, 3)
    np.testing.assert_array_equal(currents(read(tmp_path, layer)), wanted)


def test_flatten_is_channels_first(tmp_path: Path) -> None:
    weight = even(3, 4 * 6 * 8)
    graph = read(tmp_path, {"type": "flatten", "shape": [192, 1, 1]}, dense(weight))
    np.testing.assert_array_equal(currents(graph, "layer2.weight"), SPIKES[0, :-1].reshape(4, -1) @ weight.T)


def test_average_puts_out_sums_of_equal_parts(tmp_path: Path) -> None:
    layers = dense(even(6, 192)), {"type": "average", "shape": [2, 1, 1]}
    graph = read(tmp_path, {"type": "flatten", "shape": [192, 1, 1]}, *layers)
    result = LoihiExecutor(graph).run(SPIKES, [("layer2", "s")])
    spikes = result.trace["layer2", "s"]
    assert spikes.any()
    np.testing.assert_array_equal(result.output, spikes.reshape(1, 5, 2, 3).sum(-1))
    op = graph["layer3"].op
    np.testing.assert_array_equal(op.weight.sum(1), [1, 1])  # the float graph puts out means


def test_concat_joins_what_is_earlier_and_what_is_later(tmp_path: Path) -> None:
    """README: the layer before it, and layers named by number, skipped ones and such that come back."""
    flat = {"type": "flatten", "shape": [192, 1, 1]}
    graph = read(
        tmp_path,
        flat,
        dense(even(3, 192), neuron=LOW),
        dense(even(4, 3), neuron=LOW),
        {"type": "concat", "shape": [12], "layers": [2, 5]},
        dense(even(5, 12), neuron=LOW),
    )
    assert [e.src for e in graph.in_edges("layer4")] == ["layer3", "layer2", "layer5"]
    record = [(f"layer{i}", "s") for i in (2, 3, 4, 5)]
    trace = LoihiExecutor(graph).run(np.repeat(SPIKES, 4, 1), record).trace
    assert all(trace[key].any() for key in record)
    joined = [trace[f"layer{i}", "s"] for i in (3, 2, 5)]
    np.testing.assert_array_equal(trace["layer4", "s"], np.concatenate(joined, axis=-1))


BAD = {
    "windows that overlap": image("pool", (4, 5, 7), np.ones((1, 1, 2, 2)), stride=[1, 1]),
    "a window that does not divide": image("pool", (4, 2, 2), np.ones((1, 1, 4, 4)), stride=[4, 4]),
    "unpooling that overlaps": image("unpool", (4, 12, 16), np.ones((1, 1, 2, 2)), stride=[1, 1]),
    "padding that cuts": image("convT", (4, 2, 4), np.ones((4, 4, 1, 1)), padding=[2, 2]),
    "other channels": image("conv", (4, 6, 8), np.ones((4, 3, 1, 1))),
    "itself": {"type": "concat", "shape": [4, 6, 8], "layers": [1]},
}


@pytest.mark.parametrize("case", BAD)
def test_refused(tmp_path: Path, case: str) -> None:
    with pytest.raises(HsnnError) as caught:
        read(tmp_path, BAD[case])
    assert [(f.code, f.node) for f in caught.value.findings] == [("E0252", "layer1")]


@pytest.mark.skipif(lava_version() is None, reason="lava-nc is not installed")
def test_every_kind_of_layer_on_lava(tmp_path: Path) -> None:
    """Also those that netx cannot build: Lava and the executor agree in everything."""
    delays = RNG.integers(0, 5, 4 * 6 * 8)
    layers = [
        {"type": "input", "shape": SHAPE},
        image("conv", SHAPE, even(4, 2, 3, 3), padding=[1, 1], groups=2, neuron=LOW, delay=delays),
        image("pool", (4, 3, 4), np.full((1, 1, 2, 2), 30), stride=[2, 2], neuron=LOW),
        image("convT", (3, 7, 9), even(4, 3, 3, 3), stride=[2, 2], padding=[0, 0], neuron=LOW, bias=[3, -2, 1]),
        image("unpool", (3, 14, 9), np.full((1, 1, 2, 1), 90), stride=[2, 1], neuron=LOW, delay=[2]),
        {"type": "flatten", "shape": [378, 1, 1]},
        dense(even(6, 378), type="dense_rec", neuron=LOW, weight_rec=even(6, 6)),
        {"type": "concat", "shape": [14], "layers": [8]},
        dense(even(8, 14), neuron=LOW, bias=[40] * 8),
        {"type": "average", "shape": [2, 1, 1]},
    ]
    graph, _ = read_net(write_net(tmp_path / "a.net", *layers))
    spikes = RNG.integers(0, 2, (2, 30, *SHAPE))
    record = [(node.name, v) for node in graph if node.is_neuron for v in "suv"]
    reference = LoihiExecutor(graph).run(spikes, record, reset_interval=12)
    lava = run_raw(graph, spikes, record, reset_interval=12, deadline_s=200)
    assert len(record) == 3 * 6
    assert all(count > 50 for count in reference.spikes.values())
    differences = compare(lava, reference)
    assert not differences, "\n".join(map(str, differences))
    np.testing.assert_array_equal(lava.output, reference.output)


@pytest.mark.skipif(lava_version() is None, reason="lava-nc is not installed")
def test_a_sigma_delta_network_on_lava(tmp_path: Path) -> None:
    layers = [
        {"type": "input", "shape": SHAPE, "neuron": SDNN},
        image("conv", (3, 6, 8), even(3, 4, 3, 3), padding=[1, 1], neuron=SDNN, bias=[2, 0, -3]),
        {"type": "flatten", "shape": [144, 1, 1]},
        dense(even(5, 144), neuron=SDNN),
    ]
    graph, _ = read_net(write_net(tmp_path / "a.net", *layers))
    values = np.cumsum(RNG.integers(-3, 4, (1, 20, *SHAPE)), axis=1)
    record = [(name, v) for name in ("layer0", "layer1", "layer3") for v in "suv"]
    reference = LoihiExecutor(graph).run(values, record)
    lava = run_raw(graph, values, record, deadline_s=200)
    assert all(count > 20 for count in reference.spikes.values())
    assert not compare(lava, reference)
    np.testing.assert_array_equal(lava.output, reference.output)
