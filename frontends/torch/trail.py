"""Where in the running Python code each node was made, and what that says about loops.

Within one call of a function, the position in its code (``f_lasti``) only goes back where a loop starts
over. So the events between two calls of the same neuron show which instructions the loop's body has,
and the body's first and last event are known, whatever stands before and behind the loop.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import FrameType

from hsnn_compiler.ir.graph import Graph

Mark = tuple[tuple[FrameType, int], ...]
"""The running functions, outermost first, each with the position in its code."""


@dataclass(frozen=True)
class PythonLoop:
    """A loop over time as it was run.

    Attributes:
        steps: the nodes of each step, in the order in which they were made. The first step may hold
            fewer than the others: what works on what the step before left may find nothing yet.
    """

    steps: tuple[tuple[str, ...], ...]


class UnevenError(Exception):
    """The steps of a loop are not alike; holds the nodes of two parts that differ, each with its step."""

    def __init__(self, before: Sequence[tuple[int, str]], after: Sequence[tuple[int, str]]) -> None:
        super().__init__()
        self.before, self.after = tuple(before), tuple(after)


class Trail:
    """The nodes of a capture in the order in which they were made, each with its place in the code."""

    def __init__(self) -> None:
        self._marks: dict[str, Mark] = {}

    def note(self, name: str, stop: FrameType | None) -> None:
        """Note that `name` is made now; functions outside of `stop`, which runs the model, do not count."""
        frames = []
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame is not stop:
            frames.append((frame, frame.f_lasti))
            frame = frame.f_back
        self._marks[name] = tuple(reversed(frames))

    def loop(self, anchors: Sequence[str], present: Graph) -> PythonLoop:
        """The loop in each of whose steps one of these nodes, at least two, was made; of the nodes `present`.

        Raises:
            UnevenError: two steps hold different numbers of nodes, other than the first step.
        """
        order = [name for name in self._marks if name in present]
        at = {name: i for i, name in enumerate(order)}
        places = [at[name] for name in anchors]
        depth = self._shared_depth(anchors)
        period = places[-1] - places[-2]
        for number in range(2, len(places)):
            if places[number] - places[number - 1] != period:
                raise UnevenError(*(self._part(order, places, n, depth) for n in (number - 1, number)))
        body = [self._position(order[i], anchors[-1], depth) for i in range(places[-2] + 1, places[-1] + 1)]
        inside = [position for position in body if position is not None]
        low, high = min(inside), max(inside)

        def is_inside(i: int) -> bool:
            position = self._position(order[i], anchors[-1], depth)
            return position is not None and low <= position <= high

        end = places[-1] + 1
        while end < len(order) and end < places[-1] + period and is_inside(end):
            end += 1
        first = places[0]
        while first > 0 and is_inside(first - 1):
            first -= 1
        heads = [end - (len(places) - t) * period for t in range(1, len(places))]
        bounds = [first, *heads, end]
        return PythonLoop(tuple(tuple(order[a:b]) for a, b in pairwise(bounds)))

    def users(self, cuts: Sequence[str], graph: Graph) -> list[str]:
        """For steps that a series was cut into, a node of each step of the loop over them.

        That is the cut itself where the loop makes it (``x[t]``), else what first uses it (``for x_t in x``).
        """
        order = {name: i for i, name in enumerate(self._marks)}
        at_once = all(name in order for name in cuts) and order[cuts[-1]] - order[cuts[0]] == len(cuts) - 1
        if not at_once and all(name in order for name in cuts):
            return list(cuts)
        return [min((edge.dst for edge in graph.out_edges(cut)), key=lambda name: order.get(name, -1)) for cut in cuts]

    def _shared_depth(self, anchors: Sequence[str]) -> int:
        """How deep the function that holds the loop lies: the innermost call that all anchors share."""
        marks = [self._marks[name] for name in anchors]
        depth = 0
        while all(len(mark) > depth + 1 for mark in marks) and len({id(mark[depth + 1][0]) for mark in marks}) == 1:
            depth += 1
        return depth

    def _position(self, name: str, anchor: str, depth: int) -> int | None:
        """Where in the code of the loop's function a node was made; None if not under that call of it."""
        mark = self._marks[name]
        is_under = len(mark) > depth and mark[depth][0] is self._marks[anchor][depth][0]
        return mark[depth][1] if is_under else None

    def _part(self, order: list[str], places: list[int], number: int, depth: int) -> list[tuple[int, str]]:
        """What was made from one anchor to the next: behind the first in the code, it belongs to the step before."""
        anchor = order[places[number]]
        at = self._position(anchor, anchor, depth) or 0
        names = order[places[number - 1] + 1 : places[number] + 1]
        positions = [self._position(name, anchor, depth) for name in names]
        return [(number - int((position or 0) > at), name) for name, position in zip(names, positions, strict=True)]
