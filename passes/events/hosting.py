"""The first neurons on the host: they send their spikes to the chip."""

from __future__ import annotations

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.types import Placement
from hsnn_compiler.passes.direct import is_direct
from hsnn_compiler.passes.events.regions import ANALOG, arriving, origins, region

WHY = "driven by analog input alone: run on the host, their spikes are sent to the chip"


def first_on_the_host(graph: Graph) -> tuple[Graph, list[str]]:
    """Place the neurons that only analog input drives on the host, with what lies in front of them.

    Neurons that spikes drive as well stay on the chip: for them, the analog part stays a bias current.

    Args:
        graph: typed and placed.

    Returns:
        A copy, and the names of the neurons. E0473 if no neurons would be left for the chip.
    """
    graph = infer_types(graph)
    found = origins(graph)
    first = [node.name for node in graph if node.is_population and found[node.name] == {ANALOG}]
    left = [node.name for node in graph if node.is_population and node.on_chip and node.name not in first]
    if first and not left:
        raise refuse(
            "E0473",
            f"all neurons see the input and nothing else ({', '.join(first)}): none would be left for the chip",
            supported="--encode host for two or more layers of neurons",
            suggestion="--encode current",
        )
    for name in first:
        edges = arriving(graph, name, ANALOG)
        for inner in {name} | region(graph, edges):
            graph.update(inner, placement=Placement("host", WHY))
    for encode in filter(is_direct, list(graph)):
        if not any(node.on_chip for node in graph.successors(encode.name)):
            graph.update(encode.name, placement=Placement("host", "the value is presented at every step"))
    return graph, first
