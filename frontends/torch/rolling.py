"""From the steps of a loop as Python ran them to one step of a graph.

A loop over time leaves T copies of its body in the graph. They are found by the code's own positions
(`trail`), must be alike, and become one: what a step takes from the step before comes over an edge with
a delay of one step, a value from outside is presented at every step, and what is stacked or added
up over the steps becomes a series, or a Decode. What the first step does besides is compared in numbers, by
the checks at the end of capture.
"""

from __future__ import annotations

from collections.abc import Sequence

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.frontends.torch.loop_starts import wrong_starts
from hsnn_compiler.frontends.torch.loop_steps import SERIES, Feed, Place, Steps, unlike
from hsnn_compiler.frontends.torch.series import Stack, Step, is_transient
from hsnn_compiler.frontends.torch.trail import PythonLoop, Trail, UnevenError
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Decode, Encode
from hsnn_compiler.ir.types import Coding, TensorType

ONE_NUMBER = "one number of time steps"


def roll(graph: Graph, trail: Trail, calls: Sequence[Sequence[str]], outputs: list[str]) -> tuple[Graph, list[str]]:
    """Fold all loops over time.

    Args:
        graph: what was captured.
        trail: where its nodes were made.
        calls: the nodes of each neuron's calls, in order.
        outputs: nodes of the model's results.

    Returns:
        The graph, with types, and the nodes of its results.

    Raises:
        HsnnError: E0413 where the steps are not alike.
    """
    graph = _live(graph, outputs)
    for anchors in calls:
        if len(anchors) > 1 and all(name in graph for name in anchors):
            graph, outputs = _Loop(graph, _found(graph, trail, anchors), outputs).folded()
    for cuts in _steps_of_series(graph):
        if len(cuts) > 1 and all(name in graph for name in cuts) and _is_walked(graph, cuts):
            graph, outputs = _Loop(graph, _found(graph, trail, trail.users(cuts, graph)), outputs).folded()
    left = [node for node in graph if is_transient(node)]
    graph, outputs = _without_transients(graph, left, outputs)
    return infer_types(graph), outputs


def _live(graph: Graph, outputs: Sequence[str]) -> Graph:
    """Without what no output depends on in any step; what one step needs stays in all of them."""
    alike: dict[object, list[str]] = {}
    for node in graph:
        alike.setdefault((node.source, node.kind) if node.source.line else node.name, []).append(node.name)
    keys = {name: key for key, names in alike.items() for name in names}
    live = {node.name for node in graph.of_kind("Input")}
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        if name not in live:
            live.add(name)
            waiting += alike[keys[name]]
            waiting += [edge.src for edge in graph.in_edges(name)]
    graph = graph.copy()
    for node in list(graph):
        if node.name not in live:
            graph.remove(node.name)
    return graph


def _steps_of_series(graph: Graph) -> list[list[str]]:
    """For every series that was cut into steps, these steps in order."""
    cuts: dict[str, list[str]] = {}
    for node in graph:
        if isinstance(node.op, Step):
            cuts.setdefault(graph.in_edges(node.name)[0].src, []).append(node.name)
    return list(cuts.values())


def _is_walked(graph: Graph, names: Sequence[str]) -> bool:
    """Whether steps are taken one after the other from the first on, and worked on."""
    numbers = [graph[name].op.number for name in names]
    return numbers == list(range(len(names))) and all(graph.out_edges(name) for name in names)


def _found(graph: Graph, trail: Trail, anchors: Sequence[str]) -> PythonLoop:
    try:
        return trail.loop(anchors, graph)
    except UnevenError as error:
        kinds = [{(graph[name].source, graph[name].kind) for _, name in step} for step in (error.before, error.after)]
        only = [
            (number, graph[name])
            for step, others in ((error.before, kinds[1]), (error.after, kinds[0]))
            for number, name in step
            if (graph[name].source, graph[name].kind) not in others
        ]
        raise HsnnError(
            [unlike(node, f"step {number} computes {node.name}, other steps do not") for number, node in only]
            or [unlike(graph[anchors[0]], "the steps of the loop do not all compute as much")]
        ) from None


