"""Work, traffic and costs, against what the compiled network really does and against formulas written out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hybrid_graphs import random_hybrid
from picks import Picks
from torch import nn
from value_graphs import Net, run_passes

from hsnn_compiler.costs import Tally
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.ir import Edge, Graph, Placement
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import GELU, Add, Clip, Quantised, ReLU
from hsnn_compiler.nn import LIF, Direct, Rate, TimeLoop
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.calibration.histograms import collect
from hsnn_compiler.passes.calibration.methods import Settings, least_squares
from hsnn_compiler.passes.partitioning.alternatives import alternatives
from hsnn_compiler.passes.partitioning.costs import OBJECTIVES, Prices
from hsnn_compiler.passes.partitioning.counting import boundaries
from hsnn_compiler.passes.partitioning.explain import bound_to_host
from hsnn_compiler.passes.partitioning.objectives import solve_for
from hsnn_compiler.passes.partitioning.problem import INF
from hsnn_compiler.passes.partitioning.profile import Profile, profile
from hsnn_compiler.passes.partitioning.work import Flow, Traffic, Workload, workload
from hsnn_compiler.passes.step_partition import constants, has_steps, on_host, unreadable_potentials
from hsnn_compiler.passes.usage import usages
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.registry import PASSES
from hsnn_compiler.targets import Constant, Target, load_target

LOIHI = load_target("loihi2")
T = 8
X = np.random.default_rng(0).random((64, 2, 8, 8)).astype(np.float32)
BEFORE = ",".join(list(PASSES)[: list(PASSES).index("partition")])
AFTER = ",".join(list(PASSES)[list(PASSES).index("partition") + 1 :])
AFTER = AFTER.replace("calibrate-thresholds", "calibrate-thresholds{method=mse,correct=none}")


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.one, self.two = (nn.Conv2d(n, 6, 3, padding=1) for n in (2, 6, 6))
        self.pool, self.last = nn.AvgPool2d(2), nn.Linear(6 * 16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(x + self.two(torch.relu(self.one(x))))
        return self.last(self.pool(x).flatten(1))


def chain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU6(), nn.AvgPool2d(2), nn.Conv2d(6, 8, 2),
        nn.ReLU(), nn.Flatten(), nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4),
    )  # fmt: skip


def captured(model: nn.Module) -> Graph:
    torch.manual_seed(3)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return run_passes(capture(model.eval(), torch.from_numpy(X[:1])), BEFORE)[-1].result.graph


def load(graph: Graph, **more: Any) -> Workload:
    return workload(graph, profile(graph, PassContext(calibration=X, timesteps=T)), LOIHI, **more)


@pytest.mark.parametrize("model", [chain, Residual])
def test_estimates_against_the_compiled_network(model: Any) -> None:
    """Every alternative compiles as it is; cores and multiplications are exact, events and operations close."""
    graph = captured(model())
    work = load(graph)
    seen = 0
    for alternative in alternatives(work, 2, splits=2):
        if not alternative.chip:
            continue
        placed = graph.copy()
        for node in graph:
            placed.update(node.name, placement=Placement("chip" if node.name in alternative.chip else "host"))
        lowered = run_passes(placed, AFTER, calibration=X, timesteps=T)[-1].result.graph
        tally = Tally(lowered, T)
        tally.add(FloatExecutor(lowered).run(X, tally.signals), len(X))
        costs, estimate = tally.costs(), alternative.estimate
        assert estimate.cores == sum(usage.cores for usage in usages(lowered, LOIHI))
        layers = [node.name for node in graph if node.is_synapse and node.name not in alternative.chip]
        assert costs.host_multiplications == sum(work.works[name].operations for name in layers)
        assert estimate.synaptic_operations == pytest.approx(costs.synaptic_operations, rel=0.15)
        for name in work.profile.events.keys() & alternative.chip:
            assert work.profile.total(graph[name]) == pytest.approx(tally.events[name].sum() / len(X), rel=0.15)
        seen += 1
    assert seen > 2


def test_expected_events_are_those_of_the_formula() -> None:
    graph = Net((2, 8, 8)).conv("conv", 5).add("act", ReLU()).flatten().linear("last", 3).done()
    x = FloatExecutor(graph).run(X, [("conv", "s")]).trace["conv", "s"]
    seen = collect(graph, ["act"], PassContext(calibration=X))["act"]
    cases: list[tuple[dict[str, Any], int, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = [
        ({}, T, lambda x, n: n),
        ({"coding": "ttfs"}, T, lambda x, n: n > 0),
        ({"max_spikes": 3}, 3 * T, lambda x, n: np.minimum(n, T)),
        ({"reset": "zero"}, T, lambda x, n: np.where(x > 0, T // (np.floor(1 / np.maximum(x, 1e-9)) + 1), 0)),
    ]
    for options, levels, events in cases:
        theta = least_squares(seen, Settings(levels)).reshape(5, 1, 1)
        expected = events(x / theta, np.clip(np.floor(x * levels / theta + 0.5), 0, levels))
        found = profile(graph, PassContext(calibration=X, timesteps=T, **options))
        assert found.total(graph["act"]) == pytest.approx(expected.reshape(len(X), -1).sum(1).mean(), rel=0.01)
        np.testing.assert_allclose(found.events["act"].ravel(), expected.mean((0, 2, 3)), rtol=0.02, atol=0.01)
        assert found.layer_steps == (T if options.get("coding") == "ttfs" else 1)


def test_trained_thresholds_are_taken() -> None:
    theta = np.linspace(0.3, 1.5, 5).reshape(5, 1, 1)
    graph = Net((2, 8, 8)).conv("conv", 5).add("act", Quantised(theta, T)).flatten().linear("last", 3).done()
    values = FloatExecutor(graph).run(X, [("act", "s")]).trace["act", "s"]
    found = profile(graph, PassContext(calibration=X, timesteps=T))
    np.testing.assert_allclose(found.events["act"], (values * T / theta).mean((0, 2, 3)).reshape(5, 1, 1), rtol=1e-5)


def test_a_spiking_network_is_counted() -> None:
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(2, 4, 3), LIF(0.9), nn.AvgPool2d(2), nn.Conv2d(4, 6, 2), LIF(0.8, 0.5), nn.Flatten(), nn.Linear(24, 3)
    )
    graph = run_passes(capture(TimeLoop(Direct(6), body, Rate()), torch.from_numpy(X[:1])), BEFORE)[-1].result.graph
    work = workload(graph, profile(graph, PassContext(calibration=X)), LOIHI)
    assert work.profile.timesteps == 6
    spikes = FloatExecutor(graph).run(X, [(node.name, "s") for node in graph if node.is_spiking]).trace
    for (name, _), trace in spikes.items():
        np.testing.assert_allclose(np.broadcast_to(work.profile.events[name], trace.shape[2:]), trace.sum(1).mean(0))
        assert trace.any()
    # the convolution behind the pooling, pixel by pixel: an event reaches what its pooled pixel reaches
    events = spikes["_1", "s"].sum(1).mean(0)
    pooled = events.reshape(4, 3, 2, 3, 2).sum((2, 4))
    ways = nn.functional.conv_transpose2d(torch.ones(1, 6, 2, 2), torch.ones(6, 4, 2, 2))[0].numpy()
    assert work.works["_3"].synaptic == pytest.approx((pooled * ways).sum())
    assert work.works["_6"].synaptic == pytest.approx(spikes["_4", "s"].sum((1, 2, 3, 4)).mean() * 3)
    # once per sample on the host for what is analog, in every step for what is not
    assert work.works["_0"].operations == 4 * 6 * 6 * 2 * 9
    assert work.works["_3"].operations == 6 * 6 * 2 * 2 * 4 * 4
    bound = bound_to_host(work)
    assert "once per sample" in bound["_0"]
    assert not {"_1", "_3", "_4", "_6"} & bound.keys()
    for objective in OBJECTIVES:
        _, answer = solve_for(work, objective, 2)
        assert not answer.chip & bound.keys()
    _, answer = solve_for(work, "chip")
    (into, out) = boundaries(work, answer.chip)
    assert (into.traffic, into.to_chip) == (Traffic("bias currents", 4 * 36, 4 * 36), True)
    assert (out.traffic, out.to_chip) == (Traffic("potentials", 3, 3, integrators=3), False)


def spiking_net() -> Net:
    return Net((3,), 4).encode().linear("l0", 3).neuron("n0").linear("l1", 3).neuron("n1").linear("l2", 3).neuron("n2")


def timed(graph: Graph, **more: Any) -> Workload:
    x = np.random.default_rng(1).random((9, 3)).astype(np.float32) * 3
    return workload(graph, profile(graph, PassContext(calibration=x)), LOIHI, **more)


def test_in_time_spikes_cross_and_currents_do_not() -> None:
    graph = spiking_net().done("mean")
    work = timed(graph, obstacles={"l1": "not today"})
    bound = bound_to_host(work)
    assert bound["l1"] == "not today"
    assert "its currents come from l1" in bound["n1"]
    _, answer = solve_for(work, "chip")
    assert answer.chip == {"n0", "l2", "n2"}
    events = {name: work.profile.total(graph[name]) for name in ("n0", "n1", "n2")}
    assert [(b.src, b.to_chip, b.traffic.what, b.traffic.count) for b in boundaries(work, answer.chip)] == [
        ("l0", True, "bias currents", 3),
        ("n0", False, "events", events["n0"]),
        ("n1", True, "events", events["n1"]),
        ("n2", False, "events", events["n2"]),
    ]
    estimate = Prices(work).measure(answer.chip)
    assert (estimate.crossings, estimate.turns) == (4, 2)
    _, once = solve_for(work, "chip", 2)
    assert once.chip == {"l2", "n2"}
    with pytest.raises(HsnnError, match="cannot be parted") as error:
        solve_for(timed(graph, obstacles={"l1": "not today"}, on_chip=frozenset({"n1"})), "energy")
    assert error.value.findings[0].code == "E0432"


def test_sums_of_spikes_are_read_where_they_are_fired() -> None:
    net = Net((3,), 4).encode().linear("l0", 3).neuron("n0").linear("l1", 3, "n0").neuron("n1")
    graph = net.add("sum", Add(), "n0", "n1").done("mean")
    work = timed(graph)
    _, answer = solve_for(work, "chip")
    out = boundaries(work, answer.chip)[-1]
    total = work.profile.total(graph["n0"]) + work.profile.total(graph["n1"])
    assert (out.src, out.traffic) == ("sum", Traffic("events", total, 6))


def test_a_host_op_takes_the_synapses_in_front_of_it() -> None:
    net = Net((3,), 4).encode().linear("l0", 3).neuron("n0").linear("l1", 3).add("gelu", GELU()).neuron("n1")
    bound = bound_to_host(timed(net.done("mean")))
    assert "GELU does not run" in bound["gelu"]
    assert "feeds gelu" in bound["l1"]
    assert "n0" not in bound


def test_loops_are_not_cut() -> None:
    graph = spiking_net().linear("back", 3).done("mean")
    graph.connect(Edge("back", "n1", "input", 1))
    work = timed(infer_types(graph), obstacles={"l2": "not today"})
    assert {"l2", "n1", "n2", "back"} <= bound_to_host(work).keys()
    _, answer = solve_for(work, "chip")
    assert answer.chip == {"n0"}


def assumed(graph: Graph, rate: float) -> Workload:
    """Every activation sends the same."""
    events = {node.name: np.full((1,) * len(node.shape), rate * T) for node in graph.of_kind("ReLU", "Clip")}
    return workload(graph, Profile(T, events, 1), LOIHI)


def test_rules_without_time() -> None:
    net = Net((4,)).linear("l0", 4).add("r0", ReLU()).linear("l1", 4).add("r1", ReLU()).linear("l2", 4)
    graph = net.add("sum", Add(), "r0", "l2").add("r2", ReLU()).linear("l3", 2).add("gelu", GELU()).done()
    work = assumed(graph, 0.25)
    flows = {(flow.src, flow.dsts): flow for flow in work.flows}
    currents, potentials, events = (Traffic(what, 4, 4) for what in ("bias currents", "potentials", "events"))
    events = replace(events, count=4 * T * 0.25)
    assert flows["x", ("l0",)].to_chip is None
    assert flows["l0", ("r0",)] == Flow("l0", ("r0",), currents, replace(potentials, integrators=4))
    assert flows["r1", ("l2",)] == Flow("r1", ("l2",), None, events)
    assert flows["l2", ("sum",)].to_chip == currents  # what it adds up ends in neurons
    nothing = Traffic("nothing", 0, 0)
    assert {flow for flow in work.flows if flow.src == "r0"} == {
        Flow("r0", ("l1",), None, nothing),
        Flow("r0", ("sum",), currents, nothing),
        Flow("r0", ("l1", "sum"), nothing, events),  # read once, whoever needs it
    }
    assert bound_to_host(work).keys() == {"x", "l0", "gelu", "y"}
    _, answer = solve_for(work, "chip", 2)
    assert answer.chip == {"r0", "l1", "r1", "l2", "sum", "r2", "l3"}
    assert Prices(work).problem("energy").cost({"l1"}) == INF


def test_energy_is_the_formula() -> None:
    graph = Net((10,)).linear("l0", 20).add("r0", Clip(0.0, 1.0)).linear("l1", 30).add("r1", ReLU()).done()
    work = assumed(graph, 0.5)
    k = {name: constant.value for name, constant in LOIHI.constants.items()}
    op, bit = k["energy.host_operation_pj"], k["energy.link_bit_pj"]
    events = 30 * T * 0.5
    expected = (
        10 * 20 * op  # l0 on the host
        + 20 * (op + 32 * bit)  # bias currents
        + (20 + 30) * T * k["energy.neuron_update_pj"]
        + 20 * T * 0.5 * 30 * k["energy.synaptic_operation_pj"]
        + events * (op + 32 * bit)
    )
    estimate = Prices(work).measure({"r0", "l1", "r1"})
    assert estimate.energy == pytest.approx(1e-12 * expected)
    assert (estimate.sent, estimate.events, estimate.host_operations) == (20 * 4 + events * 4, events, 200)
    assert (estimate.cores, estimate.turns) == (2, 1)
    synaptic = 20 * T * 0.5 * 30 / T * k["time.synaptic_operation_ns"]
    step = k["time.barrier_ns"] + synaptic + 30 * k["time.neuron_update_ns"]
    wire = (20 + events) * 32 * k["time.link_bit_ns"]
    assert estimate.latency == pytest.approx(1e-9 * (200 * k["time.host_operation_ns"] + wire + (T + 2) * step))
    everything = 10 * 20 + 20 + 20 * 30 + 30
    assert Prices(work).measure(()).energy == pytest.approx(1e-12 * everything * op)
    integrators = Prices(work).measure({"r0", "l1"})
    assert integrators.cores == 2
    assert integrators.sent == (20 + 30) * 4


def with_constants(**values: float) -> Target:
    changed = {name.replace("__", "."): value for name, value in values.items()}
    new = {name: Constant(name, value, "this test", "low") for name, value in changed.items()}
    return replace(LOIHI, constants=LOIHI.constants | new)


def test_the_objective_decides() -> None:
    graph = captured(chain())
    work = load(graph)
    cheap = replace(work, target=with_constants(energy__host_operation_pj=0.001))
    assert solve_for(cheap, "energy")[1].chip == frozenset()
    assert solve_for(cheap, "chip") == solve_for(work, "chip")
    slow = replace(work, target=with_constants(time__host_operation_ns=1e6))
    assert solve_for(slow, "latency")[1].chip == solve_for(work, "chip")[1].chip
    with pytest.raises(HsnnError) as error:
        solve_for(work, "beauty")
    assert error.value.findings[0].code == "E0212"


@pytest.mark.parametrize("available", [1, 2, 3, 5, 40])
def test_cores_are_enough(available: int) -> None:
    graph = captured(Residual())
    small = with_constants(chip__neuron_cores=available, core__neurons=100)
    work = workload(graph, profile(graph, PassContext(calibration=X, timesteps=T)), small)
    _, answer = solve_for(work, "cores", 2)
    estimate = Prices(work).measure(answer.chip)
    assert estimate.cores <= available
    everything = Prices(work).measure(solve_for(work, "chip", 2)[1].chip)
    assert (estimate.host_operations == everything.host_operations) == (everything.cores <= available)
    if available == 5:
        assert estimate.cores > 0


def test_as_much_as_possible_on_the_chip_is_that() -> None:
    """No assignment leaves the host less to do, of all that are possible."""
    work = load(captured(chain()))
    problem, answer = solve_for(work, "chip")
    free = [name for name in work.works if name not in bound_to_host(work)]
    assert Prices(work).measure(answer.chip).host_operations == sum(
        item.operations for name, item in work.works.items() if name not in free
    )
    assert problem.cost(answer.chip) == answer.cost


def test_without_data_there_is_no_profile() -> None:
    with pytest.raises(HsnnError) as error:
        profile(captured(chain()), PassContext())
    assert error.value.findings[0].code == "E0213"


def test_two_hundred_layers_take_less_than_a_second() -> None:
    net = Net((4, 6, 6))
    for i in range(66):
        net.conv(f"conv{i}", 4, 3, padding=1).add(f"relu{i}", ReLU())
        if i % 2:
            net.add(f"sum{i}", Add(), f"relu{i}", f"relu{i - 1}")
    graph = net.flatten().linear("last", 5).done()
    assert len(graph) > 160
    events = {node.name: np.full((4, 1, 1), 2.0) for node in graph.of_kind("ReLU")}
    begin = time.process_time()
    work = workload(graph, Profile(T, events, 1), LOIHI)
    for objective in ("chip", "energy"):
        _, answer = solve_for(work, objective, 2)
        assert answer.exact
    assert time.process_time() - begin < 2


def leads_out(graph: Graph, name: str) -> bool:
    """Whether no neurons lie between a node and the Decodes behind it."""
    takers = graph.successors(name)
    return not graph[name].is_population and all(n.kind == "Decode" or leads_out(graph, n.name) for n in takers)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_bound_to_the_host_is_what_the_partition_of_steps_says(seed: int) -> None:
    """Two ways to the same: sides that cannot be parted, and a search from the obstacles."""
    p = Picks.seeded(seed)
    graph, x = random_hybrid(p)
    same = constants(graph)
    steps = [n.name for n in graph if has_steps(n) and n.name not in same and n.kind not in ("Input", "Encode")]
    obstacles = {name: "not today" for name in steps if p.flag(6)} | unreadable_potentials(graph)
    work = workload(graph, profile(graph, PassContext(calibration=x)), LOIHI, obstacles)
    bound = bound_to_host(work)
    found, expected = ({name for name in steps if name in names} for names in (bound, on_host(graph, obstacles)))
    assert found <= expected
    assert all(
        leads_out(graph, name) for name in expected - found
    )  # integrators could read it; the pass has none for it
    _, answer = solve_for(work, "chip")
    assert answer.chip == set(steps) - bound.keys()
