"""What others recorded for the NIR paper's graphs (`conformance.PUBLISHED`), reproduced."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conformance import PUBLISHED

from hsnn_compiler.frontends.nir import Contract, read, settle
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.reference.result import Result

NIR = PUBLISHED / "nir"
pytestmark = pytest.mark.skipif(not NIR.exists(), reason=f"no published data at {NIR}")


def table(name: str) -> np.ndarray:
    return np.loadtxt(NIR / "lif" / name, delimiter=",")


def run(
    file: str, contract: str, dt: float | None, x: np.ndarray, node: str, double: bool = False, **how: str
) -> Result:
    graph, _ = read(NIR / file)
    graph, _ = settle(graph, Contract.parse(contract, dt))
    kind = torch.float64 if double else torch.float32
    return FloatExecutor(graph, kind, **how).run(x[None], [(node, "s"), (node, "v")])


def lif(contract: str, dt: float | None = 1e-4, double: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Spikes and potentials [time] of the single neuron."""
    result = run("lif/lif_norse.nir", contract, dt, table("lif_norse.csv")[:, :1], "1", double)
    return result.trace["1", "s"][0, :, 0], result.trace["1", "v"][0, :, 0]


@pytest.mark.parametrize("contract", ["preset=norse", "reset=zero", "preset=snntorch"])
def test_one_neuron_of_norse(contract: str) -> None:
    s, v = lif(contract)
    wanted = table("lif_norse.csv")
    np.testing.assert_array_equal(s, wanted[:, 2])
    assert np.abs(v - wanted[:, 1]).max() <= 1e-6
    assert s.sum() == 4


def test_one_neuron_of_lava_comes_a_step_later() -> None:
    s, v = lif("preset=lava", None)
    wanted = table("lif_lava_cpu_float.csv")
    same, plain = lif("preset=norse")
    np.testing.assert_array_equal(s[1:], same[:-1])
    np.testing.assert_allclose(v[1:], plain[:-1], atol=1e-7)
    potential = wanted[:, 1] if wanted.ndim > 1 and wanted.shape[1] > 1 else wanted.ravel()
    assert np.abs(v - potential).max() <= 1e-6


def test_one_neuron_solved_exactly() -> None:
    s, v = lif("integrator=exact,reset_at=crossing", double=True)
    assert np.flatnonzero(s).tolist() == [460, 510, 710, 760]
    assert np.abs(v - table("lif_exact.csv")[:, 1]).max() <= 1e-8


def test_one_neuron_of_snntorch_has_its_own_unit() -> None:
    s, v = lif("preset=snntorch", None)
    wanted = table("lif_snntorch.csv")
    np.testing.assert_array_equal(s, wanted[:, 2])
    assert np.abs(v - 0.04 * wanted[:, 1]).max() <= 1e-6


@pytest.mark.parametrize("method", ["steps", "auto"])
@pytest.mark.parametrize(
    ("library", "which", "contract", "dt"),
    [
        ("snntorch", "noDelay_bias_zero", "preset=snntorch", None),
        ("norse", "noDelay_bias_zero", "preset=norse", 1e-4),
        ("spyx", "noDelay_noBias_subtract", "preset=spyx", 1e-4),
        ("spyx", "noDelay_noBias_subtract", "reset=subtract,input_delay=1", None),
    ],
)
def test_braille(library: str, which: str, contract: str, dt: float | None, method: str) -> None:
    recorded = np.load(NIR / "braille" / f"{library}_activity_{which}.npy")
    x = np.load(NIR / "braille" / "input.npy")
    result = run(f"braille/braille_{which}.nir", contract, dt, x, "lif1.lif", method=method)
    spikes = result.trace["lif1.lif", "s"][0]
    assert spikes.shape == recorded.shape
    assert (spikes != recorded).sum() == 0
    assert recorded.sum() > 100
    assert result.output[0].sum(0).argmax() == 1  # the sample is of class "A", index 1


@pytest.mark.parametrize("library", ["norse", "sinabs"])
def test_convolutional_network(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No input was recorded for this one: the libraries themselves run it, on a seeded input."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed (constraints-peers.txt)")
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[1] / "peers")])
    import run_peers

    file = NIR / "cnn" / "cnn_sinabs.nir"
    x = (np.random.default_rng(0).random((20, 2, 34, 34)) < 0.05).astype(np.float32)
    theirs = getattr(run_peers, f"run_{library}")(file, x)
    graph, _ = read(file)
    graph, _ = settle(graph, Contract.parse(f"preset={library}"))
    layers = [node.name for node in graph.of_kind("IF")]
    assert len(layers) == 5
    trace = FloatExecutor(graph).run(x[None], [(name, "s") for name in layers]).trace
    for name in layers:
        mine = trace[name, "s"][0]
        assert (mine != theirs[f"{name}.out"].reshape(mine.shape)).sum() == 0, name
        assert mine.sum() > 0
