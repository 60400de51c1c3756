"""Collects and neurons that fire once, quantised and scheduled: bounds, formats, times, and what is refused."""

from __future__ import annotations

import nir
import numpy as np
import pytest
from value_graphs import Net, run_passes

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Dynamics, Graph, Node, Placement
from hsnn_compiler.ir.dynamics import discretize
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Add, Collect, Encode, FirstSpike, ReLU
from hsnn_compiler.ir.quant import CollectQuant, FirstSpikeQuant, NeuronQuant, WeightQuant
from hsnn_compiler.ir.timing import waits
from hsnn_compiler.passes.loihi_format import weight_format
from hsnn_compiler.passes.pipeline import DEFAULT_PIPELINE
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.reference.loihi_executor import LoihiExecutor

TO_INTEGERS = "lower-connections,quantise,schedule,place"


def images(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(7).normal(0.2, 0.5, (n, *shape)).astype(np.float32)


def spiking(steps: int) -> Graph:
    net = Net((2, 6, 6), timesteps=steps).encode().conv("c0", 4, padding=1).neuron("n0", threshold=0.7)
    return net.conv("c1", 3).neuron("n1", reset="zero").flatten().linear("fc", 3).done("mean")


def converted() -> Graph:
    net = Net((2, 6, 6)).conv("c0", 4, padding=1).add("r0", ReLU()).conv("c1", 3, padding=1).add("r1", ReLU())
    net.conv("skip", 3, 3, "r0", padding=1).add("sum", Add(), "skip", "r1").add("r2", ReLU())
    return net.flatten().linear("fc", 4).done()


def compile_(graph: Graph, x: np.ndarray, text: str = DEFAULT_PIPELINE, **context: object) -> Graph:
    return run_passes(graph, text, calibration=x, **context)[-1].result.graph


def unit_of(graph: Graph, collect: Node) -> float:
    """Synaptic units of what a Collect presents per unit of its current."""
    (population,) = graph.successors(collect.name)
    quant = population.quant
    assert isinstance(quant, (NeuronQuant, FirstSpikeQuant))
    if population.dynamics is None:
        return quant.scale
    step = discretize(population.op, population.dynamics)
    return quant.scale * float(step.gain.flat[0] * (1 if step.w_in is None else step.w_in.flat[0]))


def assert_presented_as_in_real_numbers(graph: Graph, x: np.ndarray) -> None:
    """Where the same spikes arrive, a Collect is right but for its rounding, and nothing left its range."""
    record = [(n.name, "s") for n in graph if n.kind == "Collect" or n.is_spiking or n.is_event_source]
    real, integers = FloatExecutor(graph).run(x, record), LoihiExecutor(graph).run(x, record)
    compared = 0
    for node in graph.of_kind("Collect"):
        sources = {feed.name for synapse in graph.predecessors(node.name) for feed in graph.predecessors(synapse.name)}
        sources |= {graph.in_edges(name)[0].src for name in sources if graph[name].kind == "Flatten"}
        same = np.ones(len(x), bool)
        for name in sources & {name for name, _ in record}:
            spikes = [result.trace[name, "s"].reshape(len(x), -1) for result in (real, integers)]
            same &= (spikes[0] == spikes[1]).all(1)
        presented = integers.trace[node.name, "s"][same] / unit_of(graph, node)
        wanted = real.trace[node.name, "s"][same]
        bound = (0.5 + (graph.timesteps or 1) / 128) / unit_of(graph, node)
        assert np.abs(presented - wanted).max(initial=0) <= bound * 1.001 + 1e-5 * np.abs(wanted).max(initial=0)
        assert (presented == presented[:, :1]).all()
        compared += int(same.sum())
        assert integers.saturated[node.name] == 0
    assert compared


def assert_formats(graph: Graph) -> None:
    for node in graph.of_kind("Collect"):
        assert isinstance(node.quant, CollectQuant)
        np.testing.assert_allclose(node.op.bias * unit_of(graph, node) * 64, node.quant.bias, rtol=1e-9)
        for synapse in graph.predecessors(node.name):
            quant = synapse.quant
            assert isinstance(quant, WeightQuant)
            assert quant.clipped == 0
            form = weight_format(quant.integers, 8)
            used = np.abs(quant.integers).max() / max(form.high, -form.low)
            assert used > 0.45, f"{synapse.name} uses {used:.0%} of its format"  # at most one bit is lost
            np.testing.assert_allclose(synapse.op.weight * quant.scale, quant.integers, atol=1e-6)


@pytest.mark.parametrize(("encode", "steps"), [("bitplane", 5), ("bitplane", 16), ("rate", 8), ("ttfs", 12)])
def test_events_behind_a_window(encode: str, steps: int) -> None:
    x = images(24, 2, 6, 6)
    graph = compile_(spiking(steps), x, encode=encode)
    assert len(graph.of_kind("Collect")) == 1
    assert_formats(graph)
    assert_presented_as_in_real_numbers(graph, x)
    real, integers = FloatExecutor(graph).run(x), LoihiExecutor(graph).run(x)
    assert abs(real.spikes["n0"] - integers.spikes["n0"]) < 0.01 * real.spikes["n0"]


def test_neurons_that_fire_once() -> None:
    x = images(24, 2, 6, 6)
    graph = compile_(converted(), x, coding="ttfs", timesteps=16)
    once = graph.of_kind("FirstSpike")
    assert [node.name for node in once] == ["r0", "r1", "r2"]
    assert_formats(graph)
    assert_presented_as_in_real_numbers(graph, x)
    record = [(node.name, "s") for node in (*once, *graph.of_kind("Collect"))]
    integers, real = LoihiExecutor(graph).run(x, record), FloatExecutor(graph).run(x, record)
    for node in once:
        quant = node.quant
        assert isinstance(quant, FirstSpikeQuant)
        fired = integers.trace[node.name, "s"]
        assert fired.sum(1).max() == 1
        n = (fired * (16 - np.arange(16)).reshape(1, -1, 1, 1, 1)).sum(1)
        collects = [source.name for source in graph.predecessors(node.name) if source.kind == "Collect"]
        if collects:
            z = 64 * sum(integers.trace[name, "s"][:, 0].astype(np.int64) for name in collects)
            np.testing.assert_array_equal(n, np.clip((2 * z + quant.ramp) // (2 * quant.ramp), 0, 16))
        wanted = (real.trace[node.name, "s"] * (16 - np.arange(16)).reshape(1, -1, 1, 1, 1)).sum(1)
        assert (n == wanted).mean() > 0.98
        assert np.abs(n - wanted).max() <= 1
    assert {node.quant is None for node in graph if node.on_chip and node.kind != "Flatten"} == {False}


def test_windows_follow_each_other() -> None:
    graph = compile_(converted(), images(24, 2, 6, 6), coding="ttfs", timesteps=10)
    depth = {node.name: node.schedule.depth for node in graph if node.schedule}
    assert [depth[name] for name in ("r0", "r1", "r2", "fc.readout")] == [0, 11, 22, 33]
    for node in graph.of_kind("Collect"):
        assert depth[node.name] == depth[graph.successors(node.name)[0].name]
    # r2 collects in steps 13 ... 22, and spikes of r0 come in steps 1 ... 10.
    found = waits(graph)
    assert {name: wait for name, wait in found.items() if wait} == {"skip": 11}


def test_a_skip_over_too_many_windows_is_refused() -> None:
    graph = compile_(converted(), images(24, 2, 6, 6), coding="ttfs", timesteps=61)
    assert waits(graph)["skip"] == 62
    with pytest.raises(HsnnError) as error:
        compile_(converted(), images(24, 2, 6, 6), coding="ttfs", timesteps=62)
    assert [finding.code for finding in error.value.findings] == ["E0447"]


def behind(op: object, dynamics: Dynamics | None, feeds: tuple[str, ...] = ("collect",)) -> Graph:
    """Events into a dense layer, a Collect, and a population, on the chip."""
    net = Net((3,), timesteps=4).add("events", Encode("rate", 2.0)).linear("w", 3, bias=False)
    net.add("collect", Collect("rate", np.array([0.1, -0.2, 3.0])))
    net.add("pop", op, *feeds, dynamics=dynamics).add("out", nir.Linear(np.eye(3)))
    graph = net.neuron("last").done("sum")
    host = Placement("host")
    for node in graph:
        graph.update(node.name, placement=host if node.kind in ("Input", "Output", "Decode") else Placement("chip"))
    return infer_types(graph)


def cuba(**more: object) -> tuple[object, Dynamics]:
    ones = np.ones(3)
    op = nir.CubaLIF(tau_syn=3 * ones, tau_mem=5 * ones, r=5 * ones, v_leak=0 * ones, v_threshold=ones,
                     w_in=2 * ones, v_reset=0 * ones)  # fmt: skip
    return op, Dynamics(reset="zero", current_decay=0.5, decay=0.9, gain=1.0, **more)  # type: ignore[arg-type]


def test_a_constant_current_goes_through_the_synaptic_current() -> None:
    """Which a bias cannot: the chip adds biases to the potential (E0453)."""
    x = images(32, 3)
    graph = compile_(behind(*cuba()), x, TO_INTEGERS)
    assert_formats(graph)
    record = [("pop", variable) for variable in "suv"]
    real, integers = FloatExecutor(graph).run(x, record).trace, LoihiExecutor(graph).run(x, record).trace
    quant = graph["pop"].quant
    assert isinstance(quant, NeuronQuant)
    np.testing.assert_allclose(integers["pop", "u"] / (64 * quant.scale), real["pop", "u"], atol=0.02)
    assert (real["pop", "s"] == integers["pop", "s"]).mean() > 0.99
    assert 0.05 < real["pop", "s"].mean() < 0.95


def codes(graph: Graph, text: str = TO_INTEGERS) -> list[str]:
    with pytest.raises(HsnnError) as error:
        compile_(graph, images(8, 3), text)
    return [finding.code for finding in error.value.findings]


def test_what_is_refused() -> None:
    once = FirstSpike(np.ones(1))
    assert codes(behind(once, None, ("collect", "w"))) == ["E0453"]
    assert codes(behind(FirstSpike(np.array([1.0, 2, 3])), None), "quantise,schedule") == ["E0445"]
    assert codes(behind(FirstSpike(np.full(1, 1e-7)), None)) == ["E0443"]
    tiny = nir.IF(r=np.ones(1), v_threshold=np.full(1, 1e-9), v_reset=np.zeros(1))
    assert set(codes(behind(tiny, Dynamics(integrator="none", reset="subtract")))) >= {"E0443"}


def test_a_bias_left_on_the_synapses_counts_with_the_values_of_all_steps() -> None:
    graph = behind(FirstSpike(np.ones(1)), None)
    graph.update("w", op=nir.Affine(graph["w"].op.weight, np.array([0.5, 0, -1])))
    after = compile_(graph, images(8, 3), TO_INTEGERS)
    np.testing.assert_allclose(after["collect"].op.bias, [0.6, -0.2, 2.0], atol=1e-3)
    assert not after["w"].op.bias.any()


def test_a_running_sum_keeps_all_of_the_current() -> None:
    x = images(24, 2, 6, 6)
    pipeline = DEFAULT_PIPELINE.replace("map-surrogate-to-events", "map-surrogate-to-events{mapping=running}")
    graph = compile_(spiking(8), x, pipeline, encode="delta")
    quant = graph["n0"].quant
    assert isinstance(quant, NeuronQuant)
    assert quant.du == -1
    real, integers = FloatExecutor(graph).run(x), LoihiExecutor(graph).run(x)
    assert integers.saturated["n0"] == 0
    assert abs(real.spikes["n0"] - integers.spikes["n0"]) < 0.02 * real.spikes["n0"]


def test_analog_input_reaches_a_synaptic_current_as_events() -> None:
    """As a current it cannot (E0453); with its bias it goes through the Collect."""
    net = Net((3,), timesteps=8).encode().linear("w", 4)
    op, dynamics = cuba()
    parameters = {name: np.resize(value, 4) for name, value in vars(op).items() if isinstance(value, np.ndarray)}
    graph = net.add("pop", nir.CubaLIF(**parameters), dynamics=dynamics).done("sum")
    assert codes(graph, DEFAULT_PIPELINE) == ["E0453"]
    x = images(32, 3)
    after = compile_(graph, x, encode="bitplane")
    record = [("pop", "s")]
    real, integers = FloatExecutor(graph).run(x, record).trace, LoihiExecutor(after).run(x, record).trace
    assert (real["pop", "s"] == integers["pop", "s"]).mean() > 0.97
    assert 0.05 < real["pop", "s"].mean() < 0.95
