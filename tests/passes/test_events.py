"""Input as events: what the mappings compute, against direct coding and against formulas."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from picks import Picks, picks
from value_graphs import Net, run_passes

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Graph
from hsnn_compiler.ir.ops import EVENT_KINDS, Add, Concat
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.events.challenges import compare
from hsnn_compiler.passes.events.encoding import as_events, ready_for_events
from hsnn_compiler.passes.events.regions import separate
from hsnn_compiler.passes.events.statistics import corrections, rescaled
from hsnn_compiler.passes.properties import PROPERTIES
from hsnn_compiler.reference.codes import level_count
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.report.table import Table

FIRST = "remove-noops,fold-batchnorm,partition,convert-activations,map-surrogate-to-events"
REST = ",map-direct-coding,merge-adds,fold-pooling,fold-scales,insert-readout,lower-connections"


def mapped(graph: Graph, x: np.ndarray, encode: str, mapping: str = "exact", text: str = FIRST + REST) -> Graph:
    text = text.replace("to-events", f"to-events{{mapping={mapping}}}")
    return run_passes(graph, text, calibration=x, encode=encode)[-1].result.graph


def run(graph: Graph, x: np.ndarray, record: list[tuple[str, str]]) -> dict[tuple[str, str], np.ndarray]:
    result = FloatExecutor(graph, torch.float64).run(x, record)
    return {**result.trace, ("y", "output"): result.output}


def rounded(x: np.ndarray, kind: str, steps: int) -> np.ndarray:
    """The input as the code's levels give it, over the range of the data."""
    high, top = np.abs(x).max(), level_count(kind, steps)
    return np.sign(x) * np.rint(np.abs(x) / high * top) / top * high


def network(p: Picks, steps: int) -> tuple[Graph, np.ndarray]:
    """Direct coding into one or two populations through any linear ops, layers behind them, any end."""
    net = Net((2, 6, 4), steps, seed=p.integer(0, 99)).encode()
    first = p.choice(["conv", "depthwise", "two", "nothing", "flat"])
    theta = net.rng.uniform(0.3, 0.9, (4, 1, 1))
    if first == "nothing":
        theta = theta[:2]
    elif first == "flat":
        net.flatten("flat_in").linear("c0", 4)
        theta = theta[:, 0, 0]
    else:
        net.conv("c0", 4, padding=1, groups=2 if first == "depthwise" else 1)
    if first == "conv" and p.flag():
        net.pool("after", 2)
    if first == "two":
        net.conv("also", 4, 1, "encode").add("sum", Add(), "c0", "also")
    net.neuron("n0", threshold=theta, reset=p.choice(["subtract", "zero"]))
    if first != "flat":
        net.conv("c1", 3, 3, padding=1).neuron("n1", threshold=0.4 * np.ones((1, 1, 1))).flatten()
    net.linear("fc", 3)
    if p.flag():
        net.neuron("n2", threshold=np.array([0.3]))
    graph = net.done(p.choice(["mean", "sum"]))
    x = net.rng.normal(size=(6, 2, 6, 4)).astype(np.float32)
    return graph, np.abs(x) if p.flag() else x


@settings(max_examples=40)
@given(picks())
def test_exact_mapping_is_direct_coding_of_the_rounded_input(p: Picks) -> None:
    """Spike for spike, in all layers, from the events to what the chip gets."""
    kind = p.choice(EVENT_KINDS)
    steps = p.choice([8, 16]) if kind == "phase" else p.choice([4, 7, 12])
    graph, x = network(p, steps)
    after = mapped(graph, x, kind)
    assert PROPERTIES["neurons-and-synapses"](after)
    assert not any(node.kind == "Encode" and not node.is_event_source for node in after)
    record = [(node.name, "s") for node in graph if node.is_spiking]
    expected, got = run(graph, rounded(x.astype(np.float64), kind, steps), record), run(after, x, record)
    assert sum(expected[key].sum() for key in record) > 0
    for key in record:
        np.testing.assert_array_equal(got[key], expected[key], err_msg=str(key))
    np.testing.assert_allclose(got["y", "output"], expected["y", "output"], atol=1e-9)


