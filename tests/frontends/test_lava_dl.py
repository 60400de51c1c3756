"""lava-dl's .net files become raw graphs with the very integers, and everything else is said or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from net_files import CUBA, SDNN, dense, image, write_net

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.frontends.lava_dl import InputTransform, read_input_transform, read_net
from hsnn_compiler.ir.quant import NeuronQuant, SigmaDeltaQuant, WeightQuant
from hsnn_compiler.ir.spec import verify
from hsnn_compiler.ir.types import Coding
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.reference.loihi_executor import LoihiExecutor

RNG = np.random.default_rng(0)
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """Every test draws the same numbers, whichever tests run."""
    RNG.bit_generator.state = START


def even(*shape: int, top: int = 40) -> np.ndarray:
    return 2 * RNG.integers(-top, top + 1, shape)


def codes(path: Path, **options: Any) -> list[str]:
    return sorted({finding.code for finding in read_net(path, **options)[1]})


def refused(path: Path, **options: Any) -> HsnnError:
    with pytest.raises(HsnnError) as caught:
        read_net(path, **options)
    assert all(finding.is_error and finding.code.startswith("E025") for finding in caught.value.findings)
    return caught.value


def test_integers_and_parameters_are_those_of_the_file(tmp_path: Path) -> None:
    first, second = even(5, 4), even(3, 5)
    bias = np.array([-7, 0, 9])
    graph, findings = read_net(
        write_net(tmp_path / "a.net", {"type": "input", "shape": [4]}, dense(first), dense(second, bias=bias))
    )
    assert findings == []
    assert verify(graph) == []
    assert [node.name for node in graph] == [
        "input", "layer1.weight", "layer1", "layer2.weight", "layer2", "output"
    ]  # fmt: skip
    for name, weight in (("layer1.weight", first), ("layer2.weight", second)):
        quant = graph[name].quant
        assert isinstance(quant, WeightQuant)
        np.testing.assert_array_equal(quant.integers, weight)
        assert (quant.exponent, quant.bits, quant.message_bits) == (0, 8, 0)
        assert graph.in_edges(name)[0].delay == 1
    quant = graph["layer2"].quant
    assert isinstance(quant, NeuronQuant)
    assert (quant.du, quant.dv, quant.vth, quant.bias_exp, quant.v_init) == (1023, 128, 80, 6, 0)
    np.testing.assert_array_equal(quant.bias_mant, bias)
    assert graph["input"].type.coding is Coding.SPIKES  # type: ignore[union-attr]
    assert {node.on_chip for node in graph if node.kind not in ("Input", "Output")} == {True}


@pytest.mark.parametrize("decays", [(1024, 128), (4096, 128), (0, 0), (4096, 4096), (100, 0), (0, 300)])
def test_the_op_means_what_the_integers_do(tmp_path: Path, decays: tuple[int, int]) -> None:
    """The float executor follows the integers up to their rounding: the NIR parameters are the right ones."""
    neuron = CUBA | {"iDecay": decays[0], "vDecay": decays[1], "vThMant": 2**17 - 1}
    path = write_net(
        tmp_path / "a.net", {"type": "input", "shape": [4]}, dense(even(5, 4), neuron=neuron, bias=np.arange(5) - 2)
    )
    graph, _ = read_net(path)
    x = RNG.integers(0, 2, (2, 12, 4))
    integer = LoihiExecutor(graph).run(x, [("layer1", "v"), ("layer1", "u")])
    real = FloatExecutor(graph).run(x.astype(np.float32), [("layer1", "v"), ("layer1", "u")])
    assert np.abs(integer.trace["layer1", "v"]).max() > 1000
    for key, trace in integer.trace.items():
        np.testing.assert_allclose(real.trace[key], trace / 64, atol=1.5)  # rounding adds up over 12 steps, twice


def test_an_input_layer_with_neurons(tmp_path: Path) -> None:
    layer = {"type": "input", "shape": [2, 3, 4], "neuron": CUBA | {"iDecay": 4096}, "weight": [36.0], "bias": [34.0]}
    path = write_net(tmp_path / "a.net", layer)
    graph, findings = read_net(path)
    assert [node.name for node in graph] == ["input", "layer0", "output"]
    assert graph["input"].type.coding is Coding.GRADED  # type: ignore[union-attr]
    assert graph.in_edges("layer0")[0].delay == 0
    assert [f.code for f in findings] == ["I0250"]
    transform = read_input_transform(path)
    assert transform == InputTransform(36, 34)
    x = np.array([0.0, 0.5, 0.999, 1.0])
    assert transform.apply(x).tolist() == [-2, 34, 69, 70]  # 2 * 36 * x - 36 + 34, cut off
    other = write_net(tmp_path / "b.net", layer | {"neuron": CUBA})
    assert codes(other) == ["I0250", "W0250"]  # netx adds the input behind the current
    assert read_input_transform(write_net(tmp_path / "c.net", {"type": "input", "shape": [4]})) is None
    del layer["weight"], layer["bias"]
    assert read_input_transform(write_net(tmp_path / "d.net", layer)) == InputTransform(64, 0)


def test_sigma_delta(tmp_path: Path) -> None:
    path = write_net(
        tmp_path / "a.net",
        {"type": "input", "shape": [4], "neuron": SDNN},
        dense(even(5, 4), neuron=SDNN | {"messageBits": 20}, bias=np.arange(5)),
        dense(even(3, 5), neuron=SDNN | {"sigma_output": True}),
    )
    graph, findings = read_net(path)
    assert verify(graph) == []
    assert (graph["layer0"].kind, graph["layer1"].kind) == ("DeltaEncoder", "SigmaDelta")
    quant = graph["layer1"].quant
    assert isinstance(quant, SigmaDeltaQuant)
    assert (quant.vth, quant.spike_exp, quant.state_exp, quant.bias.tolist()) == (2, 6, 6, [0, 1, 2, 3, 4])
    assert [graph[f"layer{i}.weight"].quant.message_bits for i in (1, 2)] == [16, 20]  # type: ignore[union-attr]
    assert "layer2" not in graph  # netx's Sigma only adds up
    assert [f.code for f in findings] == ["I0250", "W0250"]
    values = np.cumsum(RNG.integers(-9, 10, (1, 30, 4)), axis=1)
    integer, real = (
        executor.run(values, [("layer0", "s"), ("layer1", "s"), ("layer1", "u")])
        for executor in (LoihiExecutor(graph), FloatExecutor(graph))
    )
    for key, units in ((("layer0", "s"), 64), (("layer1", "s"), 64), (("layer1", "u"), 4096)):
        assert np.count_nonzero(integer.trace[key]) > 20
        np.testing.assert_allclose(real.trace[key], integer.trace[key] / units, atol=1 / 64)


def test_recurrent_layers_and_delays(tmp_path: Path) -> None:
    delays = np.array([0.0, 3.0, 1.0])
    path = write_net(
        tmp_path / "a.net",
        {"type": "input", "shape": [2]},
        dense(even(3, 2), type="dense_rec", neuron=CUBA | {"vThMant": 5}, weight_rec=even(3, 3), delay=delays),
        dense(even(4, 3), delay=[2.0]),
        dense(even(2, 4)),
    )
    graph, findings = read_net(path)
    assert [(e.src, e.delay) for e in graph.in_edges("layer1.weight_rec")] == [("layer1", 1)]
    np.testing.assert_array_equal(graph["layer1.delay"].op.delay, delays)
    assert [(e.src, e.delay) for e in graph.in_edges("layer2.weight")] == [("layer1.delay", 1)]
    assert [(e.src, e.delay) for e in graph.in_edges("layer3.weight")] == [("layer2", 3)]
    assert {f.code for f in findings} == {"I0250"}
    record = [("layer1", "s"), ("layer1.delay", "s"), ("layer1.weight_rec", "s")]
    trace = LoihiExecutor(graph).run(RNG.integers(0, 2, (1, 40, 2)), record).trace
    s, late, back = (trace[key][0] for key in record)
    assert 0 < s.mean() < 1
    for i, wait in enumerate(delays.astype(int)):
        np.testing.assert_array_equal(late[wait:, i], s[: len(s) - wait, i])
    np.testing.assert_array_equal(back[1:], s[:-1] @ graph["layer1.weight_rec"].quant.integers.T)  # type: ignore[union-attr]


def test_what_is_assumed_is_said(tmp_path: Path) -> None:
    neuron = CUBA | {"refDelay": 2, "wgtExp": 1, "gradedSpike": True, "oddity": 3}
    weight = even(4, 2, 3, 3).astype(float)
    weight[0, 0, 0, 0] = 2.5
    layer = image("conv", (4, 4, 4), weight, neuron=neuron, weightNorm=1)
    del layer["padding"], layer["groups"]
    findings = read_net(write_net(tmp_path / "a.net", layer), input_shape=(2, 6, 6))[1]
    text = "\n".join(str(f) for f in findings)
    for what in ("refDelay", "wgtExp", "gradedSpike", "oddity", "weightNorm", "padding is missing", "groups is missing",
                 "1 of 72 values of weight", "no input layer"):  # fmt: skip
        assert what in text
    assert {f.code for f in findings} == {"W0250", "I0250"}
    assert all("layer/0" in str(f.source) for f in findings)


def test_what_the_format_of_weights_changes_is_said(tmp_path: Path) -> None:
    weight = np.array([[3, -2], [300, 4]])
    findings = read_net(write_net(tmp_path / "a.net", {"type": "input", "shape": [2]}, dense(weight)))[1]
    assert [f.code for f in findings] == ["W0250", "W0250"]
    assert "outside -256..254" in str(findings[0])
    assert "1 values of weight are odd" in str(findings[1])
    assert codes(write_net(tmp_path / "b.net", dense(np.array([[3, 255], [1, 7]])))) == ["I0250"]  # one sign: 8 bits


def test_a_layer_without_neuron_integrates(tmp_path: Path) -> None:
    layer = dense(even(3, 4))
    del layer["neuron"]
    graph, findings = read_net(write_net(tmp_path / "a.net", layer))
    assert graph["layer0"].kind == "CubaLI"
    x = RNG.integers(0, 2, (1, 20, 4))
    arrived = np.cumsum(x[0] @ layer["weight"].T.astype(int), axis=0)
    np.testing.assert_array_equal(LoihiExecutor(graph).run(x).output[0, 1:], 64 * arrived[:-1])
    assert [f.code for f in findings] == ["I0250", "I0250"]


BAD: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "unknown layer": ("E0251", [{"type": "kwta", "shape": [4]}]),
    "unknown neuron": ("E0251", [dense(even(3, 4), neuron=CUBA | {"type": "RF_PHASE"})]),
    "no threshold": ("E0252", [dense(even(3, 4), neuron={k: v for k, v in CUBA.items() if k != "vThMant"})]),
    "decay out of range": ("E0252", [dense(even(3, 4), neuron=CUBA | {"vDecay": 4097})]),
    "threshold out of range": ("E0252", [dense(even(3, 4), neuron=CUBA | {"vThMant": 2**17})]),
    "bias out of range": ("E0252", [dense(even(3, 4), bias=[5000, 0, 0])]),
    "bias of another size": ("E0252", [dense(even(3, 4), bias=[1, 2])]),
    "weights that are no numbers": ("E0252", [dense(even(3, 4) / 1.0 * np.nan)]),
    "shapes that do not follow": ("E0252", [dense(even(3, 4)), dense(even(2, 5))]),
    "a shape that does not come out": ("E0252", [dense(even(3, 4)), image("conv", (1, 1, 1), even(2, 3, 1, 1))]),
    "delays of another size": ("E0252", [dense(even(3, 4), delay=[1, 2])]),
    "negative delays": ("E0252", [dense(even(3, 4), delay=[-1])]),
    "input in the middle": ("E0252", [dense(even(3, 4)), {"type": "input", "shape": [3]}]),
    "image of unknown shape": ("E0252", [image("conv", (4, 4, 4), even(4, 2, 3, 3))]),
    "unequal parts": ("E0252", [dense(even(5, 4)), {"type": "average", "shape": [2, 1, 1]}]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_refused(tmp_path: Path, case: str) -> None:
    code, layers = BAD[case]
    error = refused(write_net(tmp_path / "a.net", *layers))
    assert [finding.code for finding in error.findings] == [code]
    assert error.findings[0].node.startswith("layer")
    assert error.exit_code == 2


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    bad = dense(even(3, 4), neuron=CUBA | {"vDecay": -1}, bias=[1])
    path = write_net(tmp_path / "a.net", dense(even(4, 4)), bad | {"bias": [9999]})
    assert len(refused(path).findings) == 1  # what follows from the first is not said
    two = write_net(tmp_path / "b.net", {"type": "input", "shape": [4], "neuron": SDNN | {"vThMant": -1}}, bad)
    assert [f.node for f in refused(two).findings] == ["layer0"]


def test_files_that_are_none(tmp_path: Path) -> None:
    assert refused(tmp_path / "absent.net").findings[0].code == "E0250"
    (tmp_path / "text.net").write_text("a network")
    assert refused(tmp_path / "text.net").findings[0].code == "E0250"
    with h5py.File(tmp_path / "other.net", "w") as file:
        file["weights"] = np.zeros(3)
    assert refused(tmp_path / "other.net").findings[0].code == "E0250"
    path = write_net(tmp_path / "hole.net", dense(even(3, 4)), dense(even(2, 3)))
    with h5py.File(path, "a") as file:
        file.move("layer/1", "layer/2")
    assert "0, 2" in str(refused(path))


@pytest.mark.parametrize("seed", range(30))
def test_damaged_files_are_refused_or_read(tmp_path: Path, seed: int) -> None:
    """Bytes overwritten anywhere: a typed refusal or a graph, nothing else."""
    path = write_net(tmp_path / "a.net", {"type": "input", "shape": [4]}, dense(even(3, 4)), dense(even(2, 3)))
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(seed)
    if seed % 3 == 0:
        del data[int(rng.integers(100, len(data))) :]
    else:
        for at in rng.integers(0, len(data), 40):
            data[at] = rng.integers(0, 256)
    path.write_bytes(bytes(data))
    try:
        graph, _ = read_net(path)
    except HsnnError as error:
        found = {f.code for f in error.findings}
    else:
        found = set() if graph.of_kind("Output") else {"a graph without output"}
    assert found <= {"E0250", "E0251", "E0252", "E0421"}
