"""Rate-based backpropagation: in what order, with which weights of the steps, and for which graphs.

Host and chip take turns, and each turn of the chip needs whole windows of the one before. So a graph is cut into
turns; in each, what is the same at every step runs once, and everything else T times.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.ir.crossings import Decode, code_of
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.order import groups, is_loop
from hsnn_compiler.reference import codes
from hsnn_compiler.reference.batches import has_time

LINEAR = (
    "Input", "Output", "NoOp", "Affine", "Linear", "Conv1d", "Conv2d", "Scale", "Flatten", "AvgPool2d", "SumPool2d",
    "Mean", "BatchNorm", "Add", "Concat", "Spread",
)  # fmt: skip
"""Ops whose mean over the steps is the op of the mean."""

MEASURED = ("MaxPool2d", "FirstSpike", "Encode")
"""Ops whose mean over the steps is measured in the spike pass, as that of neurons is."""


@dataclass(frozen=True)
class Weighting:
    """How the T steps of a window count for a reader, scaled so that the weights add up to 1.

    Attributes:
        kind: of a `Decode`; ``rate`` where all count the same.
        period: K, of phase coding.
    """

    kind: str = "rate"
    period: int = 8

    def weights(self, steps: int) -> list[float]:
        """The weight of each step."""
        if self.kind == "last":
            return [0.0] * (steps - 1) + [1.0]
        counts, _ = codes.step_weights(Decode("mean" if self.kind == "rate" else self.kind, period=self.period), steps)
        return [count / int(counts.sum()) for count in counts.tolist()]


MEAN = Weighting()
"""What a population sees of its input: its mean over the steps."""


def weighting(node: Node) -> Weighting:
    """How a `Decode` or `Collect` counts the steps."""
    code = code_of(node.op)
    return Weighting(code, node.op.period) if code == "phase" else MEAN if code == "sum" else Weighting(code)


def worth(node: Node, steps: int) -> float:
    """What a `Decode` or `Collect` makes of a 1 in every step, without its bias."""
    if node.kind == "Decode":
        return codes.worth_of_one(node.op, steps)
    weights, denominator = codes.step_weights(node.op, steps)
    return int(weights.sum()) / denominator


@dataclass(frozen=True)
class Turn:
    """One turn of the chip, all nodes in topological order.

    Attributes:
        once: names of nodes that run once before it: values, and currents that are the same at every step.
        steps: names of nodes that run at every step of it, and of no turn before.
        again: names of those, and of what turns before have to run once more for them, in topological order.
    """

    once: tuple[str, ...]
    steps: tuple[str, ...]
    again: tuple[str, ...]


class RatePlan:
    """What rate-based backpropagation does with a graph.

    Args:
        graph: with types.
        watched: names of nodes whose mean over the steps somebody wants besides.

    Attributes:
        turns: see `Turn`.
        weightings: by node that runs at every step, how its steps are counted.

    Raises:
        HsnnError: E0560, E0561, one finding for each node.
    """

    def __init__(self, graph: Graph, watched: Collection[str] = ()) -> None:
        self.graph = graph
        order = graph.topological()
        once = _once(graph, order)
        findings = _refused(graph, once)
        if findings:
            raise HsnnError(findings)
        turn = _turns(graph, order, once)
        self.turns = []
        for number in range(max(turn.values(), default=0) + 1):
            here = [node.name for node in order if turn[node.name] == number]
            steps = tuple(name for name in here if name not in once)
            needed = _needed(graph, steps, once)
            again = tuple(node.name for node in order if node.name in needed)
            self.turns.append(Turn(tuple(name for name in here if name in once), steps, again))
        self.weightings = _weightings(graph, order, once, watched)


def is_measured(node: Node) -> bool:
    """Whether the mean of a node that runs at every step is measured, and not computed from means."""
    return node.is_population or node.kind in MEASURED


def _once(graph: Graph, order: list[Node]) -> set[str]:
    found: set[str] = set()
    for node in order:
        constant = node.kind == "Collect" or (node.kind == "Encode" and not node.is_event_source)
        stateless = not (node.is_population or node.is_event_source or node.kind in ("Input", "Delay"))
        edges = graph.in_edges(node.name)
        same = bool(edges) and stateless and all(e.src in found and not e.delay for e in edges)
        if not has_time(node) or constant or same:
            found.add(node.name)
    return found


def _turns(graph: Graph, order: list[Node], once: set[str]) -> dict[str, int]:
    turn: dict[str, int] = {}
    for node in order:
        sources = [source.name for source in graph.predecessors(node.name)]
        waits = node.kind in ("Decode", "Collect") and not all(name in once for name in sources)
        turn[node.name] = max((turn[name] for name in sources), default=0) + waits
    return turn


def _needed(graph: Graph, names: tuple[str, ...], once: set[str]) -> set[str]:
    found, open_ = set(names), list(names)
    while open_:
        for source in graph.predecessors(open_.pop()):
            if source.name not in found and source.name not in once:
                found.add(source.name)
                open_.append(source.name)
    return found


def _weightings(
    graph: Graph, order: list[Node], once: set[str], watched: Collection[str]
) -> dict[str, tuple[Weighting, ...]]:
    wanted: dict[str, dict[Weighting, None]] = {node.name: {} for node in order if node.name not in once}
    for name in watched:
        if name in wanted:
            wanted[name][MEAN] = None
    for node in reversed(order):
        if node.kind in ("Decode", "Collect"):
            ask = [weighting(node)]
        elif node.kind == "Output" or node.is_population:
            ask = [MEAN]
        else:
            ask = list(wanted.get(node.name, {}))
        for source in graph.predecessors(node.name):
            if source.name in wanted:
                wanted[source.name].update(dict.fromkeys(ask))
        if node.kind == "Output" and node.name in wanted:
            wanted[node.name][MEAN] = None
    return {name: tuple(kinds) for name, kinds in wanted.items()}


# -- what is refused ---------------------------------------------------------------------------


def _refused(graph: Graph, once: set[str]) -> list[Finding]:
    looping = {node.name for group in groups(graph) if is_loop(graph, group) for node in group}
    findings = []
    for node in graph:
        if node.name in looping:
            findings.append(_finding("E0560", node, f"{node.kind} on a loop, whose spikes depend on spikes before"))
        elif node.kind == "Delay" or any(edge.delay for edge in graph.in_edges(node.name)):
            findings.append(_finding("E0560", node, f"{node.kind} that sees its input later, by {_late(graph, node)}"))
        elif node.name not in once and not _can(node):
            findings.append(_finding("E0561", node, f"{node.kind} at every step"))
    return findings


def _can(node: Node) -> bool:
    return node.is_neuron or node.kind in (*LINEAR, *MEASURED)


def _late(graph: Graph, node: Node) -> str:
    late: list[Edge] = [edge for edge in graph.in_edges(node.name) if edge.delay]
    return f"a delay from {late[0].src}" if late else "an op"


def _finding(code: str, node: Node, message: str) -> Finding:
    return Finding(
        code,
        f"rate-based backpropagation does not do {message}",
        node=node.name,
        source=node.source,
        supported="feed-forward networks without delays" if code == "E0560" else
        f"populations with dynamics, and {', '.join((*LINEAR, *MEASURED))}",
        suggestion="use backpropagation through time",
    )  # fmt: skip
