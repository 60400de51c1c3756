"""Ops inside the loop over time that the chip cannot run: they are the host's, and nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.driver import lower
from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.ir.ops import Decode
from hsnn_compiler.ir.stages import host_stages, stages
from hsnn_compiler.nn import IF, LIF, BitPlane, BitPlaneSum, Direct, Membrane, Rate, Residual, Sum, TimeLoop
from hsnn_compiler.options import Options
from hsnn_compiler.passes.direct import is_direct
from hsnn_compiler.passes.step_partition import constants
from hsnn_compiler.reference.float_executor import FloatExecutor

T = 6
X = (2 * np.random.default_rng(0).random((16, 1, 6, 6))).astype(np.float32)
ROWS = (2 * np.random.default_rng(1).random((16, 12))).astype(np.float32)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def linear(n=12, m=12):
    """Weights that let neurons of a small threshold fire."""
    layer = nn.Linear(n, m)
    nn.init.normal_(layer.weight, 0.1, 0.4)
    return layer


class Attention(nn.Module):
    """Of spikes, in every step: [tokens, features]."""

    def __init__(self, features):
        super().__init__()
        self.q, self.k = linear(features, features), linear(features, features)

    def forward(self, x):
        return torch.softmax(self.q(x) @ self.k(x).transpose(1, 2), -1) @ x


class Beside(nn.Module):
    def forward(self, x):
        return torch.cat([x, x], 1)


def compiled(model, x, **options):
    """The program; in real numbers it computes what the model computes, and the integers run."""
    model = model.eval()
    graph = capture(model, torch.from_numpy(x[:2]))
    program = lower(graph, Options(**options), x)
    with torch.no_grad():
        expected = model.double()(torch.from_numpy(x).double()).numpy()
    model.float()
    assert expected.std() > 1e-3, "a network whose output is constant proves nothing"
    found = FloatExecutor(program.floating, torch.float64).run(x.astype(np.float64)).output
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    whole = program.simulate(x).output
    assert whole.shape == expected.shape
    assert np.isfinite(whole).all()
    return program


def codes(program):
    """What is said of placements."""
    return [finding.code for finding in program.findings if finding.code in ("W0431", "W0434")]


def places(program, kinds=("IF", "LIF")):
    return {node.name: node.placement.where for node in program.floating if node.kind in kinds}


MIDDLE = {
    "layer norm": ([nn.LayerNorm(12), LIF(0.8, 0.3)], 1),
    "reshaped": ([nn.Unflatten(1, (3, 4)), nn.Flatten(), LIF(0.8, 0.3)], 1),
    "relu": ([nn.ReLU(), linear(), IF(0.2)], 1),
    "softmax of potentials": ([nn.Softmax(1), linear(), IF(0.1)], 1),
}


@pytest.mark.parametrize("name", MIDDLE)
def test_between_spikes(name):
    parts, neurons = MIDDLE[name]
    body = nn.Sequential(linear(), IF(0.5), linear(), *parts, linear(), IF(0.4), linear(12, 5), IF(0.3))
    program = compiled(TimeLoop(Direct(T), body, Rate()), ROWS)
    warnings = [finding for finding in program.findings if finding.code == "W0431"]
    assert warnings
    assert all(f"one window of {T} steps more per result" in warning.message for warning in warnings)
    where = places(program)
    assert sum(place == "host" for place in where.values()) == neurons
    assert where["_1"] == "chip"
    assert list(where.values())[-2:] == ["chip", "chip"]
    assert [stage.number for stage in host_stages(program.graph)] == [0, 1, 2]


def test_concatenated_spikes_stay_on_the_chip():
    body = nn.Sequential(
        linear(), IF(0.5), linear(), IF(0.2), Beside(), linear(24, 12), IF(0.4), linear(12, 5), IF(0.3)
    )
    program = compiled(TimeLoop(Direct(T), body, Rate()), ROWS)
    assert codes(program) == []
    assert set(places(program).values()) == {"chip"}


def test_what_the_host_makes_of_the_chips_spikes():
    """Spikes of host neurons are what PyTorch makes of the spikes that the chip's integers sent."""
    tail = [linear(), nn.LayerNorm(12), LIF(0.8, 0.3)]
    body = nn.Sequential(linear(), IF(0.5), *tail, linear(12, 5), IF(0.3))
    program = compiled(TimeLoop(Direct(T), body, Rate()), ROWS)
    trace = program.simulate(ROWS, record=["_1", "_4"]).trace
    steps = torch.from_numpy(trace["_1", "s"].astype(np.float32)).transpose(0, 1)
    tail[2].reset_state()
    with torch.no_grad():
        wanted = torch.stack([nn.Sequential(*tail)(step) for step in steps]).transpose(0, 1)
    assert wanted.any()
    np.testing.assert_array_equal(trace["_4", "s"], wanted.numpy())