@settings(max_examples=20)
@given(picks())
def test_neurons_on_the_host_change_nothing(p: Picks) -> None:
    graph, x = network(p, 6)
    if len([node for node in graph if node.is_spiking]) < 2:
        with pytest.raises(HsnnError, match="E0473"):
            mapped(graph, x, "host", text=FIRST)
        return
    after = mapped(graph, x, "host")
    assert not after["n0"].on_chip
    assert all(node.on_chip for node in after if node.is_neuron and node.name != "n0")
    assert all(not n.on_chip for n in after if n.is_synapse and not graph_has_spikes_before(after, n.name))
    record = [(node.name, "s") for node in graph if node.is_spiking]
    expected, got = run(graph, x, record), run(after, x, record)
    for key in record:
        np.testing.assert_array_equal(got[key], expected[key])
    np.testing.assert_allclose(got["y", "output"], expected["y", "output"], atol=1e-9)


def test_what_has_no_weights_runs_on_the_host_before_the_input_is_rounded() -> None:
    """Pooling of the image: its result is what becomes events."""
    x = np.random.default_rng(4).normal(size=(5, 2, 6, 4)).astype(np.float32)
    net = Net((2, 6, 4), 8).encode().pool("pool", 2).conv("c0", 3, 2).neuron("n", threshold=[[[0.3]]])
    after = mapped(net.done("mean"), x, "rate")
    assert not after["pool"].on_chip
    pooled = torch.nn.functional.avg_pool2d(torch.from_numpy(x), 2).numpy()
    plain = Net((2, 3, 2), 8).encode().conv("c0", 3, 2).neuron("n", threshold=[[[0.3]]]).done("mean")
    expected = run(plain, rounded(pooled, "rate", 8), [("n", "s")])["n", "s"]
    np.testing.assert_array_equal(run(after, x, [("n", "s")])["n", "s"], expected)


def graph_has_spikes_before(graph: Graph, name: str) -> bool:
    return any(graph[other].is_spiking for other in graph.ancestors(name))


def test_a_neuron_that_spikes_drive_too_stays_on_the_chip() -> None:
    """For it, the analog input stays a current; the same convolution feeds a neuron on the host."""
    net = Net((3, 4, 4), 6).encode().conv("c0", 3, 1).neuron("first", threshold=[[[0.4]]])
    net.conv("c1", 3, 1).add("sum", Add(), "c1", "c0").neuron("both", threshold=[[[0.4]]])
    graph = net.done("mean")
    x = np.random.default_rng(0).normal(size=(4, 3, 4, 4))
    after = mapped(graph, x, "host")
    assert (after["first"].on_chip, after["both"].on_chip) == (False, True)
    places = {after.successors(node.name)[0].name: node.on_chip for node in after.of_kind("Encode")}
    assert places == {"first": False, "both": True}
    record = [("first", "s"), ("both", "s")]
    expected, got = run(graph, x, record), run(after, x, record)
    for key in record:
        np.testing.assert_array_equal(got[key], expected[key])


def test_the_input_and_spikes_in_one_sum_are_told_apart() -> None:
    """Only what the input gives is collected; spikes of others arrive as they come."""
    net = Net((3, 4, 4), 8).encode().conv("c0", 3, 1).neuron("first", threshold=[[[0.4]]])
    net.add("sum", Add(), "first", "encode").conv("c1", 3, 3, padding=1).neuron("both", threshold=[[[0.4]]])
    graph = net.done("mean")
    x = np.random.default_rng(0).normal(size=(4, 3, 4, 4))
    after = mapped(graph, x, "rate", text=FIRST)
    record = [("first", "s"), ("both", "s")]
    expected, got = run(graph, rounded(x, "rate", 8), record), run(after, x, record)
    for key in record:
        np.testing.assert_array_equal(got[key], expected[key])


