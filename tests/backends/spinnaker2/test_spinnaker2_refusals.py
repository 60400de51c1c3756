"""What SpiNNaker 2 cannot do is refused, all at once, before anything is written."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest
from spinnaker2_graphs import compile_
from value_graphs import Net

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Dynamics, Graph
from hsnn_compiler.reference.spinnaker2_memory import neurons_per_core
from hsnn_compiler.targets import load_target


def refused(graph: Graph) -> list[tuple[str, str]]:
    with pytest.raises(HsnnError) as error:
        compile_(graph)
    assert all(finding.suggestion for finding in error.value.findings)
    return [(finding.code, finding.message) for finding in error.value.findings]


def two_layers(**rule: Any) -> Graph:
    """The second population with a rule of its own."""
    net = Net((5,), timesteps=4).encode().linear("w0", 4).neuron("n0").linear("w1", 3).neuron("n1")
    graph = net.done("mean")
    given = graph["n1"].dynamics
    graph.update("n1", dynamics=Dynamics(**{**vars(given), **rule}))
    return graph


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"refractory": 2}, "2 refractory steps"),
        ({"max_spikes": 3}, "up to 3 spikes"),
        ({"v_min": -1.0}, "a lower bound"),
        ({"reset": "none"}, "do not reset"),
        ({"reset": "subtract", "reset_at": "after"}, "subtracted after the leak"),
        ({"reset": "zero", "reset_at": "after"}, "a reset that acts later"),
        ({"gain": -1.0}, "a gain of the input that is not positive"),
        ({"decay": 1.5}, "a decay of 1.5"),
    ],
)
def test_neurons_that_lif_is_not(rule: dict[str, Any], said: str) -> None:
    found = refused(two_layers(**rule))
    assert {code for code, _ in found} == {"E0570"}
    assert any(said in message for _, message in found)


@pytest.mark.parametrize(
    "rule",
    [
        {"reset": "subtract", "reset_at": "before"},
        {"reset": "subtract", "reset_at": "after", "decay": 1.0},
        {"reset": "zero", "reset_at": "before"},
        {"reset": "value"},
    ],
)
def test_neurons_that_lif_is_in_other_words(rule: dict[str, Any]) -> None:
    graph = compile_(two_layers(**rule))
    dynamics = graph["n1"].dynamics
    assert dynamics is not None
    assert (dynamics.reset, dynamics.reset_at) == ({"value": "zero"}.get(rule["reset"], rule["reset"]), "spike")


def test_all_at_once() -> None:
    net = Net((5,), timesteps=4).encode().linear("w0", 4).neuron("n0").linear("w1", 3)
    one = np.ones(1)
    op = nir.CubaLIF(tau_syn=2 * one, tau_mem=3 * one, r=one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)
    net.add("n1", op, dynamics=Dynamics(refractory=1))
    found = refused(net.done("mean"))
    assert [code for code, _ in found] == ["E0570", "E0570"]
    assert any("synaptic current" in message for _, message in found)
    assert any("refractory" in message for _, message in found)


def test_a_start_above_the_threshold_of_a_deep_population() -> None:
    ((code, message),) = refused(two_layers(v_init=1.5))
    assert code == "E0573"
    assert "start potential" in message


def test_a_leak_that_leaves_nothing_of_a_start() -> None:
    net = Net((5,), timesteps=4).encode().linear("w0", 4).neuron("n0").linear("w1", 3).neuron("n1").linear("w2", 2)
    graph = net.neuron("n2").done("mean")
    rule = Dynamics(**{**vars(graph["n2"].dynamics), "decay": 0.01, "v_init": 0.9})
    graph.update("n2", dynamics=rule)
    assert [code for code, _ in refused(graph)] == ["E0573"]


def test_a_neuron_that_no_core_holds() -> None:
    target = load_target("spinnaker2")
    assert neurons_per_core(10, 784, 7840, 0, target) == 10
    assert neurons_per_core(256, 784, 784 * 256, 0, target) == (44_928 - 4 * 784) // (32 + 2 * 784)
    assert neurons_per_core(5000, 0, 0, 36_864, target) == 250
    assert neurons_per_core(2, 12_000, 24_000, 0, target) == 0
    net = Net((12_000,), timesteps=2)
    one = np.ones(1)
    net.encode().add("n0", nir.IF(one, one, 0 * one), dynamics=Dynamics(reset="subtract"))
    ((code, message),) = refused(net.linear("w", 2).neuron("n1").done("mean"))
    assert (code, "44,928" in message) == ("E0575", True)


def test_two_layers_of_weights_in_a_row_become_one() -> None:
    """py-spinnaker2's import of NIR refuses them; here they are multiplied, before the rounding."""
    net = Net((5,), timesteps=4).encode().linear("w0", 4).neuron("n0").linear("w1", 6).linear("w2", 3).neuron("n1")
    graph = compile_(net.done("mean"))
    assert len([node for node in graph if node.is_synapse and node.on_chip]) == 1
