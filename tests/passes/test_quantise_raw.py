"""Raw graphs quantised on the fly: the integer reference against real numbers. (Lava: tests/backends.)"""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest
from picks import Picks
from real_graphs import STEPS, RealGraph

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Dynamics, Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import ReLU
from hsnn_compiler.ir.quant import NeuronQuant, WeightQuant
from hsnn_compiler.ir.shapes import ShapeError
from hsnn_compiler.ir.spec import verify
from hsnn_compiler.ir.types import Coding, TensorType
from hsnn_compiler.network import Network
from hsnn_compiler.verify.against_float import spikes_off


def random_network(seed: int, *, on_grid: bool) -> tuple[Network, Network, dict[str, np.ndarray]] | str:
    """A real network, what it was quantised to, and its data; or the codes of what was refused."""
    try:
        real = RealGraph(Picks.seeded(seed), on_grid=on_grid, samples=2)
    except ShapeError:
        return "too small an image"
    network = Network(real.graph)
    try:
        return network, network.quantised(real.inputs), real.inputs
    except HsnnError as error:
        bare = [f for f in error.findings if not (f.code[1:3] == "04" and f.node and f.supported)]
        return f"bare {bare}" if bare else ", ".join(f.code for f in error.findings)


def test_what_lies_on_a_grid_is_computed_exactly() -> None:
    exact = spikes = 0
    for seed in range(80):
        made = random_network(seed, on_grid=True)
        if isinstance(made, str):
            assert made in ("too small an image", "E0434")
            continue
        network, integers, x = made
        if any(" off by at most 0%" not in f.message for f in integers.findings if "weights" in f.message):
            continue  # two layers of weights multiplied can have a grid too fine for 8 bits
        record = [(node.name, "s") for node in network.graph if node.is_spiking]
        real, found = network.simulate(x, "float", record), integers.simulate(x, "reference", record)
        for key in record:
            np.testing.assert_array_equal(real.trace[key], found.trace[key], f"seed {seed}, {key}")
        exact += 1
        spikes += sum(real.spikes.values())
    assert exact > 60
    assert spikes > 4000


def test_any_graph_is_close_or_refused() -> None:
    real = differ = refused = 0
    for seed in range(120):
        made = random_network(seed, on_grid=False)
        if isinstance(made, str):
            assert "bare" not in made
            refused += 1
            continue
        _, integers, x = made
        wrong = [f for f in verify(integers.graph) if f.node]  # some graphs have no Output
        assert not wrong, f"seed {seed}: {wrong}"
        assert {n.name for n in integers.graph if n.is_neuron} >= {n.name for n in made[0].graph if n.is_neuron}
        found, samples = spikes_off(integers, x)
        assert samples == 2
        real += sum(off.real for off in found.values())
        differ += sum(off.differ for off in found.values())
        assert not any(integers.simulate(x).saturated.values()), f"seed {seed}"
    assert real > 2000
    assert differ < 0.03 * real
    assert 20 < refused < 80


# -- single neurons -------------------------------------------------------------------------------


def chain(op: Any, dynamics: Dynamics | None, *before: tuple[str, Any], shape: tuple[int, ...] = (2,)) -> Graph:
    """An input, some ops, a population, an Output."""
    graph = Graph("chain")
    graph.add(Node("x", nir.Input(np.array(shape)), TensorType(shape, Coding.CURRENT)))
    last = "x"
    for name, way in before:
        last = graph.add(Node(name, way), last).name
    graph.add(Node("n", op, dynamics=dynamics), last)
    graph.add(Node("out", nir.Output(np.array(np.shape(getattr(op, "r", np.zeros(shape)))))), "n")
    return infer_types(graph)


def lif(n: int = 2, threshold: Any = 1.0, **more: Any) -> nir.LIF:
    one = np.ones(n)
    fields = {"tau": 4.0 * one, "r": one, "v_leak": 0 * one, "v_threshold": threshold * one, "v_reset": 0 * one, **more}
    return nir.LIF(**fields)


def data(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((1, STEPS, *shape)) < 0.5).astype(np.float32)


EYE = ("w", nir.Affine(np.array([[3.0, -1.0], [0.5, 2.0]]), np.array([0.25, 0.0])))