def test_a_running_sum_is_a_current_that_stays() -> None:
    """Delta events through a synaptic current without decay, before recalibration: u = W sum of the steps so far."""
    steps = 5
    graph = Net((4,), steps).encode().linear("fc", 3).neuron("n", threshold=[0.3]).linear("out", 2).done("mean")
    x = np.random.default_rng(1).uniform(-2, 2, (7, 4)).astype(np.float32)
    placed = run_passes(graph, FIRST, calibration=x)[-1].result.graph
    after = as_events(ready_for_events(placed), "delta", "current", PassContext(calibration=x))
    trace = run(after, x, [("n", "u"), ("n", "v"), ("n", "s")])
    x = x.astype(np.float64)
    high = np.abs(x).max()
    n = np.rint(np.abs(x) / high * steps)
    v = np.zeros((7, 3))
    for t in range(steps):
        seen = np.sign(x) * np.minimum(t + 1, n) * high / steps
        u = seen @ graph["fc"].op.weight.T
        np.testing.assert_allclose(trace["n", "u"][:, t], u, atol=1e-12)
        v = 0.9 * v + u + graph["fc"].op.bias
        np.testing.assert_array_equal(trace["n", "s"][:, t], v > 0.3)
        v = v - 0.3 * (v > 0.3)
        np.testing.assert_allclose(trace["n", "v"][:, t], v, atol=1e-12)
    mapped(graph, x.astype(np.float32), "delta", "running")


def test_statistics_give_mean_and_spread_back() -> None:
    """After the recalibration of a layer, the current into it has the mean and spread of training, per channel."""
    rng = np.random.default_rng(3)
    net = Net((2, 6, 6), 8).encode().conv("c0", 4, padding=1).neuron("n0", threshold=rng.uniform(0.3, 1, (4, 1, 1)))
    graph = net.conv("c1", 3).neuron("n1", threshold=[[[0.4]]]).conv("c2", 2).done("mean")
    x = rng.uniform(0, 1, (40, 2, 6, 6)).astype(np.float32)
    context = PassContext(calibration=x)
    ready = ready_for_events(run_passes(graph, FIRST, calibration=x)[-1].result.graph)
    after = mapped(graph, x, "ttfs", "statistics", FIRST)
    before = compare(as_events(ready, "ttfs", "nothing", context), ready, ["n0", "n1"], context)
    found = compare(after, ready, ["n0", "n1"], context)
    for name in ("n0", "n1"):
        factor, _ = corrections(found[name])
        np.testing.assert_allclose(factor, 1, atol=1e-3)
        event, direct = found[name].mean()
        np.testing.assert_allclose(event, direct, atol=1e-3)
    assert abs(found["n0"].mismatch - 1) < abs(before["n0"].mismatch - 1)
    assert found["n1"].moved < before["n1"].moved


@pytest.mark.parametrize("reset", ["zero", "value", "subtract"])
def test_a_rescaled_neuron_on_a_rescaled_current_fires_alike(reset: str) -> None:
    net = Net((3, 5), 9).encode().neuron("n", threshold=[[0.3], [0.5], [0.8]], v_init=0.1)
    graph = net.done("mean")
    op = graph["n"].op
    op.v_reset[...] = 0.05
    dynamics = replace(graph["n"].dynamics, reset=reset, v_min=-0.2)
    graph.update("n", dynamics=dynamics)
    x = np.random.default_rng(5).normal(size=(6, 3, 5))
    factor, constant = np.array([2.0, 0.5, 4.0]), np.array([0.5, -0.25, 1.0])
    other = graph.copy()
    other.update("n", **rescaled(graph["n"], factor, constant))
    per_neuron = factor[:, None], constant[:, None] * op.v_threshold
    scaled = x * per_neuron[0] - per_neuron[1]
    signals = [("n", "s")]
    expected = run(graph, x, signals)["n", "s"]
    np.testing.assert_array_equal(run(other, scaled, signals)["n", "s"], expected)
    assert 0 < expected.mean() < 1


