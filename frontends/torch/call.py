"""One recorded call, as its handler sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hsnn_compiler.diagnostics import Source
from hsnn_compiler.frontends.torch.axes import SAMPLES, Axes
from hsnn_compiler.frontends.torch.registry import Unsupported
from hsnn_compiler.frontends.torch.tracer import Shape, Tracer
from hsnn_compiler.ir.dynamics import Dynamics
from hsnn_compiler.ir.graph import Node
from hsnn_compiler.ir.types import TensorType


@dataclass
class Call:
    """A call of a leaf module or a function.

    Attributes:
        tracer: state of the capture.
        stem: what the call's node is to be called.
        source: where the call is in the user's model.
        where: how findings name the place.
        out: what the call returned.
        results: set by handlers of calls with several results: each tensor with its node, or with None and
            the state it holds, see `Value`.
        axes: leading axes of the result; set by handlers that change them.
        before: the states that the module kept when it was called, see `stateful.kept_by`.
        taint: findings that concern the result.
        used: tracked tensors (by id) that the handler took into account; the others are refused.
    """

    tracer: Tracer
    stem: str
    source: Source
    where: str
    out: Any = None
    results: list[tuple[torch.Tensor, str | None, tuple[str, str] | None]] | None = None
    axes: Axes = SAMPLES
    before: list[tuple[torch.Tensor, int]] = field(default_factory=list)
    taint: set[int] = field(default_factory=set)
    used: set[int] = field(default_factory=set)

    def is_traced(self, item: Any) -> bool:
        """Whether an argument is a tensor computed from the model's input."""
        return self.tracer.is_traced(item)

    def node(self, tensor: Any) -> str:
        """Name of the node that puts out this tensor; a constant where one is needed is refused."""
        value = self.tracer.values.get(id(tensor))
        if value is not None and value.node is None and value.state is not None:
            raise Unsupported(
                f"the state {value.state[1]} of the spiking {self.tracer.neuron_of(value.state[0])} is computed with",
                "spikes that go on, states that only go back into their own neuron",
                "let the last layer be a neuron that does not spike, or compute with its spikes",
                "E0412",
            )
        if value is None or value.node is None:
            raise Unsupported("an argument that has to be computed from the input is a constant")
        self.used.add(id(tensor))
        return value.node

    def axes_of(self, tensor: torch.Tensor) -> Axes:
        """Leading axes of a tracked tensor."""
        return self.tracer.values[id(tensor)].axes

    def ignore(self, *items: Any) -> None:
        """Say that of these arguments only the shape or number type matters."""
        self.used.update(id(item) for item in items)

    def shape(self, tensor: torch.Tensor) -> Shape:
        """Shape without the batch axis, as it was before the call."""
        return self.tracer.graph[self.node(tensor)].shape

    def emit(
        self,
        op: Any,
        *feeds: torch.Tensor | str,
        stem: str | None = None,
        ports: bool = False,
        dynamics: Dynamics | None = None,
    ) -> str:
        """Add a node for this call, fed by tensors or by nodes; returns its name."""
        names = [feed if isinstance(feed, str) else self.node(feed) for feed in feeds]
        return self.tracer.emit(stem or self.stem, op, names, ports, source=self.source, dynamics=dynamics)

    def place(self, op: Any, kind: TensorType, feeds: Sequence[str], ports: bool = False) -> str:
        """Add a node that the table of ops does not know, with this type; returns its name."""
        node = Node(self.tracer.graph.unique(self.stem), op, type=kind, source=self.source)
        return self.tracer.place(node, feeds, ports)

    def complain(self, problem: Unsupported) -> None:
        """Note a problem and go on."""
        self.taint.add(self.tracer.report(problem, self.where))

    def array(self, tensor: torch.Tensor) -> np.ndarray:
        """A parameter or constant as a float32 array; asked twice for one tensor, the same array."""
        self.check_constant(tensor)
        known = self.tracer.arrays.get(id(tensor))
        if known is None or known[0]._version != known[2]:
            known = (tensor, tensor.detach().to("cpu", torch.float32, copy=True).numpy(), tensor._version)
            self.tracer.arrays[id(tensor)] = known
        return known[1]

    def check_constant(self, tensor: torch.Tensor) -> None:
        """Refuse a weight or constant that is really computed from the input."""
        if self.is_traced(tensor) or self.tracer.shares_memory(tensor):
            raise Unsupported(
                "a weight or constant is computed from the model's input",
                "parameters, buffers and constants",
                "compute it once, outside forward",
                "E0404",
            )
