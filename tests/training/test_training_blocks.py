"""Blocks: cut points against the definition, stages of networks as people would name them."""

from __future__ import annotations

import networkx as nx
import nir
import numpy as np
import pytest
from hypothesis import given, settings
from picks import Picks, picks
from value_graphs import Net

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Edge, Graph, Node
from hsnn_compiler.ir.ops import Add, NoOp, ReLU
from hsnn_compiler.training.blocks import cut_points, find_blocks


def random_network(p: Picks) -> Graph:
    """Inputs, nodes that are fed by earlier ones, and outputs that everything leads to."""
    graph = Graph("random")
    names = [graph.add(Node(f"in{i}", nir.Input(np.array([1])))).name for i in range(p.integer(1, 2))]
    for number in range(p.integer(1, 8)):
        feeds = {p.choice(names[::-1]) for _ in range(p.integer(1, 2))}
        names.append(graph.add(Node(f"n{number}", NoOp()), *sorted(feeds)).name)
    ends = [name for name in names if not graph.out_edges(name)]
    apart = p.flag(4)
    for number, group in enumerate([[end] for end in ends] if apart else [ends]):
        graph.add(Node(f"out{number}", nir.Output(np.array([1]))), *group)
    return graph


@settings(max_examples=150, deadline=None)
@given(picks())
def test_without_a_cut_point_no_input_reaches_an_output(p: Picks) -> None:
    graph = random_network(p)
    found = cut_points(graph)
    inputs, outputs = ({n.name for n in graph.of_kind(kind)} for kind in ("Input", "Output"))
    for node in graph:
        rest = nx.DiGraph(graph.nx).copy()
        rest.remove_node(node.name)
        joined = any(nx.has_path(rest, a, b) for a in inputs - {node.name} for b in outputs - {node.name})
        others = (inputs | outputs) - {node.name}
        # Of several inputs or outputs, none is a cut point: the others do without it.
        alone = node.kind not in ("Input", "Output") or not any(graph[n].kind == node.kind for n in others)
        assert (node.name in found) == (alone and not joined), node.name
    order = [node.name for node in graph.topological()]
    assert found == sorted(found, key=order.index)


def test_nothing_on_a_loop_is_a_cut_point() -> None:
    graph = Graph("loop")
    graph.add(Node("x", nir.Input(np.array([1]))))
    for name, feed in (("a", "x"), ("b", "a"), ("c", "b"), ("d", "c")):
        graph.add(Node(name, NoOp()), feed)
    graph.add(Node("y", nir.Output(np.array([1]))), "d")
    graph.connect(Edge("c", "b", delay=1))
    assert cut_points(graph) == ["x", "a", "d", "y"]


def residual() -> Graph:
    """A stem, a residual block of its width, one of twice the width at half the resolution, and a readout."""
    net = Net((2, 8, 8)).conv("stem", 4, padding=1).add("r0", ReLU())
    net.conv("a1", 4, padding=1).add("a2", ReLU()).conv("a3", 4, padding=1)
    net.add("a4", Add(), "a3", "r0").add("r1", ReLU())
    net.conv("b1", 8, padding=1, stride=2).add("b2", ReLU()).conv("b3", 8, padding=1)
    net.conv("side", 8, 1, "r1", stride=2).add("b4", Add(), "b3", "side").add("r2", ReLU())
    return net.pool("pool", 4).flatten().linear("fc", 3).done()


ACTIVATIONS = ("r0", "a2", "r1", "b2", "r2")


def test_blocks_of_a_residual_network_are_its_stages() -> None:
    graph = residual()
    assert [name for name in cut_points(graph) if name in ACTIVATIONS] == ["r0", "r1", "r2"]
    assert find_blocks(graph, ACTIVATIONS) == ["r1", "r2"]
    assert find_blocks(graph, ACTIVATIONS, ["r2", "r0"]) == ["r0", "r2"]
    assert find_blocks(graph, ["r0", "a2"]) == ["r0"]


def test_a_network_of_one_width_is_cut_evenly() -> None:
    def layers(count: int) -> list[str]:
        net = Net((6,))
        for number in range(count):
            net.linear(f"fc{number}", 6).add(f"r{number}", ReLU())
        return find_blocks(net.linear("end", 3).done(), [f"r{number}" for number in range(count)])

    assert layers(8) == ["r1", "r3", "r5", "r7"]
    assert layers(6) == ["r0", "r2", "r3", "r5"]
    assert layers(2) == ["r0", "r1"]
    assert layers(0) == []


def test_names_that_end_no_block_are_refused_together() -> None:
    with pytest.raises(HsnnError) as refused:
        find_blocks(residual(), ACTIVATIONS, ["a2", "r1", "fc", "nothing"])
    findings = refused.value.findings
    assert [(f.code, f.node) for f in findings] == [("E0565", "a2"), ("E0565", "fc"), ("E0565", "")]
    assert all(f.supported == "r0, r1, r2" for f in findings)
    assert "go past a2" in findings[0].message