def test_scale_threshold_and_bias() -> None:
    graph = chain(lif(), Dynamics(1.0), EYE)
    integers = Network(graph).quantised(data(2))
    neuron, weights = integers.graph["n"].quant, integers.graph["w"].quant
    assert isinstance(neuron, NeuronQuant)
    assert isinstance(weights, WeightQuant)
    assert neuron.vth == neuron.scale  # of a threshold of 1
    assert weights.integers.tolist() == [[252, -84], [42, 168]]  # 3/4, -1/4, ... at 336 units, whole and even
    assert neuron.vth == 336
    assert (neuron.bias_mant << neuron.bias_exp).tolist() == [336 * 64 // 16, 0]
    assert (neuron.dv, neuron.du) == (1024, 4095)
    text = next(f.message for f in integers.findings if f.code == "I0457")
    assert "threshold 1 is 336" in text
    assert "weights off by at most 0%" in text


def test_a_bias_that_acts_through_the_current_or_later_comes_from_an_input() -> None:
    one = np.ones(2)
    cuba = nir.CubaLIF(tau_mem=4 * one, tau_syn=2 * one, r=one, v_leak=0 * one, v_threshold=one)
    for op in (cuba, lif()):
        graph = chain(op, Dynamics(1.0), EYE).with_delays(lambda e: 3 if e.dst == "n" else 0)
        integers = Network(graph).quantised(data(2))
        assert integers.graph["n.bias"].kind == "Input"
        assert [e.delay for e in integers.graph.in_edges("n") if e.src == "n.bias"] == [3]
        quiet = integers.simulate(0 * data(2), record=[("n", "u")]).trace["n", "u"]
        assert not quiet[:, :3].any()
        assert quiet[:, 3:, 0].all()
        assert "input of its own" in "".join(f.message for f in integers.findings)


def test_thresholds_that_differ_and_a_reset_to_a_value_change_nothing() -> None:
    x = data(2)
    for more in (
        {"threshold": np.array([1.0, 0.5])},
        {"v_reset": np.array([0.25, 0.25])},
        {"v_leak": 0.3 * np.ones(2)},
    ):
        network = Network(chain(lif(**more), Dynamics(1.0, reset="value"), EYE))
        record = [("n", "s")]
        real, found = network.simulate(x, "float", record), network.simulate(x, "reference", record)
        assert real.spikes["n"] > 1
        assert (real.trace["n", "s"] != found.trace["n", "s"]).sum() <= 1


def test_integrators_put_out_what_they_do_in_real_numbers() -> None:
    one = np.ones(2)
    network = Network(chain(nir.LI(tau=5 * one, r=one, v_leak=0 * one), Dynamics(1.0), EYE))
    x = data(2)
    integers = network.quantised(x)
    quant = integers.graph["n"].quant
    assert isinstance(quant, NeuronQuant)
    real, found = network.simulate(x).output, integers.simulate(x).output / (64 * quant.scale)
    np.testing.assert_allclose(found, real, atol=0.01 * np.abs(real).max())


def test_a_threshold_is_a_neuron_without_memory() -> None:
    network = Network(chain(nir.Threshold(0.6 * np.ones(2)), None, EYE))
    x = data(2)
    np.testing.assert_array_equal(network.simulate(x, "reference").output, network.simulate(x, "float").output)


def test_a_threshold_that_is_met_exactly() -> None:
    """Step 1 meets it in the first neuron; nothing decays, so >= is exact."""
    x = np.array([[[0.5, 0], [0.5, 0], [0, 0], [1, 0.5], [1, 0.5]]], np.float32)
    for reset in ("zero", "subtract"):
        one = np.ones(2)
        neuron = nir.IF(r=one, v_threshold=one, v_reset=0 * one)
        for test, first in ((">=", 1), (">", 3)):
            network = Network(chain(neuron, Dynamics(1.0, reset=reset, threshold_test=test)))
            found = network.simulate(x, "reference").output
            np.testing.assert_array_equal(found, network.simulate(x, "float").output)
            assert int(found[0, :, 0].argmax()) == first
            assert not any(f.code == "W0460" for f in network.quantised(x).findings)
    decays = Network(chain(lif(), Dynamics(1.0, threshold_test=">="), EYE)).quantised(x)
    assert any(f.code == "W0460" for f in decays.findings)


def test_a_time_constant_too_long_for_twelve_bits_is_warned_about() -> None:
    network = Network(chain(lif(tau=np.full(2, 3e4)), Dynamics(1.0), EYE))
    assert [f.node for f in network.quantised(data(2)).findings if f.code == "W0459"] == ["n"]


def test_scales_follow_from_as_many_samples_as_are_quickly_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hsnn_compiler.passes.raw.peaks.NEURON_STEPS", 2 * STEPS)
    x = np.concatenate([data(2), 100 * data(2)])
    integers = Network(chain(lif(), Dynamics(1.0), EYE)).quantised(x)
    assert "on the first 1 samples" in "".join(f.message for f in integers.findings)
    assert not any("first" in f.message for f in Network(chain(lif(), Dynamics(1.0), EYE)).quantised(x[:1]).findings)


# -- inputs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "unit", "said"),
    [
        (data(2), 0.0, ""),
        (3 * data(2), 1.0, "exact"),
        (data(2) * 0.25 - 1, 4.0, "exact"),
        (data(2) * np.float32(1 / 3), 2047 * 3, "off by at most 8.14e-05"),
    ],
)
def test_payloads(x: np.ndarray, unit: float, said: str) -> None:
    integers = Network(chain(lif(), Dynamics(1.0), EYE)).quantised(x)
    assert integers.to_integers is not None
    sent = integers.to_integers(x)
    assert isinstance(sent, dict)
    np.testing.assert_allclose(sent["x"] / (unit or 1.0), x, atol=1e-4)
    found = [f.message for f in integers.findings if f.code == "I0458"]
    assert (len(found) == 1 and said in found[0]) if said else not found
    if not unit:
        with pytest.raises(HsnnError, match="E0330"):
            integers.simulate(0.5 * x)