def test_max_pooling_of_currents():
    body = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        IF(0.3),
        nn.Conv2d(4, 6, 3),
        nn.MaxPool2d(2),
        IF(0.1),
        nn.Flatten(),
        linear(24, 5),
    )
    program = compiled(TimeLoop(BitPlane(8, 2.0), body, Rate()), X)
    assert codes(program) == ["W0434"]
    assert [node.name for node in program.graph if node.is_population and node.on_chip] == ["_1"]  # no readout
    program = compiled(TimeLoop(BitPlane(8, 2.0), nn.Sequential(*body, IF(0.3)), Rate()), X)
    assert codes(program) == ["W0431"]
    assert "MaxPool2d does not run on loihi2" in program.findings[0].message
    assert "1 weight layer (_2) and 1 population (_4)" in program.findings[0].message
    assert places(program) == {"_1": "chip", "_4": "host", "_7": "chip"}


def test_attention_in_every_step():
    body = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        IF(0.3),
        nn.Flatten(2),
        Attention(36),
        IF(0.4),
        nn.Flatten(),
        linear(144, 5),
        IF(12.0),
    )
    program = compiled(TimeLoop(Direct(T), body, Sum()), X)
    assert set(codes(program)) == {"W0431"}
    assert list(places(program).values()) == ["chip", "host", "chip"]


def test_a_shortcut_around_the_host_and_currents_on_both_ways():
    inner = Residual(nn.Sequential(linear(), nn.LayerNorm(12), IF(0.3)), nn.Identity())
    both = Residual(nn.LayerNorm(12), nn.Sequential(IF(0.3), linear()))
    body = nn.Sequential(linear(), IF(0.5), inner, linear(), IF(0.5), linear(), both, IF(0.2), linear(12, 5), IF(0.3))
    program = compiled(TimeLoop(Direct(T), body, Rate()), ROWS)
    assert codes(program).count("W0431") == 2
    assert places(program)["_6.shortcut.0"] == "host"  # its current comes from weights that the host needs, too


def test_what_is_the_same_in_every_step_is_computed_once():
    body = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), LIF(0.9, 0.3), nn.Flatten(), linear(36, 5), IF(0.2)
    )
    model = TimeLoop(Direct(T), body, Rate())
    assert constants(capture(model, torch.from_numpy(X[:1]))) == {"encode", "_0", "_1", "_2"}
    program = compiled(model, X)
    assert not codes(program)
    assert set(places(program).values()) == {"chip"}
    assert program.graph["_1"].type.coding.value == "value"
    assert [stage.number for stage in host_stages(program.graph)] == [0, 1]


def test_before_and_behind_the_chip():
    front = nn.Sequential(linear(), nn.LayerNorm(12), LIF(0.8, 0.3), linear(12, 5), IF(0.3))
    program = compiled(TimeLoop(BitPlane(8, 2.0), front, Rate()), ROWS)
    assert codes(program) == ["W0434"]
    assert list(places(program).values()) == ["host", "chip"]
    for behind in ([nn.LayerNorm(12), LIF(0.8, 0.3)], [nn.LayerNorm(12)]):
        body = nn.Sequential(linear(), IF(0.5), linear(), *behind)
        program = compiled(TimeLoop(Direct(T), body, BitPlaneSum()), ROWS)
        assert codes(program) == ["W0434"]
        assert places(program)["_1"] == "chip"


def test_several_stages():
    turn = [linear(), nn.LayerNorm(12), IF(0.4), linear(), IF(0.4)]
    again = [linear(), nn.LayerNorm(12), LIF(0.9, 0.4), linear(), IF(0.3)]
    program = compiled(TimeLoop(Direct(T), nn.Sequential(linear(), IF(0.4), *turn, *again), Rate()), ROWS)
    assert codes(program) == ["W0431", "W0431"]
    assert [stage.number for stage in host_stages(program.graph)] == [0, 1, 2, 3]


@pytest.mark.parametrize(("encoder", "what"), [(Direct(T), "bias currents"), (BitPlane(T), "events")])
def test_what_the_first_stage_sends_is_told(encoder, what):
    body = nn.Sequential(linear(), IF(0.4), linear(), nn.LayerNorm(12), IF(0.4), linear(), IF(0.4))
    program = compiled(TimeLoop(encoder, body, Rate()), ROWS)
    (crossing,) = (t for stage in program.stages for t in stage.tables if t.title == "What crosses")
    assert [row[2:4] for row in crossing.rows] == [
        ("host to chip", what),
        ("chip to host", "events"),
        ("host to chip", "events"),
        ("chip to host", "events"),
    ]


def test_nothing_is_left_for_the_chip():
    with pytest.raises(HsnnError, match="E0430"):
        compiled(TimeLoop(BitPlane(8), nn.Sequential(linear(), nn.LayerNorm(12), IF(0.3)), Rate()), ROWS)


def test_neurons_pinned_to_the_host():
    body = nn.Sequential(linear(), IF(0.5), linear(), IF(0.4), linear(12, 5), IF(0.3))
    model = TimeLoop(Direct(T), body, Rate())
    program = compiled(model, ROWS, layers={"_3": {"place": "host"}})
    assert places(program) == {"_1": "chip", "_3": "host", "_5": "chip"}
    with pytest.raises(HsnnError, match="E0432"):
        compiled(TimeLoop(Direct(T), nn.Sequential(body[:3], nn.ReLU(), body[3:]), Rate()), ROWS,
                 layers={"_1": {"place": "chip"}})  # fmt: skip


