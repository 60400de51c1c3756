"""The steps of a loop that Python ran, node by node: where each stands, and whether all steps are alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.frontends.torch.series import Step
from hsnn_compiler.frontends.torch.trail import PythonLoop
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.records import equal

OUTSIDE, SERIES = -1, -2


class Place(NamedTuple):
    """A node of a loop: which step, and which in the step."""

    step: int
    offset: int


class Feed(NamedTuple):
    """Where a node of a step gets something from.

    `lag` is the number of steps since it was made (0 or 1) and `offset` its place in the step;
    for what comes from outside of the loop `lag` is OUTSIDE and `name` the node, for a step of
    a series that was cut before the loop (``for x_t in x``) `lag` is SERIES and `name` the series.
    """

    port: str
    lag: int
    offset: int = 0
    name: str = ""


class Steps:
    """The steps of one loop, matched with each other.

    Args:
        graph: what was captured.
        loop: the nodes of each step.

    Attributes:
        steps: the nodes of each step that are in the graph.
        last: number of the last step.
        body: the nodes of the last step, which all others are compared with.
        place: where each node stands.
        first: by offset, the nodes of the first step.

    Raises:
        HsnnError: E0413 where a step computes something else.
    """

    def __init__(self, graph: Graph, loop: PythonLoop) -> None:
        self.graph = graph
        self.steps = [[name for name in step if name in graph] for step in loop.steps]
        self.last = len(self.steps) - 1
        self.body = self.steps[-1]
        self.place: dict[str, Place] = {}
        for number, step in enumerate(self.steps[1:], start=1):
            if (finding := self._mismatch(number)) is not None:
                raise HsnnError([finding])
            self.place.update((name, Place(number, offset)) for offset, name in enumerate(step))
        self._align_first()
        self.first = {offset: name for name, (step, offset) in self.place.items() if step == 0}

    def _align_first(self) -> None:
        """Match the nodes of the first step, from its end, with those of the others: some may be missing."""
        at = len(self.body) - 1
        for name in reversed(self.steps[0]):
            guess = self._guess(self.graph[name], at)
            if guess < 0:
                raise HsnnError(
                    [unlike(self.graph[name], f"{name} is computed in the first step only", "the same in all steps")]
                )
            self.place[name] = Place(0, guess)
            at = guess - 1

    def _guess(self, first: Node, at: int) -> int:
        """The last place up to `at` that a node of the first step fits, best where the same line made it; or -1."""
        fitting = [i for i in range(at, -1, -1) if self._begins(first, self.graph[self.body[i]])]
        same_line = (i for i in fitting if self.graph[self.body[i]].source == first.source)
        return next(same_line, fitting[0] if fitting else -1)

    def _begins(self, first: Node, later: Node) -> bool:
        """Whether a node of the first step stands for one of the others: there may be a constant in it yet."""
        with_constant = (first.kind, later.kind) in (("BatchNorm", "Add"), ("HostCall", "Concat"))
        return (with_constant and first.source == later.source) or self._alike(first, later)

    def _alike(self, a: Node, b: Node) -> bool:
        if isinstance(a.op, Step) or isinstance(b.op, Step):
            return isinstance(a.op, Step) and isinstance(b.op, Step)
        same_start = a.is_neuron or equal(a.dynamics, b.dynamics)  # only the first step says where a neuron starts
        return a.source.module == b.source.module and equal(a.op, b.op) and same_start

    def differences(self, number: int) -> Iterator[Finding]:
        """What a step takes from elsewhere than the last one does."""
        for name in self.steps[number]:
            node, model = self.graph[name], self.body[self.place[name].offset]
            if isinstance(node.op, Step):
                if node.op.number != number:
                    yield unlike(node, f"step {number} of the loop looks at step {node.op.number} of the input")
                continue
            feeds, wanted = self.feeds(name), self.feeds(model)
            if number == 0:
                # There is no step before: what comes from there is zero, and what is made of it may be missing.
                sources = {feed[1:] for feed in wanted} | {start[1:] for feed in wanted if (start := self._start(feed))}
                missing = [f for f in wanted if f.lag == 0 and f[1:] not in {feed[1:] for feed in feeds}]
                same = all(f[1:] in sources for f in feeds) and all(f.offset not in self.first for f in missing)
            else:
                first = [
                    feed._replace(offset=self._began_as(feed.offset)) if feed.lag == 1 else feed for feed in wanted
                ]
                same = feeds == wanted or (number == 1 and feeds == first)
            if not same:
                yield unlike(node, f"{name} gets its input from elsewhere in step {number} than in step {self.last}")

    def _start(self, feed: Feed) -> Feed | None:
        """What stands in the first step for something a step gets: of a sum its one term that is no zero."""
        if feed.lag < 0 or (feed.lag == 0 and feed.offset in self.first):
            return feed
        name = self.body[feed.offset]
        if feed.lag == 1 or self.graph[name].kind != "Add":
            return None
        terms = [start for term in self.feeds(name) if (start := self._start(term))]
        return terms[0] if len(terms) == 1 else None

    def _began_as(self, offset: int) -> int:
        """What stands for a sum in the first step, where all but one of its terms are the step before's: that term."""
        if offset not in self.first and self.graph[self.body[offset]].kind == "Add":
            terms = [feed.offset for feed in self.feeds(self.body[offset]) if feed.lag == 0]
            if len(terms) == 1:
                return terms[0]
        return offset

    def _mismatch(self, number: int) -> Finding | None:
        """The first place in which a step and the last one compute something else."""
        for name, model in zip(self.steps[number], self.body, strict=True):
            node, other = self.graph[name], self.graph[model]
            if not self._alike(node, other):
                later = f"steps {number + 1} to" if number == 1 and self.last > 2 else "step"
                what = f"step {number} computes {name} ({node.kind}), {later} {self.last} {model} ({other.kind})"
                finding = unlike(node, what)
                if node.source.module != other.source.module and node.kind == other.kind:
                    finding = replace(finding, suggestion="use the same module in every step")
                return finding
        return None

    def feeds(self, name: str) -> list[Feed]:
        """Where a node of a step gets its inputs from."""
        step = self.place[name].step
        feeds = []
        for edge in self.graph.in_edges(name):
            place = self.place.get(edge.src)
            if place is None and isinstance(self.graph[edge.src].op, Step):
                feeds.append(Feed(edge.port, SERIES, name=self._series_of(edge.src, name)))
            elif place is None:
                feeds.append(Feed(edge.port, OUTSIDE, name=edge.src))
            elif step - place.step in (0, 1):
                feeds.append(Feed(edge.port, step - place.step, place.offset))
            else:
                raise HsnnError(
                    [unlike(self.graph[name], f"step {step} uses what step {place.step} computed ({edge.src})")]
                )
        return feeds

    def _series_of(self, cut: str, consumer: str) -> str:
        """The series of which a node uses a step that was cut before the loop; it has to be the loop's own step."""
        number, step = self.graph[cut].op.number, self.place[consumer].step
        if number != step:
            raise HsnnError([unlike(self.graph[consumer], f"step {step} of the loop looks at step {number} of {cut}")])
        return self.graph.in_edges(cut)[0].src


def unlike(node: Node, message: str, supported: str = "") -> Finding:
    """The finding (E0413) for a step that is not like the others."""
    return Finding(
        "E0413",
        message,
        node=node.name,
        source=node.source,
        supported=supported
        or "loops over time whose steps all compute the same, each from the input and the one before",
        suggestion="take what only some steps do out of the loop",
    )