class _Loop:
    """One loop, being folded."""

    def __init__(self, graph: Graph, loop: PythonLoop, outputs: list[str]) -> None:
        self.graph, self.outputs = graph, outputs
        self.loop = steps = Steps(graph, loop)
        self.steps, self.last, self.body, self.place = steps.steps, steps.last, steps.body, steps.place
        self.new: dict[int, str] = {}  # by offset: the node that stands for all steps
        self.ends: dict[tuple[int, str], str] = {}  # by offset and kind: what is decoded from it
        self.encodes: dict[str, str] = {}
        self.sums: dict[str, str] = {}
        self.cuts: dict[str, str] = {}  # by node: the step of a series that stands for it after the loop

    def folded(self) -> tuple[Graph, list[str]]:
        """The graph with one step in the place of the loop, and its outputs."""
        findings = [finding for number in range(self.last) for finding in self.loop.differences(number)]
        if findings:
            raise HsnnError(findings)
        count = len(self.steps)
        if self.graph.timesteps not in (None, count):
            node = self.graph[self.body[0]]
            raise HsnnError([unlike(node, f"{count} steps here, {self.graph.timesteps} elsewhere", ONE_NUMBER)])
        graph = Graph(self.graph.name, count, self.graph.origin)
        inside = {name for step in self.steps for name in step}
        for node in self.graph:
            if node.name not in inside:
                graph.add(node)
            elif node.name in self.body:
                self.new[self.place[node.name].offset] = self._one_for_all(graph, node)
        for offset, name in enumerate(self.body):
            if not isinstance(self.graph[name].op, Step):
                for feed in self.loop.feeds(name):
                    source = self._source(graph, feed)
                    graph.connect(Edge(source, self.new[offset], feed.port, max(feed.lag, 0)))
        if findings := list(wrong_starts(self.loop, lambda offset: _only_adds_up(graph, self.new[offset]))):
            raise HsnnError(findings)
        self._add_up(graph)
        for edge in self.graph.edges_as_added():
            if edge.dst not in graph or edge.dst in inside:
                continue
            if edge.src not in inside:
                graph.connect(edge)
            elif not isinstance(self.graph[edge.dst].op, Stack):
                graph.connect(edge._replace(src=self._left_behind(graph, edge.src)))
        outputs = [self._left_behind(graph, name) if name in inside else name for name in self.outputs]
        outputs = [self.sums.get(name, name) for name in outputs]
        return self._with_stacks(graph, outputs)

    def _one_for_all(self, graph: Graph, node: Node) -> str:
        """Add the node that stands for all steps of this one, which is of the last step."""
        if isinstance(node.op, Step):
            return self._series(node)
        offset = self.place[node.name].offset
        name = self.loop.first.get(offset) or self.steps[1][offset]
        dynamics = self.graph[name].dynamics  # only at its first step a neuron is told where it starts
        coding = Coding.SPIKES if node.is_spiking else Coding.CURRENT
        graph.add(node.with_(name=name, dynamics=dynamics, type=TensorType(node.shape, coding)))
        return name

    # -- ends ----------------------------------------------------------------------------------

    def _series(self, node: Node) -> str:
        source = self.graph.in_edges(node.name)[0].src
        if node.op.number != self.last:
            raise HsnnError([unlike(node, f"step {self.last} looks at step {node.op.number} of its input")])
        return source

    def _source(self, graph: Graph, feed: Feed) -> str:
        if feed.lag >= 0:
            return self.new[feed.offset]
        return feed.name if feed.lag == SERIES else self._encoded(graph, feed.name)

    def _encoded(self, graph: Graph, name: str) -> str:
        """What stands at every step for a value from outside."""
        source = self.graph[name]
        if source.type is not None and source.type.coding.per_step:
            raise HsnnError([unlike(source, f"a step uses the whole series {name} at once")])
        if name not in self.encodes:
            kind = TensorType(source.shape, Coding.CURRENT)
            node = Node(graph.unique("encode"), Encode("direct"), type=kind, source=source.source)
            self.encodes[name] = graph.add(node, name).name
        return self.encodes[name]

    def _left_behind(self, graph: Graph, name: str) -> str:
        """The value of a node of one step, for what comes after the loop: a sum, or a step of a series."""
        place = self.place[name]
        total = _running_total(graph, self.new[place.offset]) if place.step == self.last else None
        if total is not None:
            return self._begun(graph, place.offset, self._decoded(graph, name, total, "sum"))
        if name not in self.cuts:
            was = self.graph[name]
            cut = Node(graph.unique("step"), Step(place.step), type=TensorType(was.shape), source=was.source)
            self.cuts[name] = graph.add(cut, self.new[place.offset]).name
        return self.cuts[name]

    def _begun(self, graph: Graph, offset: int, total: str) -> str:
        """A sum over the steps with the constant that it started from, if there was one."""
        first = self.graph[self.loop.first[offset]] if offset in self.loop.first else None
        if first is None or first.kind != "BatchNorm":
            return total
        node = first.with_(name=graph.unique("start"), type=TensorType(first.shape))
        return graph.add(node, total).name

    def _decoded(self, graph: Graph, name: str, source: str, kind: str) -> str:
        key = (self.place[name].offset, kind)
        if key not in self.ends:
            was = self.graph[name]
            node = Node(graph.unique("decode"), Decode(kind), type=TensorType(was.shape), source=was.source)
            self.ends[key] = graph.add(node, source).name
        return self.ends[key]

    def _add_up(self, graph: Graph) -> None:
        """Replace ``sum(results)`` over the results of all steps by a Decode."""
        chains: dict[str, list[str]] = {}
        for node in self.graph:
            if node.kind == "Add" and node.name not in self.place:
                feeds = [edge.src for edge in self.graph.in_edges(node.name)]
                alone = [f in chains and len(self.graph.out_edges(f)) == 1 for f in feeds]
                chains[node.name] = [
                    leaf for f, is_chain in zip(feeds, alone, strict=True) for leaf in (chains[f] if is_chain else [f])
                ]
        for name, leaves in chains.items():
            if self._is_every_step(leaves):
                decode = self._decoded(graph, leaves[-1], self.new[self.place[leaves[-1]].offset], "sum")
                self.sums[name] = decode
                for edge in self.graph.out_edges(name):
                    graph.connect(edge._replace(src=decode))
                for part in [name, *(other for other, parts in chains.items() if set(parts) < set(leaves))]:
                    if part in graph:
                        graph.remove(part)

    def _is_every_step(self, names: Sequence[str]) -> bool:
        places = [self.place.get(name, Place(-1, -1)) for name in names]
        return [place.step for place in places] == list(range(len(self.steps))) and len({p.offset for p in places}) == 1

    def _with_stacks(self, graph: Graph, outputs: list[str]) -> tuple[Graph, list[str]]:
        """Replace the stacks of all steps of a node by the node that stands for them."""
        for node in self.graph:
            feeds = [edge.src for edge in self.graph.in_edges(node.name)]
            if isinstance(node.op, Stack) and node.name in graph and any(feed in self.place for feed in feeds):
                if not self._is_every_step(feeds):
                    raise HsnnError([unlike(node, "a stack of something else than one result of every step, in order")])
                outputs = _replaced(graph, node.name, self.new[self.place[feeds[0]].offset], outputs)
        return graph, outputs


