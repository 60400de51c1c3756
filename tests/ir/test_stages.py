"""Turns of host and chip: run one after the other, each on its own, they make up the whole graph."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from hybrid_models import random_hybrid
from hypothesis import given, settings
from picks import Picks, picks

from hsnn_compiler.driver import capture_model
from hsnn_compiler.ir import Graph
from hsnn_compiler.ir.graph import Edge, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.stages import host_stages, is_host, middle_stages, stage_graph, stages
from hsnn_compiler.ir.types import Placement
from hsnn_compiler.reference.float_executor import FloatExecutor

CROSSINGS = ("Input", "Output", "Decode", "Encode")


def placed_at_random(graph: Graph, pick: Picks) -> Graph:
    """Values on the host; neurons and what lies between them anywhere."""
    graph = graph.copy()
    for node in graph:
        stays = node.kind in CROSSINGS or node.type is None or not node.type.coding.per_step
        where = "host" if stays or pick.flag(3) else "chip"
        graph.update(node.name, placement=Placement(where))
    return graph


def chip_turn(graph: Graph, number: dict[str, int], turn: int) -> Graph:
    """The chip's nodes of a turn, with an input for all that reaches them and an output for all that they put out."""
    part = Graph("turn", graph.timesteps)
    inside = [node for node in graph.topological() if not is_host(node) and number[node.name] == turn]
    names = {node.name for node in inside}
    for node in inside:
        for source in graph.predecessors(node.name):
            if source.name not in names and source.name not in part:
                part.add(Node(source.name, nir.Input(np.array(source.shape)), source.type))
    for node in inside:
        part.add(node)
    for node in inside:
        for edge in graph.in_edges(node.name):
            part.connect(edge)
        end = part.add(Node(f"{node.name}.out", nir.Output(np.array(node.shape)), node.type))
        part.connect(Edge(node.name, end.name))
    return infer_types(part)


def in_turns(graph: Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of a graph, turn after turn."""
    number = stages(graph)
    values = {node.name: x for node in graph.of_kind("Input")}
    hosts = {stage.number: stage for stage in host_stages(graph)}
    for turn in range(max(number.values()) + 1):
        parts = [stage_graph(graph, hosts[turn])] if turn in hosts else []
        for part in (*parts, chip_turn(graph, number, turn)):
            needed = {node.name: values[node.name] for node in part.of_kind("Input")}
            found = FloatExecutor(part, dtype=torch.float64).run(needed).outputs if len(part) else {}
            values |= {name.removesuffix(".out"): array for name, array in found.items()}
    return {node.name: values[graph.predecessors(node.name)[0].name] for node in graph.of_kind("Output")}


def check(pick: Picks) -> int:
    model, x = random_hybrid(pick)
    graph, _ = capture_model(model, x, "model")
    graph = placed_at_random(graph, pick)
    x = x[:3].astype(np.float64)
    whole = FloatExecutor(graph, dtype=torch.float64).run(x).outputs
    for name, output in in_turns(graph, x).items():
        np.testing.assert_allclose(output, whole[name], atol=1e-12)
    return len(middle_stages(graph))


def test_random_placements() -> None:
    turns = [check(Picks.seeded(seed)) for seed in range(40)]
    assert max(turns) >= 3
    assert sum(turn > 0 for turn in turns) >= 20


@given(picks())
@settings(max_examples=15, deadline=None)
def test_any_placement(pick: Picks) -> None:
    check(pick)


def test_what_a_stage_reads_and_gives() -> None:
    for seed in range(12):
        model, x = random_hybrid(Picks.seeded(seed))
        graph, _ = capture_model(model, x, "model")
        graph = placed_at_random(graph, Picks.seeded(seed))
        number, found = stages(graph), host_stages(graph)
        for stage in found:
            for read in stage.reads:
                assert is_host(graph[read.name]) or number[read.name] < stage.number
            assert all(is_host(graph[name]) and number[name] == stage.number for name in stage.nodes)
        assert sum(len(stage.nodes) for stage in found) == sum(
            is_host(node) and node.kind not in ("Input", "Output") for node in graph
        )


@pytest.mark.parametrize("kind", ["spikes", "value"])
def test_kinds_of_reads(kind: str) -> None:
    kinds = set()
    for seed in range(12):
        model, x = random_hybrid(Picks.seeded(seed))
        graph, _ = capture_model(model, x, "model")
        graph = placed_at_random(graph, Picks.seeded(seed))
        kinds |= {read.kind for stage in host_stages(graph) for read in stage.reads}
    assert kind in kinds
