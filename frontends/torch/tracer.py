"""What capture knows while the model runs: which tensor is which node, and what was found.

Tensors are known by identity. Every tracked tensor remembers torch's version counter from
the moment it was tracked; views, ``detach()`` and in-place operations share that counter, so
a tensor that was changed behind capture's back shows it when it is used again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

import nir
import numpy as np
import torch

from hsnn_compiler.diagnostics import Finding, HsnnError, Source, refuse
from hsnn_compiler.frontends.torch import location
from hsnn_compiler.frontends.torch.axes import SAMPLES, Axes
from hsnn_compiler.frontends.torch.registry import Unsupported
from hsnn_compiler.frontends.torch.trail import Trail
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.shapes import ShapeError
from hsnn_compiler.ir.spec import SPEC, output_type
from hsnn_compiler.ir.types import Coding, TensorType

Shape = tuple[int, ...]

_ENDS = re.compile(r"(input|output)(_\d+)?")


class Value(NamedTuple):
    """What a tracked tensor stands for.

    `node` is None where the value is unknown and has no batch axis either, and for a state. `taint` holds
    the findings on the way to this value; they matter only if the value reaches an output. `axes` are
    the tensor's leading axes. `state` is a neuron's node and the name of one of its states, for a
    tensor that holds it after the call that the node stands for (or for all steps).
    """

    tensor: torch.Tensor
    version: int
    shape: Shape
    node: str | None
    taint: frozenset[int]
    axes: Axes = SAMPLES
    state: tuple[str, str] | None = None


def tensors_in(*items: Any) -> Iterator[torch.Tensor]:
    """All tensors in nested lists, tuples and dicts."""
    for item in items:
        if isinstance(item, torch.Tensor):
            yield item
        elif isinstance(item, (list, tuple)):
            yield from tensors_in(*item)
        elif isinstance(item, dict):
            yield from tensors_in(*item.values())


class Tracer:
    """State of one capture."""

    def __init__(self, graph: Graph, batch: int) -> None:
        self.graph, self.batch = graph, batch
        self.values: dict[int, Value] = {}
        self.findings: list[Finding] = []
        self.said: list[Finding] = []  # what is to be said although nothing is wrong
        self.always: set[int] = set()  # findings that count wherever their value goes
        self.quiet = 0  # > 0: torch works for the compiler or inside a leaf, nothing is recorded
        self.paths: list[str] = [""]
        self.broken = ""  # where an exception came up
        self.loop: str | None = None  # prefix of the modules inside the current TimeLoop
        self.frame: FrameType | None = None
        self.failure: HsnnError | None = None
        self.arrays: dict[int, tuple[torch.Tensor, np.ndarray, int]] = {}
        self.calls: dict[int, list[str]] = {}  # of neurons with state, by id of the module: a node per call
        self.left: dict[int, list[tuple[torch.Tensor, int]]] = {}  # by id of the module: its states after its last call
        self.behind: dict[str, str] = {}  # of a neuron's node: what puts out its spikes, if that is another
        self.records: dict[int, Any] = {}  # of tensors that are written step by step (`in_place`), by id
        self.one_step = False  # whether a neuron was given a series that takes one step per call
        self.timed_by = ""  # what said how many time steps there are
        self.scales: dict[str, dict[str, Source]] = {}  # what is to be said of encoders, by text: each with its place
        self.trail = Trail()
        self._storages: set[int] = set()

    # -- where we are ---------------------------------------------------------------------

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Record nothing inside."""
        self.quiet += 1
        try:
            yield
        finally:
            self.quiet -= 1

    @contextmanager
    def inside(self, path: str) -> Iterator[None]:
        """Run the forward of the module at `path`."""
        self.paths.append(path)
        try:
            yield
        except BaseException:
            self.broken = self.broken or path
            raise
        finally:
            self.paths.pop()

    @property
    def path(self) -> str:
        """Path of the module whose forward runs."""
        return self.paths[-1]

    def local(self, path: str) -> str:
        """A module path as it names nodes: inside a TimeLoop, without the body's own name."""
        if self.loop is None or not f"{path}.".startswith(f"{self.loop}."):
            return path
        outside, inside = self.loop.rpartition(".")[0], path.removeprefix(self.loop).lstrip(".")
        return ".".join(part for part in (outside, inside) if part)

    def source(self) -> Source:
        """The place in the user's code that is being run."""
        return Source(self.path, *location.caller(self.frame))

    # -- findings -------------------------------------------------------------------------

    def report(self, problem: Unsupported, where: str = "", always: bool = False) -> int:
        """Note a problem of the running call; returns the finding's number."""
        place = Source("", *location.caller(self.frame))
        function = location.custom_function(self.frame)
        where = where or f"{self.path} ({f'{function}.' if function else ''}forward)".strip()
        finding = Finding(problem.code, problem.message, where, place, problem.supported, problem.suggestion)
        self.findings.append(finding)
        if always:
            self.always.add(len(self.findings) - 1)
        return len(self.findings) - 1

    # -- tensors --------------------------------------------------------------------------

    def track(
        self,
        tensor: torch.Tensor,
        node: str | None,
        taint: frozenset[int] = frozenset(),
        axes: Axes = SAMPLES,
        state: tuple[str, str] | None = None,
    ) -> None:
        """From now on `tensor` is what `node` puts out. Its real shape must be the graph's."""
        with self.silence():
            shape = tuple(tensor.shape)
            if node is not None and shape != (*axes.sizes(self.batch), *self.graph[node].shape):
                raise self.internal(
                    f"{node}: the model gives {shape}, the graph says {self.graph[node].type} behind {axes.order}"
                )
            self.values[id(tensor)] = Value(tensor, version_of(tensor), shape, node, taint, axes, state)
            self._storages.add(_storage(tensor))

    def track_unknown(self, tensor: torch.Tensor, taint: frozenset[int], per_step: bool) -> None:
        """Track the result of something not understood, with a placeholder to go on with."""
        with self.silence():
            shape, real = tuple(tensor.shape), tensor.is_floating_point()
        node = None
        if real and shape and shape[0] == self.batch:
            kind = TensorType(shape[1:], Coding.CURRENT if per_step else Coding.VALUE)
            node = self.graph.unique("unknown")
            self.graph.add(Node(node, nir.Input(np.array(kind.shape, np.int64)), type=kind))
        self.track(tensor, node, taint)

    def is_traced(self, item: Any) -> bool:
        """Whether an argument is a tensor computed from the model's input."""
        return id(item) in self.values

    def traced_in(self, *items: Any) -> list[Value]:
        """Values of all tracked tensors among arguments, each checked to be still what it was."""
        found = []
        for tensor in tensors_in(*items):
            value = self.values.get(id(tensor))
            if value is None:
                continue
            with self.silence():
                stale = version_of(tensor) != value.version or tuple(tensor.shape) != value.shape
            if stale:
                problem = Unsupported(
                    "a tensor is used after its memory was changed through another name",
                    "in-place operations on a tensor of which no view, slice or detached copy is used again",
                    "replace the in-place operation by one that returns a new tensor, or clone() before it",
                    "E0405",
                )
                self.track_unknown(tensor, value.taint | {self.report(problem)}, self.per_step([value]))
                value = self.values[id(tensor)]
            found.append(value)
        return found

    def shares_memory(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor that is not tracked lies in the memory of one that is."""
        with self.silence():
            return _storage(tensor) in self._storages

    def per_step(self, values: Sequence[Value]) -> bool:
        """Whether any of these exists once per time step."""
        return any(self._has_time(value.node) for value in values if value.node is not None)

    def _has_time(self, node: str) -> bool:
        kind = self.graph[node].type
        return kind is not None and kind.coding.per_step

    def neuron_of(self, node: str) -> str:
        """The node that will stand for all calls of a neuron, one of which is `node`."""
        return next((names[0] for names in self.calls.values() if node in names), node)

    def is_one_step(self) -> bool:
        """Whether the model has neurons with state, and computes a single step per call."""
        calls = [names for names in self.calls.values() if names]
        return self.one_step or (bool(calls) and all(len(n) == 1 and not self._has_time(n[0]) for n in calls))

    def is_stepped(self) -> bool:
        """Whether every neuron with state was called more than once."""
        return bool(self.calls) and all(len(names) > 1 for names in self.calls.values())

    # -- nodes ----------------------------------------------------------------------------

    def emit(self, stem: str, op: Any, feeds: Sequence[str], ports: bool, **fields: Any) -> str:
        """Add a node fed by `feeds`; with `ports`, into ports ``0``, ``1``, ... Returns its name."""
        kind = type(op).__name__
        if _ENDS.fullmatch(stem):
            stem = f"{stem}.{kind.lower()}"  # those names belong to the graph's own ends
        node = Node(self.graph.unique(stem), op, **fields)
        inputs = [self.graph[feed].type or TensorType(()) for feed in feeds]
        codings = {feed.coding for feed in inputs}
        if node.is_neuron and codings == {Coding.VALUE}:  # one step of a loop written in Python
            return self.place(node.with_(type=TensorType(inputs[0].shape)), feeds, ports)
        if len({coding.per_step for coding in codings}) > 1:
            raise Unsupported(
                "a value computed once per sample meets one computed at every time step",
                "values and steps that meet only in a TimeLoop's encoder and decoder",
                "compute both inside the TimeLoop's body, or both outside",
                "E0409",
            )
        if not codings <= SPEC[kind].accepts:
            steps = next(iter(codings)).per_step
            raise Unsupported(
                f"{kind} takes {'values (once per sample)' if steps else 'steps'}, and gets the other",
                "values outside a TimeLoop, steps inside its body",
                f"move it {'out of' if steps else 'into'} the TimeLoop",
                "E0409",
            )
        try:
            node = node.with_(type=output_type(node, inputs))
        except ShapeError as error:
            raise self.internal(f"{node.name}: {error}") from None
        return self.place(node, feeds, ports)

    def place(self, node: Node, feeds: Sequence[str], ports: bool) -> str:
        """Add a node as it is, and note where in the running code that happened. Returns its name."""
        self.graph.add(node)
        self.trail.note(node.name, self.frame)
        for i, feed in enumerate(feeds):
            self.graph.connect(Edge(feed, node.name, str(i)) if ports else Edge(feed, node.name))
        return node.name

    def internal(self, message: str) -> HsnnError:
        """An error of the compiler itself; kept, because the model's code may catch exceptions."""
        self.failure = refuse("E0103", message, source=self.source())
        return self.failure


def version_of(tensor: torch.Tensor) -> int:
    """Torch's count of in-place changes; tensors made in inference mode have none."""
    return -1 if tensor.is_inference() else tensor._version


def _storage(tensor: torch.Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr() or id(tensor)
    except (RuntimeError, NotImplementedError):  # wrappers without memory of their own
        return id(tensor)
