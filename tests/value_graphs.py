"""Small networks built by chaining ops, for tests of passes."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import torch

from hsnn_compiler.ir import Dynamics, Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Decode, Encode
from hsnn_compiler.ir.spec import verify
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.pipeline import Stage, parse_pipeline, run_pipeline
from hsnn_compiler.reference.float_executor import FloatExecutor


class Net:
    """A graph that grows node by node; `at` is the node the next one is fed by."""

    def __init__(self, shape: tuple[int, ...], timesteps: int | None = None, seed: int = 0) -> None:
        self.graph = Graph("net", timesteps)
        self.rng = np.random.default_rng(seed)
        self.at = self.graph.add(Node("x", nir.Input(np.array(shape)))).name

    def shape(self, name: str) -> tuple[int, ...]:
        return infer_types(self.graph)[name].shape

    def add(self, name: str, op: Any, *feeds: str, **more: Any) -> Net:
        """Add an op behind `feeds`, by default behind the last one."""
        feeds = feeds or (self.at,)
        ordered = type(op).__name__ in ("Add", "Concat", "HostCall")
        edges = [Edge(feed, name, str(i) if ordered else "input") for i, feed in enumerate(feeds)]
        self.graph.add(Node(name, op, **more), *edges)
        self.at = name
        return self

    def conv(self, name: str, out: int, kernel: Any = 3, *feeds: str, stride: Any = 1, padding: Any = 0,
             dilation: Any = 1, groups: int = 1) -> Net:  # fmt: skip
        shape = self.shape(feeds[0] if feeds else self.at)
        dims = len(shape) - 1
        kernel = (kernel,) * dims if isinstance(kernel, int) else kernel
        weight = self.rng.normal(size=(out, shape[0] // groups, *kernel)) / np.sqrt(shape[0] / groups * np.prod(kernel))
        cls = nir.Conv2d if dims == 2 else nir.Conv1d
        side = shape[1:] if dims == 2 else shape[1]
        return self.add(
            name, cls(side, weight, stride, padding, dilation, groups, self.rng.normal(size=out) / 5), *feeds
        )

    def linear(self, name: str, out: int, *feeds: str, bias: bool = True) -> Net:
        (inputs,) = self.shape(feeds[0] if feeds else self.at)
        weight = self.rng.normal(size=(out, inputs)) / np.sqrt(inputs)
        return self.add(name, nir.Affine(weight, self.rng.normal(size=out) / 5) if bias else nir.Linear(weight), *feeds)

    def flatten(self, name: str = "flatten") -> Net:
        return self.add(name, nir.Flatten({"input": np.array(self.shape(self.at))}, 0, -1))

    def pool(self, name: str, size: Any = 2, stride: Any = None, padding: Any = 0, *, total: bool = False) -> Net:
        sizes = [
            np.broadcast_to(np.atleast_1d(v), (2,)).copy() for v in (size, size if stride is None else stride, padding)
        ]
        return self.add(name, (nir.SumPool2d if total else nir.AvgPool2d)(*sizes))

    def neuron(
        self, name: str, *feeds: str, threshold: Any = None, reset: str = "subtract", v_init: float = 0.0
    ) -> Net:
        """LIF with decay 0.9; `threshold` one or per channel."""
        rank = len(self.shape(feeds[0] if feeds else self.at))
        theta = np.ones((1,) * rank) if threshold is None else np.asarray(threshold, float)
        ones = np.ones_like(theta)
        op = nir.LIF(tau=10 * ones, r=10 * ones, v_leak=0 * ones, v_threshold=theta, v_reset=0 * ones)
        return self.add(name, op, *feeds, dynamics=Dynamics(reset=reset, v_init=v_init))

    def encode(self, name: str = "encode") -> Net:
        return self.add(name, Encode())

    def done(self, decode: str | None = None) -> Graph:
        """Finish with an output (behind a Decode), checked."""
        if decode:
            self.add("decode", Decode(decode))
        self.add("y", nir.Output(np.array(self.shape(self.at))))
        graph = infer_types(self.graph)
        assert verify(graph) == []
        return graph


def run_passes(graph: Graph, text: str, **context: Any) -> list[Stage]:
    """Run passes with all checks between them."""
    return list(run_pipeline(graph, parse_pipeline(text), PassContext(**context)))


def outputs(graph: Graph, x: np.ndarray) -> np.ndarray:
    return FloatExecutor(graph, torch.float64).run(x).output


def assert_same_function(before: Graph, after: Graph, x: np.ndarray) -> None:
    """Outputs agree to 1e-5 in float64 (relative to their size), and are not all alike."""
    a, b = outputs(before, x), outputs(after, x)
    assert a.std() > 1e-6, "a network whose output is constant proves nothing"
    np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5 * np.abs(a).max())
