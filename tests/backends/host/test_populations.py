"""Populations as a Scan over time: the same spikes and currents as in the float executor, bit for bit."""

import nir
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from same import assert_same, model_of
from value_graphs import Net

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Coding, Dynamics, Graph, Node, TensorType
from hsnn_compiler.ir import ops as hs
from hsnn_compiler.ir.dynamics import discretize
from hsnn_compiler.ir.infer import infer_types

SHAPES = ((3,), (2, 3), (2, 2, 2))


def made(kind, shape, rng):
    """A neuron with parameters one per channel."""
    size = (shape[0],) + (1,) * (len(shape) - 1)

    def between(low, high):
        return rng.uniform(low, high, size)

    common = {"v_threshold": between(0.3, 1), "v_reset": between(-0.5, 0.2)}
    leaky = {"r": between(0.5, 2), "v_leak": between(-0.2, 0.2)}
    cuba = {"tau_syn": between(1.5, 4), "tau_mem": between(1.5, 4), "w_in": between(0.5, 2)}
    return {
        "IF": lambda: nir.IF(r=between(0.5, 2), **common),
        "LIF": lambda: nir.LIF(tau=between(1.5, 4), **leaky, **common),
        "CubaLIF": lambda: nir.CubaLIF(**cuba, **leaky, **common),
        "I": lambda: nir.I(r=between(0.5, 2)),
        "LI": lambda: nir.LI(tau=between(1.5, 4), **leaky),
        "CubaLI": lambda: nir.CubaLI(**cuba, **leaky),
    }[kind]()


def population(op, dynamics, shape, steps=6, coding=Coding.CURRENT):
    graph = Graph("one", steps)
    graph.add(Node("x", nir.Input(np.array(shape)), type=TensorType(shape, coding)))
    graph.add(Node("n", op, dynamics=dynamics), "x")
    graph.add(Node("y", nir.Output(np.array(shape))), "n")
    return infer_types(graph)


meanings = st.fixed_dictionaries(
    {
        "integrator": st.sampled_from(["euler", "exact"]),
        "reset": st.sampled_from(["zero", "value", "subtract", "none"]),
        "reset_at": st.sampled_from(["spike", "before", "after", "crossing", "undelayed"]),
        "threshold_test": st.sampled_from([">", ">="]),
        "v_init": st.sampled_from([0.0, 0.4]),
        "max_spikes": st.sampled_from([1, 1, 0, 3]),
        "refractory": st.sampled_from([0, 0, 2]),
        "v_min": st.sampled_from([None, -0.3]),
        "current_first": st.booleans(),
        "leak": st.sampled_from([None, 0.1]),
        "gain": st.sampled_from([None, 0.8]),
        "decay": st.sampled_from([None, 0.9]),
        "current_leak": st.sampled_from([None, 0.05]),
        "u_init": st.sampled_from([None, 0.3]),
        "reset_current": st.booleans(),
        "reset_to_current": st.booleans(),
    }
)


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(["IF", "LIF", "CubaLIF", "I", "LI", "CubaLI"]),
    shape=st.sampled_from(SHAPES),
    meaning=meanings,
    seed=st.integers(0, 99),
)
def test_populations(kind, shape, meaning, seed):
    op = made(kind, shape, np.random.default_rng(seed))
    try:
        dynamics = Dynamics(**meaning)
        discretize(op, dynamics)
    except HsnnError:  # a combination that no population has
        return
    assert_same(population(op, dynamics, shape), exactly=True, seed=seed)


@pytest.mark.parametrize("reset", ["zero", "value", "subtract", "none"])
@pytest.mark.parametrize("kind", ["IF", "LIF", "CubaLIF"])
def test_common_populations_fire(kind, reset):
    graph = population(made(kind, (2, 3), np.random.default_rng(3)), Dynamics(reset=reset), (2, 3), 12)
    found = assert_same(graph, exactly=True, spread=2.0)["y"]
    assert 0 < found.mean() < 1


@pytest.mark.parametrize(
    "meaning",
    [
        {"reset": "zero", "reset_at": "after", "reset_current": True},
        {"reset": "subtract", "reset_at": "after", "reset_to_current": True},
        {"reset": "value", "reset_at": "crossing", "integrator": "exact"},
        {"reset": "subtract", "reset_at": "undelayed"},
    ],
)
def test_rare_resets(meaning):
    kind = "LIF" if meaning["reset_at"] in ("crossing", "undelayed") else "CubaLIF"
    graph = population(made(kind, (3,), np.random.default_rng(1)), Dynamics(**meaning), (3,), 12)
    assert assert_same(graph, exactly=True, spread=2.0)["y"].mean() > 0


@pytest.mark.parametrize("cumulative", [False, True])
@pytest.mark.parametrize("activation", ["relu", "unit"])
def test_sigma_delta(activation, cumulative):
    op = hs.SigmaDelta(np.array([0.4, 0.8, 0.1]), np.array([0.1, 0.0, -0.2]), activation, cumulative)
    assert_same(population(op, None, (3,)), exactly=True)
    assert_same(population(hs.DeltaEncoder(np.array([0.5]), cumulative), None, (3,)), exactly=True)


def test_only_states_that_matter_are_carried():
    graph = population(made("LIF", (3,), np.random.default_rng(0)), Dynamics(), (3,))
    model = onnx.load_from_string(model_of(graph))
    (scan,) = [node for node in model.graph.node if node.op_type == "Scan"]
    assert len(scan.input) == 2  # the membrane potential, and what arrives


def test_a_host_with_neurons_and_synapses():
    net = Net((2, 6, 6), 7).add("encode", hs.Encode("rate", 1.0)).conv("conv", 3, 3).neuron("lif")
    net.pool("pool").neuron("lif2", reset="zero").flatten().linear("fc", 4).add("li", nir.LI(
        tau=np.full(4, 3.0), r=np.ones(4), v_leak=np.zeros(4)), dynamics=Dynamics())  # fmt: skip
    net.add("again", hs.Decode("last")).add("relu", hs.ReLU()).encode("encode2").neuron("lif3")
    assert_same(net.done("bitplane"))