def _running_total(graph: Graph, name: str) -> str | None:
    """What a node adds up over the steps, if that is all it does: ``y_t = y_(t-1) + x_t``."""
    if name not in graph or graph[name].kind != "Add":
        return None
    edges = graph.in_edges(name)
    late = [edge for edge in edges if edge == Edge(name, name, edge.port, 1)]
    others = [edge for edge in edges if edge not in late]
    if len(late) != 1 or len(others) != 1 or others[0].delay:
        return None
    return others[0].src


def _only_adds_up(graph: Graph, name: str) -> bool:
    """Whether a node is a sum over the steps that nothing inside of the loop looks at."""
    return _running_total(graph, name) is not None and [edge.dst for edge in graph.out_edges(name)] == [name]


def _replaced(graph: Graph, name: str, by: str, outputs: list[str]) -> list[str]:
    """Let `by` stand for a node that goes."""
    consumers = graph.out_edges(name)
    graph.remove(name)
    for edge in consumers:
        graph.connect(edge._replace(src=by))
    return [by if output == name else output for output in outputs]


def _without_transients(graph: Graph, left: Sequence[Node], outputs: list[str]) -> tuple[Graph, list[str]]:
    """Resolve what no loop took: one value stacked again and again, and the last step of a series."""
    findings = []
    for node in left:
        feeds = list(dict.fromkeys(edge.src for edge in graph.in_edges(node.name)))
        steps = graph.timesteps
        if isinstance(node.op, Stack) and len(feeds) == 1:
            count = len(graph.in_edges(node.name))
            if steps not in (None, count):
                findings.append(unlike(node, f"{count} steps here, {steps} elsewhere", ONE_NUMBER))
            graph.timesteps = count
            encode = graph.add(Node(graph.unique("encode"), Encode("direct"), source=node.source), feeds[0])
            outputs = _replaced(graph, node.name, encode.name, outputs)
        elif isinstance(node.op, Step) and node.op.number + 1 == steps:
            decode = graph.add(Node(graph.unique("decode"), Decode("last"), source=node.source), feeds[0])
            outputs = _replaced(graph, node.name, decode.name, outputs)
        elif graph.out_edges(node.name) or node.name in outputs:
            what = "a stack of different values" if isinstance(node.op, Stack) else f"step {node.op.number} alone"
            findings.append(unlike(node, f"{what}, outside of a loop over time", "x[-1], mean and sum over time"))
        else:
            graph.remove(node.name)
    if findings:
        raise HsnnError(findings)
    return graph, outputs
