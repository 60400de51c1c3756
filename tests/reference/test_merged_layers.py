"""Scales and sums that disappear into layers of the kernels, as converted networks have them."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest
import torch
from picks import Picks
from test_fused_layers import dyadic, same

from hsnn_compiler.ir import Coding, Dynamics, Edge, Graph, Node, TensorType
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Add, Encode
from hsnn_compiler.reference import fused
from hsnn_compiler.reference.float_executor import FloatExecutor

RECORDS: tuple[tuple[tuple[str, str], ...], ...] = (
    (), (("s1", "s"),), (("sum", "s"), ("n2", "v")), (("flat", "s"), ("n1", "u")), (("c2", "s"),),
)  # fmt: skip


def residual(seed: int, analog: bool) -> Graph:
    """Two convolutions and a shortcut into a sum, scaled spikes everywhere; multiples of powers of 2: all sums exact.

    Its input is a constant (`analog`) or a series of spikes.
    """
    rng, pick = np.random.default_rng(seed), Picks.seeded(seed)
    graph = Graph("net", 6)

    def neuron(name: str, *feeds: str | Edge) -> None:
        dynamics = Dynamics(1.0, reset=pick.choice(["zero", "subtract"]), v_init=0.25)
        one = np.ones((1,), np.float32)
        graph.add(Node(name, nir.IF(one, one * pick.choice([0.5, 1.0]), 0 * one), dynamics=dynamics), *feeds)

    def scale(name: str, channels: int, feed: str) -> None:
        size = pick.choice([(channels, 1, 1), (1, 1, 1), (1,)])
        graph.add(Node(name, nir.Scale(np.abs(dyadic(rng, *size)) + 0.25)), feed)

    def conv(name: str, channels: int, inputs: int, groups: int, feed: str | Edge) -> None:
        op = nir.Conv2d(None, dyadic(rng, channels, inputs // groups, 3, 3), 1, 1, 1, groups, dyadic(rng, channels))
        graph.add(Node(name, op), feed)

    graph.add(
        Node("input", nir.Input(np.array([2, 5, 4])), TensorType((2, 5, 4), Coding.VALUE if analog else Coding.SPIKES))
    )
    start = "input"
    if analog:
        graph.add(Node("encode", Encode("current")), "input")
        start = "encode"
    conv("c1", 4, 2, 1, start)
    neuron("n1", "c1")
    scale("s1", 4, "n1")
    conv("c2", 4, 4, 2, Edge("s1", "c2", delay=pick.choice([0, 0, 2])))
    conv("c3", 4, 4, 1, "s1")
    feeds = [Edge(name, "sum", str(i)) for i, name in enumerate(("c2", "c3", "s1")) if name != "s1" or pick.flag(2)]
    graph.add(Node("sum", Add()), *feeds)
    neuron("n2", "sum")
    scale("s2", 4, "n2")
    graph.add(Node("flat", nir.Flatten({"input": None}, 0, -1)), "s2")
    graph.add(Node("fc", nir.Affine(dyadic(rng, 5, 80), dyadic(rng, 5))), "flat")
    neuron("n3", "fc")
    graph.add(Node("output", nir.Output(np.array([5]))), "n3")
    return infer_types(graph)


@pytest.mark.parametrize("analog", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_merged_layers_compute_the_same(seed: int, analog: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "WORTH_COMPILING", 0)
    graph = residual(seed, analog)
    rng = np.random.default_rng(seed)
    x: Any = dyadic(rng, 3, 2, 5, 4) if analog else rng.integers(0, 2, (3, 6, 2, 5, 4)).astype(np.float32)
    for record in RECORDS:
        merged = FloatExecutor(graph, torch.float64, method="auto").run(x, record)
        assert not any(how.startswith("torch") for how in merged.how.values())
        same(FloatExecutor(graph, torch.float64).run(x, record), merged)


def test_what_disappears() -> None:
    graph = residual(0, analog=True)
    executor = FloatExecutor(graph, method="auto")
    inside = executor.plan(frozenset()).inside
    assert {"c2", "c3", "sum", "s2", "flat", "fc"} <= inside
    assert "c1" not in inside, "a constant is weighed once, not at every step"
    assert inside.isdisjoint({"s1"}) == any(edge.src == "s1" for edge in graph.in_edges("sum"))
    assert "s2" not in executor.plan(frozenset({("s2", "s")})).inside
    assert inside.isdisjoint({"n1", "n2", "n3"})
