"""Which numbers a signal can hold in one step, and how it is typed."""

from __future__ import annotations

from dataclasses import replace

import nir
import numpy as np
import pytest
from value_graphs import Net

from hsnn_compiler.ir import Coding, Dynamics, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Concat, MaxPool2d
from hsnn_compiler.ir.payloads import largest_payload, message_bits
from hsnn_compiler.ir.quant import NeuronQuant
from hsnn_compiler.ir.spec import verify
from hsnn_compiler.ir.storage import read, write
from hsnn_compiler.ir.text import arrays_of, parse, to_text


def neurons(max_spikes: int) -> dict[str, object]:
    one = np.ones((1, 1, 1))
    return {
        "op": nir.IF(r=one, v_threshold=one, v_reset=0 * one),
        "dynamics": Dynamics(integrator="none", reset="subtract", max_spikes=max_spikes),
    }


def network(max_spikes: int) -> Graph:
    net = Net((2, 4, 4), timesteps=3).encode().conv("c0", 4)
    net.add("n0", **neurons(max_spikes)).add("n1", *[neurons(1)["op"]], "c0", dynamics=neurons(1)["dynamics"])
    net.add("both", Concat(0), "n1", "n0").add("max", MaxPool2d((2, 2), (2, 2), (0, 0)), "n0").flatten()
    return net.linear("fc", 2).done("mean")


@pytest.mark.parametrize(("most", "coding", "largest"), [(1, "spikes", 1), (7, "graded", 7), (0, "graded", None)])
def test_neurons_that_fire_several_times_send_graded_spikes(most: int, coding: str, largest: int | None) -> None:
    graph = network(most)
    for name in ("n0", "max", "flatten", "both"):
        assert graph[name].type.coding is Coding(coding)  # type: ignore[union-attr]
        assert largest_payload(graph, graph[name]) == largest
    assert largest_payload(graph, graph["n1"]) == 1
    assert largest_payload(graph, graph["fc"]) is None
    wrong = graph.copy()
    wrong.update("n0", type=graph["c0"].type)
    assert verify(wrong)[0].node == "n0"


def test_bits_of_a_message_hold_every_payload_and_a_sign() -> None:
    assert message_bits(1) == message_bits(None) == 0
    for payload in range(2, 300):
        bits = message_bits(payload)
        assert 2 ** (bits - 1) > payload >= 2 ** (bits - 2)


def quantised(v_init: object, vth: int = 9, max_spikes: int = 3, **more: object) -> Graph:
    graph = network(max_spikes)
    quant = NeuronQuant(4095, 0, vth, v_init, np.zeros((4, 1, 1), np.int32), 0, 1.0)  # type: ignore[arg-type]
    graph.update("n0", quant=replace(quant, **more))
    return graph


START = np.arange(16, dtype=np.int32).reshape(4, 2, 2)


def test_start_potentials_per_neuron_are_kept_in_text_and_files(tmp_path) -> None:
    graph = quantised(START - 7)
    write(graph, tmp_path / "graph.nir")
    text = to_text(graph)
    for again in (read(tmp_path / "graph.nir"), parse(text, arrays_of(graph)), parse(to_text(graph, whole=True))):
        quant = again["n0"].quant
        assert isinstance(quant, NeuronQuant)
        np.testing.assert_array_equal(quant.v_init, START - 7)
        assert np.asarray(quant.v_init).dtype == np.int32
        assert to_text(again) == text


@pytest.mark.parametrize(
    ("graph", "what"),
    [
        (quantised(START[0]), "v_init of shape [2, 2]"),
        (quantised(2**23), "v_init = 8388608 is outside"),
        (quantised(np.full((4, 2, 2), -(2**23))), "v_init = -8388608..-8388608 is outside"),
        (quantised(0, dv=np.array([0, 4097, 0, 0])), "dv of shape [4]"),
        (quantised(0, dv=np.full((4, 2, 2), 4097)), "dv = 4097..4097 is outside"),
        (quantised(0, du=np.full((4, 2, 2), -2)), "du = -2..-2 is outside"),
        (quantised(0, taken=-1), "taken = -1 is outside"),
        (quantised(0, vth=0), "threshold of 0"),
    ],
)
def test_what_no_population_holds(graph: Graph, what: str) -> None:
    assert any(what in finding.message for finding in verify(graph))


def test_what_populations_hold() -> None:
    for graph in (quantised(0), quantised(START), quantised(0, vth=0, max_spikes=1)):
        assert verify(graph) == []
    node: Node = infer_types(quantised(START))["n0"]
    assert node.type is not None
