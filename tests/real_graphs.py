"""Random raw graphs in real numbers, as NIR files give them: to be quantised on the fly.

On a grid, weights, thresholds, biases and inputs are small multiples of powers of two and nothing decays, so that
float32 computes exactly, and so does the chip.
"""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
from picks import Picks

from hsnn_compiler.ir import Dynamics, Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.shapes import Shape, shape_rule
from hsnn_compiler.ir.types import Coding, TensorType

GRID = 16
STEPS = 16


class RealGraph:
    """A random graph and its data.

    Attributes:
        graph: raw.
        inputs: by input node, [samples, time, ...].
    """

    def __init__(self, p: Picks, *, on_grid: bool, samples: int = 1) -> None:
        self.p, self.on_grid = p, on_grid
        self.graph = Graph("real")
        self.inputs: dict[str, np.ndarray] = {}
        self.shapes: dict[str, Shape] = {}  # of what spikes
        self.count = 0
        for i in range(p.choice([1, 1, 2])):
            self._input(f"x{i}", samples)
        for i in range(p.integer(1, 3)):
            self._population(f"pop{i}")
        populations = [n.name for n in self.graph if n.name.startswith("pop")]
        for name in populations:
            if name == populations[-1] or not self.graph.out_edges(name) or p.flag(3):
                self._output(name)
        self.graph = infer_types(self.graph)

    def _name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def _delay(self) -> int:
        return self.p.choice([0, 0, 0, 1, 2])

    def _input(self, name: str, samples: int) -> None:
        p, shape = self.p, self.p.choice([(3,), (5,), (2, 6, 4), (2, 7)])
        rng = p.rng()
        kind = p.choice(["spikes", "spikes", "counts", "values"])
        data = rng.random((samples, STEPS, *shape)) < 0.4
        if kind == "counts":
            data = data * rng.integers(-2, 4, data.shape)
        elif kind == "values" and not self.on_grid:
            data = data * rng.normal(size=data.shape)
        self.inputs[name] = data.astype(np.float32)
        self.graph.add(Node(name, nir.Input(np.array(shape)), TensorType(shape, Coding.CURRENT)))
        self.shapes[name] = shape

    def numbers(self, top: int, shape: Shape) -> np.ndarray:
        """Random numbers up to top / `GRID`."""
        rng = self.p.rng()
        on_grid = rng.integers(-top, top + 1, shape) / GRID
        return on_grid if self.on_grid else rng.normal(size=shape) * top / GRID / 2

    # -- what lies between ------------------------------------------------------------------------

    def _chain(self, source: str) -> tuple[str, int]:
        """Linear ops behind a source; the last one, and the delay of the edge that leaves it."""
        p, shape = self.p, self.shapes[source]
        flat: list[tuple[str, ...]] = [("affine",), ("affine",), ("linear",), ("scale", "linear"), ("linear", "affine"),
                                       (), ("later", "affine"), ("affine", "scale")]  # fmt: skip
        image: list[tuple[str, ...]] = [("conv",), ("conv",), ("pool", "conv"), ("conv", "pool"), ("pool",), ("scale",),
                                        ("flatten", "affine"), ("pool", "flatten", "affine"), ("pool", "scale"), (),
                                        ("conv", "flatten", "linear"), ("scale", "conv"), ("flatten",)]  # fmt: skip
        row: list[tuple[str, ...]] = [("conv",), ("flatten", "affine"), ("scale", "conv"), ()]
        name = source
        for kind in p.choice({1: flat, 2: row, 3: image}[len(shape)]):
            op, dynamics = self._op(kind, shape), None
            if kind == "later":
                dynamics = Dynamics()
            below = self._name(kind)
            self.graph.add(Node(below, op, dynamics=dynamics), Edge(name, below, delay=self._delay()))
            shape, name = shape_rule(op, [shape]), below
        self.shape = shape
        return name, self._delay()

    def _op(self, kind: str, shape: Shape) -> Any:
        p = self.p
        if kind == "affine":
            rows = p.integer(1, 5)
            return nir.Affine(self.numbers(50, (rows, shape[0])), self.numbers(p.choice([0, 6]), (rows,)))
        if kind == "linear":
            return nir.Linear(self.numbers(3, (p.integer(2, 5), shape[0])))
        if kind == "scale":
            per = p.choice([(1,) * len(shape), (shape[0], *[1] * (len(shape) - 1))])
            return nir.Scale(2.0 ** p.rng().integers(-1, 2, per))
        if kind == "pool":
            pair = np.array([2, 2])
            return nir.SumPool2d(pair, pair, np.array([0, 0]))
        if kind == "flatten":
            return nir.Flatten({"input": np.array(shape)}, 0, -1)
        if kind == "later":
            steps = p.choice([np.full(shape, 2.0), p.rng().integers(0, 4, shape).astype(float)])
            return nir.Delay(steps)
        outputs, bias = p.integer(1, 3), self.numbers(p.choice([0, 6]), (3,))
        if len(shape) == 2:
            return nir.Conv1d(
                shape[1], self.numbers(50, (outputs, shape[0], 2)), 1, p.choice([0, 1]), 1, 1, bias[:outputs]
            )
        weight = self.numbers(50, (outputs, shape[0], 2, p.choice([1, 2])))
        return nir.Conv2d(shape[1:], weight, 1, p.choice([0, (1, 1)]), 1, 1, bias[:outputs])

    # -- populations ------------------------------------------------------------------------------

    def _population(self, name: str) -> None:
        p = self.p
        sources = list(self.shapes)
        source = p.choice([sources[-1], *sources])
        fed, delay = self._chain(source)
        shape = self.shape
        feeds = [Edge(fed, name, delay=delay)]
        if p.flag(3):
            alike = [n for n, s in self.shapes.items() if s == shape and n != fed]
            if alike:
                feeds.append(Edge(p.choice(alike), name, delay=self._delay()))
        node = self._neurons(name, shape)
        self.graph.add(node, *feeds)
        if not node.is_spiking and node.kind != "Threshold":
            return
        self.shapes[name] = shape
        if p.flag(3):
            self._loop(name, shape)

    def _neurons(self, name: str, shape: Shape) -> Node:
        p, rng = self.p, self.p.rng()
        one = np.ones(shape)
        kind = (
            "IF"
            if self.on_grid
            else p.choice(["LIF", "LIF", "IF", "CubaLIF", "CubaLIF", "LI", "CubaLI", "I", "Threshold"])
        )
        theta = (p.integer(20, 90) / GRID / (1 if self.on_grid else 4)) * one
        if p.flag(4) and not self.on_grid:
            theta = theta * (1 + rng.random((shape[0], *[1] * (len(shape) - 1))))
        if kind == "Threshold":
            return Node(name, nir.Threshold(theta))
        reset = p.choice(["zero", "subtract", "value"])
        low = p.choice([0, -8, 8]) / GRID * one
        v_init = p.choice([0, 0, 5]) / GRID
        shared: dict[str, Any] = {"reset": reset, "threshold_test": p.choice([">", ">="]), "v_init": v_init}
        each = one * rng.uniform(0.8, 1.2, (shape[0], *[1] * (len(shape) - 1))) if p.flag(3) else one
        tau, leak = p.choice([3.0, 10.0, 60.0]) * each, p.choice([0.0, 0.0, 0.7]) * one
        ops: dict[str, Any] = {
            "IF": lambda: nir.IF(r=one, v_threshold=theta, v_reset=low),
            "I": lambda: nir.I(r=one),
            "LIF": lambda: nir.LIF(tau=tau, r=4 * one, v_leak=leak, v_threshold=theta, v_reset=low),
            "LI": lambda: nir.LI(tau=tau, r=4 * one, v_leak=leak),
            "CubaLIF": lambda: nir.CubaLIF(tau_mem=tau, tau_syn=2 * one, r=9 * one, v_leak=leak, v_threshold=theta,
                                           v_reset=low, w_in=p.choice([1.0, -1.0]) * one),
            "CubaLI": lambda: nir.CubaLI(tau_mem=tau, tau_syn=2 * one, r=9 * one, v_leak=leak),
        }  # fmt: skip
        more: dict[str, Any] = {} if self.on_grid else {"integrator": p.choice(["euler", "exact"])}
        if not self.on_grid and p.flag(6):
            more |= p.choice([{"refractory": 2}, {"max_spikes": 0}, {"v_min": -1.0}, {"reset_at": "after"}])
        elif reset == "subtract" and p.flag(3):
            more["max_spikes"] = p.choice([2, 9])
        if kind.startswith("Cuba"):
            more["current_leak"] = p.choice([None, 0.2])
        return Node(name, ops[kind](), dynamics=Dynamics(**shared, **more))

    def _loop(self, name: str, shape: Shape) -> None:
        p = self.p
        if len(shape) > 1 or p.flag(3):
            self.graph.connect(Edge(name, name, delay=p.choice([1, 1, 2])))
            return
        back = self._name("back")
        steps = p.choice([(1, 0), (0, 1), (1, 1), (0, 2)])
        weight = self.numbers(20, (shape[0], shape[0]))
        op = p.choice([nir.Linear(weight), nir.Affine(weight, self.numbers(6, shape))])
        self.graph.add(Node(back, op), Edge(name, back, delay=steps[0]))
        self.graph.connect(Edge(back, name, delay=steps[1]))

    def _output(self, name: str) -> None:
        op, feed = self.graph[name].op, name
        shape = np.shape(op.threshold if isinstance(op, nir.Threshold) else op.r)
        if len(shape) == 1 and name in self.shapes and self.p.flag(3):
            feed = self._name("readout")
            self.graph.add(Node(feed, nir.Affine(self.numbers(9, (2, shape[0])), self.numbers(4, (2,)))), name)
            shape = (2,)
        self.graph.add(Node(self._name("out"), nir.Output(np.array(shape))), feed)
