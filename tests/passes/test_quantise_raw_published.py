"""The NIR paper's networks (`conformance.PUBLISHED`) in Loihi's integers, on the reference and on Lava."""

from __future__ import annotations

import numpy as np
import pytest
from conformance import PUBLISHED

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.frontends.nir import Contract
from hsnn_compiler.network import Network, open_network, recordable
from hsnn_compiler.verify.against_float import SpikesOff, spikes_off
from hsnn_compiler.verify.traces import compare

NIR = PUBLISHED / "nir"
pytestmark = pytest.mark.skipif(not NIR.exists(), reason=f"no published data at {NIR}")


def quantised(file: str, contract: str, x: np.ndarray, dt: float | None = 1e-4) -> tuple[Network, dict[str, SpikesOff]]:
    network = open_network(NIR / file, Contract.parse(contract, dt)).quantised({"input": x})
    return network, spikes_off(network, {"input": x})[0]


def assert_equal_on_lava(network: Network, x: np.ndarray) -> None:
    record = [key for key in recordable(network.graph) if network.graph[key[0]].is_neuron]
    assert compare(network.simulate(x, "lava", record), network.simulate(x, "reference", record)) == []


@pytest.mark.parametrize("preset", ["norse", "snntorch", "spikingjelly", "lava"])
def test_one_neuron(preset: str) -> None:
    x = np.loadtxt(NIR / "lif" / "lif_norse.csv", delimiter=",")[None, :, :1]
    network, off = quantised("lif/lif_norse.nir", f"preset={preset}", x)
    assert (off["1"].real, off["1"].integers, off["1"].differ) == (4, 4, 0)
    assert network.simulate(x).output.sum() == 4


# Measured 2026-11: 94 to 137 of 9728 neuron-steps with bias, 55 and 59 of 10240 without, where 118 and 103 spikes are.
@pytest.mark.parametrize("preset", ["norse", "snntorch", "spikingjelly", "lava", "spyx"])
@pytest.mark.parametrize(("which", "most"), [("noDelay_bias_zero", 150), ("noDelay_noBias_subtract", 70)])
def test_braille(preset: str, which: str, most: int) -> None:
    x = np.load(NIR / "braille" / "input.npy")[None]
    network, off = quantised(f"braille/braille_{which}.nir", f"preset={preset}", x)
    hidden = off["lif1.lif"]
    assert hidden.differ <= most
    assert hidden.real > 100
    assert all(layer.cosine is not None and layer.cosine >= 0.99 for layer in off.values())
    output = network.simulate(x).output[0].sum(0)
    assert output.argmax() == 1  # the sample is of class "A", index 1


@pytest.mark.usefixtures("lava")
def test_braille_on_lava() -> None:
    """The forward synapses take no time in this contract, and the recurrent ones one step."""
    x = np.load(NIR / "braille" / "input.npy")[None]
    assert_equal_on_lava(quantised("braille/braille_noDelay_bias_zero.nir", "preset=norse", x)[0], x)


def test_convolutional_network() -> None:
    x = (np.random.default_rng(0).random((1, 20, 2, 34, 34)) < 0.05).astype(np.float32)
    with pytest.raises(HsnnError) as caught:  # sinabs fires several times a step, and bounds the potential
        quantised("cnn/cnn_sinabs.nir", "preset=sinabs", x, None)
    assert [f.code for f in caught.value.findings] == ["E0453"] * 10
    network, off = quantised("cnn/cnn_sinabs.nir", "preset=sinabs,max_spikes=1,v_min=-inf", x, None)
    assert not network.graph.of_kind("SumPool2d", "Scale")
    assert [layer.real > 10 for layer in off.values()] == [True] * 5
    first, *between, _ = off.values()
    assert first.cosine is not None
    assert first.cosine > 0.99
    assert all(layer.cosine is not None and layer.cosine > 0.95 for layer in between)
    real = network.simulate({"input": x}, "float").output.sum((0, 1))
    assert network.simulate({"input": x}).output.sum((0, 1)).argmax() == real.argmax()