def test_the_three_numbers() -> None:
    """Against their definitions, on the signals of two small networks."""
    graph = Net((3,), 6).encode().linear("fc", 4).neuron("n", threshold=[0.2, 0.3, 0.4, 0.5]).done("mean")
    x = np.random.default_rng(7).uniform(0, 1, (10, 3)).astype(np.float32)
    context = PassContext(calibration=x, batch_size=4)
    ready = ready_for_events(run_passes(graph, FIRST, calibration=x)[-1].result.graph)
    events = as_events(ready, "bitplane", "nothing", context)
    found = compare(events, ready, ["n"], context)["n"]
    a, b = (run(g, x, [("n", "u"), ("n", "s")]) for g in (events, ready))
    theta = np.array([0.2, 0.3, 0.4, 0.5])
    u, w = a["n", "u"] / theta, b["n", "u"] / theta
    expected = np.maximum(u.mean(1), 0).mean() / np.maximum(w.mean(1), 0).mean()
    assert found.mismatch == pytest.approx(expected, rel=1e-5)
    assert found.lost == pytest.approx(1 - np.corrcoef(u.ravel(), w.ravel())[0, 1], abs=1e-5)
    assert found.moved == pytest.approx(np.abs(a["n", "s"].mean(1) - b["n", "s"].mean(1)).mean())


def test_what_was_measured_is_kept() -> None:
    graph, x = network(Picks.seeded(1), 6)
    stage = run_passes(graph, FIRST, calibration=x, encode="auto")[-1]
    measured = stage.result.tables[0]
    assert [row[0] for row in measured.rows] == ["current", "host", "bitplane", "rate", "ttfs", "delta", "phase"]
    chosen = next(note.split(":")[0] for note in stage.result.notes if note.endswith("chosen"))
    best = max(row[1] for row in measured.rows if row[1] is not None)
    cheapest = min((row for row in measured.rows if row[1] == best), key=lambda row: row[2])
    assert chosen == cheapest[0]
    for table in stage.result.tables:
        assert Table.from_plain(asdict(table)) == table


def code_of(graph: Graph, x: np.ndarray | None, **context: object) -> str:
    mapping = str(context.pop("mapping", "exact"))
    text = FIRST.replace("to-events", f"to-events{{mapping={mapping}}}")
    with pytest.raises(HsnnError) as error:
        run_passes(graph, text, calibration=x, **context)
    return error.value.findings[0].code


def test_refusals() -> None:
    graph, x = network(Picks.seeded(1), 20)
    assert code_of(graph, x, encode="bitplane") == "E0471"
    assert code_of(graph, x, encode="phase") == "E0471"
    assert code_of(graph, None, encode="rate") == "E0213"
    assert code_of(graph, x, encode="rate", mapping="best") == "E0212"
    assert code_of(graph, x, encode="rate", mapping="running") == "E0212"
    mixed = Net((3, 4, 4), 8).encode().conv("c0", 3, 1).neuron("a", threshold=[[[0.4]]])
    both = mixed.add("sum", Add(), "a", "encode").neuron("b").done("mean")
    image = np.random.default_rng(0).uniform(0, 1, (4, 3, 4, 4)).astype(np.float32)
    assert code_of(both, image, encode="delta", mapping="running") == "E0472"
    joined = Net((3, 4, 4), 8).encode().neuron("a", threshold=[[[0.4]]]).add("cat", Concat(0), "a", "encode")
    with pytest.raises(HsnnError, match="E0470"):  # in a graph that no partition looked at
        separate(joined.neuron("b").done("mean"))
    no_input = Net((4,), 5)
    no_input.encode().neuron("a", threshold=[0.3])
    assert code_of(no_input.done("mean"), np.ones((2, 4), np.float32), encode="host") == "E0473"


def test_values_outside_the_range_of_calibration_are_counted() -> None:
    graph = Net((4,), 5).encode().linear("fc", 3).neuron("n", threshold=[0.3]).linear("out", 2).done("mean")
    x = np.random.default_rng(1).uniform(-1, 1, (7, 4)).astype(np.float32)
    after = mapped(graph, x, "rate")
    assert FloatExecutor(after).run(2 * x).saturated == {"encode": int((np.abs(2 * x) > np.abs(x).max()).sum())}