# -- refusals -------------------------------------------------------------------------------------

CONV = nir.Conv2d((4, 6), np.random.default_rng(1).normal(size=(3, 2, 2, 3)), 1, 0, 1, 1, np.ones(3))
IMAGE = nir.IF(r=np.ones((3, 1, 2)), v_threshold=np.ones((3, 1, 2)), v_reset=np.zeros((3, 1, 2)))
UNEVEN = nir.IF(r=np.ones((3, 3, 4)), v_threshold=1 + np.arange(36.0).reshape(3, 3, 4), v_reset=np.zeros((3, 3, 4)))
PIXELS = nir.Scale(np.random.default_rng(3).normal(size=(2, 4, 6)))
TWICE = nir.Conv2d((3, 4), np.ones((3, 3, 3, 3)), 1, 0, 1, 1, np.zeros(3))
FULL = nir.IF(r=np.ones((2, 4, 6)), v_threshold=np.ones((2, 4, 6)), v_reset=np.zeros((2, 4, 6)))
STEP = Dynamics(1.0)
BIG = (2, 4, 6)

REFUSED: dict[str, tuple[str, Graph]] = {
    "several spikes": ("E0453", chain(lif(), Dynamics(max_spikes=0), EYE)),
    "refractory": ("E0453", chain(lif(), Dynamics(refractory=2), EYE)),
    "bound": ("E0453", chain(lif(), Dynamics(v_min=-1.0), EYE)),
    "late reset": ("E0453", chain(lif(), Dynamics(reset_at="after"), EYE)),
    "negative decay": ("E0453", chain(lif(), Dynamics(9.0), EYE)),
    "no reset": ("E0444", chain(lif(), Dynamics(reset="none"), EYE)),
    "above the threshold": ("E0453", chain(lif(v_reset=2 * np.ones(2)), Dynamics(reset="value"), EYE)),
    "far start": ("E0453", chain(lif(), Dynamics(v_init=1e6), EYE)),
    "starts": ("E0445", chain(lif(threshold=np.array([1.0, 2.0])), Dynamics(v_init=0.5), EYE)),
    "pixels": ("E0445", chain(UNEVEN, STEP, ("c", CONV), shape=BIG)),
    "huge weights": ("E0443", chain(lif(), STEP, ("w", nir.Linear(1e4 * np.eye(2))))),
    "two convolutions": ("E0434", chain(IMAGE, STEP, ("c", CONV), ("d", TWICE), shape=BIG)),
    "pixel factors": ("E0435", chain(FULL, STEP, ("s", PIXELS), shape=BIG)),
    "foreign": ("E0455", chain(lif(), STEP, ("r", ReLU()), EYE)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    code, graph = REFUSED[name]
    with pytest.raises(HsnnError) as caught:
        Network(graph).quantised(data(*graph["x"].shape))
    assert [f.code for f in caught.value.findings] == [code]
    assert all(f.node and f.supported for f in caught.value.findings)


def test_all_that_is_refused_is_said_at_once() -> None:
    graph = chain(lif(), Dynamics(max_spikes=0, refractory=1, v_min=-1.0), EYE)
    graph.add(Node("m", lif(), dynamics=Dynamics(reset="none")), "n")
    with pytest.raises(HsnnError) as caught:
        Network(infer_types(graph)).quantised(data(2))
    assert [(f.node, f.code) for f in caught.value.findings] == [("n", "E0453")] * 3 + [("m", "E0444")]
    assert {f.suggestion for f in caught.value.findings} == {
        "--dynamics v_min=-inf", "--dynamics max_spikes=1", "--dynamics refractory=0", "--dynamics reset=zero",
    }  # fmt: skip


def test_potentials_do_not_go_on_and_units_do_not_mix() -> None:
    one = np.ones(2)
    graph = chain(nir.LI(tau=5 * one, r=one, v_leak=0 * one), STEP, EYE)
    graph.add(Node("m", lif(), dynamics=STEP), "n")
    graph.connect(Edge("m", "out"))
    with pytest.raises(HsnnError) as caught:
        Network(infer_types(graph)).quantised(data(2))
    assert [(f.node, f.code) for f in caught.value.findings] == [("n", "E0455"), ("out", "E0455")]


def test_a_reset_interval_whose_steps_would_move() -> None:
    graph = chain(lif(), STEP, EYE)
    moved = graph.with_delays(lambda e: 1 if e.dst in ("w", "n") else 0)
    x = data(2)
    assert Network(graph).simulate(x, "reference", reset_interval=5).samples == 1
    with pytest.raises(HsnnError, match="E0224"):
        Network(moved).simulate(x, "reference", reset_interval=5)