class Hybrid(nn.Module):
    """Neurons of the last loop get values of the input, and values that earlier loops made: two turns of the host."""

    def __init__(self):
        super().__init__()
        self.first = TimeLoop(Direct(T), nn.Sequential(linear(), IF(0.4)), Membrane(0.9))
        self.second = TimeLoop(Direct(T), Late(), Rate())

    def forward(self, x):
        return self.second(torch.cat([x, torch.relu(self.first(x))], 1))


class Late(nn.Module):
    def __init__(self):
        super().__init__()
        self.late, self.neuron, self.last = linear(24, 12), IF(0.5), linear(12, 5)

    def forward(self, x):
        return self.last(self.neuron(self.late(x)))


def test_values_of_several_stages_for_the_same_neurons():
    """An early input of late neurons is added by hand: in a TimeLoop all that comes in comes together."""
    graph = capture(Hybrid(), torch.from_numpy(ROWS[:1]))
    early = graph["first.encode"].with_(name="early")
    graph.add(early, "input")
    weights = graph["first.0"].with_(name="early.weights")
    graph.add(weights, "early")
    graph.connect(graph.in_edges("second.neuron")[0]._replace(src="early.weights"))
    program = lower(graph, Options(), ROWS)
    number = stages(program.graph)
    for node in program.graph:
        if node.is_population and node.on_chip:
            encodes = [n for n in program.graph.predecessors(node.name) if is_direct(n)]
            assert len({number[n.name] for n in encodes}) <= 1
    before, after = (FloatExecutor(g, torch.float64).run(ROWS).output for g in (graph, program.floating))
    assert before.std() > 1e-3
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-9)
    assert any("values of several turns of the host" in note for s in program.stages for note in s.notes)


def test_potentials_that_are_read_in_every_step():
    """Only the last potential leaves the chip: where more of it goes on, the integrator is the host's."""
    graph = capture(
        TimeLoop(
            Direct(T), nn.Sequential(linear(), IF(0.4), linear(), linear(), IF(0.4), linear(12, 5), IF(0.2)), Rate()
        ),
        torch.from_numpy(ROWS[:1]),
    )
    membrane = capture(TimeLoop(Direct(T), nn.Sequential(linear()), Membrane(0.5)), torch.from_numpy(ROWS[:1]))
    graph.add(membrane["decode.membrane"].with_(name="li", type=graph["_2"].type))
    (edge,) = graph.out_edges("_2")
    graph.disconnect(edge)
    graph.connect(edge._replace(dst="li"))
    graph.connect(edge._replace(src="li"))
    program = lower(graph, Options(), ROWS)
    assert program.graph["li"].placement.where == "host"
    assert [f.code for f in program.findings] == ["W0431"]
    before, after = (FloatExecutor(g, torch.float64).run(ROWS).output for g in (graph, program.floating))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-9)


def test_potentials_of_which_the_mean_is_needed_before_the_next_turn():
    graph = capture(Hybrid(), torch.from_numpy(ROWS[:1]))
    graph.update("first.decode", op=Decode("mean"))
    program = lower(graph, Options(), ROWS)
    assert program.graph["first.decode.membrane"].placement.where == "host"
    before, after = (FloatExecutor(g, torch.float64).run(ROWS).output for g in (graph, program.floating))
    assert before.std() > 1e-3
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-9)
    whole = program.simulate(ROWS).output
    assert np.abs(whole - before).mean() < 0.1 * np.abs(before).max()


def random_body(rng, depth):
    """Neurons, weights and whatever else, in any order, with residuals; at least three populations."""
    makers = [
        lambda: [linear()],
        lambda: [linear(), IF(0.4)],
        lambda: [linear(), LIF(0.8, 0.3, reset="zero")],
        lambda: [nn.LayerNorm(12)],
        lambda: [nn.ReLU()],
        lambda: [nn.Sigmoid()],
        lambda: [Residual(random_body(rng, depth - 1), nn.Identity())] if depth else [nn.Identity()],
        lambda: [Residual(random_body(rng, depth - 1), random_body(rng, depth - 1))] if depth else [nn.Tanh()],
    ]
    return nn.Sequential(*(part for _ in range(rng.integers(1, 5)) for part in makers[rng.integers(len(makers))]()))


@pytest.mark.parametrize("seed", range(12))
def test_random_bodies(seed):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    encoder = [Direct(8), BitPlane(8, 2.0)][rng.integers(2)]
    decoder = [Rate(), BitPlaneSum(), Membrane(0.9)][rng.integers(3)]
    body = nn.Sequential(
        linear(), IF(0.3), random_body(rng, 1), linear(), LIF(0.9, 0.3), random_body(rng, 2), linear(12, 5)
    )
    program = compiled(TimeLoop(encoder, body, decoder), ROWS)
    for node in program.graph:
        if node.on_chip and node.is_synapse:  # spikes alone
            assert all(s.type.coding.value in ("spikes", "graded") for s in program.graph.predecessors(node.name))
