"""Random graphs that hold every op and every annotation; legal in form, not meant to be run."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
from picks import Picks

from hsnn_compiler.diagnostics import Source
from hsnn_compiler.ir import Coding, Dynamics, Edge, Graph, Node, Placement, TensorType
from hsnn_compiler.ir import ops as hs
from hsnn_compiler.ir.crossings import DECODE_KINDS
from hsnn_compiler.ir.quant import (
    CollectQuant,
    CurrentQuant,
    FirstSpikeQuant,
    NeuronQuant,
    Schedule,
    SigmaDeltaQuant,
    WeightQuant,
)

NAMES = (
    "conv1",
    "fc",
    "_x",
    "net.0.weight",
    "a-b",
    "timesteps",
    "graph",
    "source",
    "inf",
    "f32",
    "None",
    "quant",
    "x2",
    "0",
    "a/b",
    'say "ä"',
)


def array(p: Picks, *shape: int) -> np.ndarray:
    """Numbers of several types and sizes, awkward ones among them."""
    rng = p.rng()
    values = rng.normal(size=shape) * 10.0 ** rng.integers(-30, 30, shape)
    if values.size:
        values.flat[0] = p.choice([0.0, -0.0, np.inf, -np.inf, 1e-40, 0.1, 1 / 3])
    return values.astype(p.choice([np.float64, np.float32]))


def lstm(p: Picks, n: int) -> dict[str, np.ndarray]:
    return {"c0": np.zeros((1, 1, n), np.float32), "c1": array(p, 4 * n, 2).astype(np.float32)}


def random_op(p: Picks, kind: str) -> Any:
    """An op of this kind, with random parameters."""
    n = p.integer(1, 4)
    pair = (p.integer(1, 3), p.integer(1, 3))
    makers: dict[str, Any] = {
        "Input": lambda: nir.Input(np.array([n, 2])),
        "Output": lambda: nir.Output(np.array([n])),
        "Affine": lambda: nir.Affine(array(p, n, 3), array(p, n)),
        "Linear": lambda: nir.Linear(array(p, n, 3)),
        "Scale": lambda: nir.Scale(array(p, n)),
        "Conv1d": lambda: nir.Conv1d(
            p.choice([None, 9]), array(p, n, 1, 3), p.integer(1, 2), p.choice([0, 1, "same"]), 1, n, array(p, n)
        ),
        "Conv2d": lambda: nir.Conv2d(
            p.choice([None, (5, 6)]),
            array(p, n, 1, *pair),
            pair,
            p.choice([(0, 1), "valid", "same"]),
            (1, 2),
            n,
            array(p, n),
        ),
        "Flatten": lambda: nir.Flatten({"input": p.choice([None, np.array([n, 2, 2])])}, p.choice([0, 1]), -1),
        "SumPool2d": lambda: nir.SumPool2d(np.array(pair), np.array(pair), np.array([0, 0])),
        "AvgPool2d": lambda: nir.AvgPool2d(np.array(pair), np.array([1, 2]), np.array([0, 1])),
        "Delay": lambda: nir.Delay(array(p, n)),
        "Threshold": lambda: nir.Threshold(array(p, n)),
        "I": lambda: nir.I(r=array(p, n)),
        "LI": lambda: nir.LI(tau=array(p, n), r=array(p, n), v_leak=array(p, n)),
        "IF": lambda: nir.IF(r=array(p, n), v_threshold=array(p, n), v_reset=array(p, n)),
        "LIF": lambda: nir.LIF(*(array(p, n) for _ in range(5))),
        "CubaLI": lambda: nir.CubaLI(*(array(p, n) for _ in range(4)), w_in=array(p, n)),
        "CubaLIF": lambda: nir.CubaLIF(*(array(p, n) for _ in range(6)), w_in=array(p, n)),
        "Encode": lambda: p.choice(
            [
                hs.Encode(),
                hs.Encode("rate"),
                hs.Encode("bitplane", 1 / 3, True),
                hs.Encode("delta", 1e-3),
                hs.Encode("ttfs", 2.0),
                hs.Encode("phase", 0.5, False, p.integer(1, 16)),
            ]
        ),
        "Collect": lambda: hs.Collect(p.choice(hs.COLLECT_CODES), array(p, n, 1), p.integer(7, 9)),
        "FirstSpike": lambda: hs.FirstSpike(array(p, n)),
        "Decode": lambda: hs.Decode(p.choice(DECODE_KINDS), p.choice([1.0, 0.1, -1e-300]), p.integer(7, 9)),
        "NoOp": lambda: hs.NoOp(p.choice(["Identity", 'a "quoted"\n\\ name', "# not a comment", "ä"])),
        "Clip": lambda: hs.Clip(-float(p.integer(0, 3)), p.choice([6.0, float("inf")])),
        "Quantised": lambda: hs.Quantised(array(p, n, 1), p.integer(1, 32), p.choice(["up", "even"])),
        "LeakyReLU": lambda: hs.LeakyReLU(0.01),
        "GELU": lambda: hs.GELU(p.choice(["none", "tanh"])),
        "Softmax": lambda: hs.Softmax(p.choice([-1, 0]), p.flag()),
        "BatchNorm": lambda: hs.BatchNorm(*(array(p, n) for _ in range(4)), eps=1e-3),
        "LayerNorm": lambda: hs.LayerNorm(array(p, n, 2), array(p, n, 2)),
        "MaxPool2d": lambda: hs.MaxPool2d(pair, (2, 1), (0, 1)),
        "Mean": lambda: hs.Mean(p.choice([(1, 2), (-1,), ()]), p.flag()),
        "Concat": lambda: hs.Concat(p.choice([0, -1])),
        "Spread": lambda: hs.Spread(pair),
        "SigmaDelta": lambda: hs.SigmaDelta(array(p, n), array(p, n), p.choice(["relu", "unit"]), p.flag()),
        "DeltaEncoder": lambda: hs.DeltaEncoder(array(p, n), p.flag()),
        "HostCall": lambda: p.choice(
            [
                hs.HostCall("Tensor.permute", "x0, 0, 2, 1", (n, 2)),
                hs.HostCall("torch.lstm", "x0@1, (c0@1, c0@1), [c1], True", (n,), lstm(p, n), 0, 1),
                hs.HostCall("F.pad", "x0, (1, 1), mode='constant', value=-inf", ()),
                hs.HostCall(
                    "Tensor.__getitem__",
                    "bool(x1), (slice(None, None, 2), ..., int(x0), c0)",
                    (3,),
                    {"c0": np.array([True, False])},
                ),
                hs.HostCall(
                    "torch.where",
                    "bool(x0), scalar(c0), c1",
                    (2,),
                    {"c0": np.ones(1, np.float32), "c1": np.arange(p.choice([2, 9]))},
                ),
            ]
        ),
    }
    return makers[kind]() if kind in makers else hs.OPS[kind]()


def random_annotations(p: Picks) -> dict[str, Any]:
    """Any of the annotations a node can carry."""
    weight = array(p, 2, 4)
    found: dict[str, Any] = {
        "type": TensorType(p.choice([(), (3,), (2, 3, 4)]), p.choice(list(Coding))),
        "dynamics": Dynamics(p.choice([1.0, 0.1]), "exact", p.choice(["zero", "subtract"]), ">=", array(p, 2),
                             p.choice([None, 0.5]), p.choice([None, array(p, 9)]), p.choice([None, 2.0]),
                             p.choice([None, 0.1]), p.choice([None, array(p, 2)]), p.choice([None, 0.1]),
                             p.choice([None, 0.5]), p.choice(["second", "step"]),
                             p.choice(["spike", "before", "after"]), p.choice([1, 0, 3]), p.choice([0, 2]),
                             p.choice([None, -1.0, array(p, 2)]), p.flag()),
        "placement": Placement(p.choice(["host", "chip"]), p.choice(["", "because: it is = {so}, <- there"])),
        "quant": p.choice([
            WeightQuant(np.signbit(weight).astype(np.int32), -3, 8, "mixed", 1 / 3, 5),
            NeuronQuant(*(p.choice([12, np.arange(n, dtype=np.int32)]) for n in (2, 9)), 99, -7,
                        np.arange(p.choice([1, 9]), dtype=np.int32), 3, 1e-7,
                        p.choice([None, 7, np.arange(3, dtype=np.int32)])),
            CurrentQuant(3, 0.1, -4096, 4000),
            SigmaDeltaQuant(3, np.arange(2, dtype=np.int32), 6, 6, 0.5),
            CollectQuant(p.choice([-2, 5]), np.arange(3, dtype=np.int32).reshape(3, 1)),
            FirstSpikeQuant(77, np.arange(2, dtype=np.int32), 1, 1 / 3),
        ]),
        "schedule": Schedule(p.integer(0, 9), 16),
        "source": Source("net.layer", p.choice(["", "C:\\models\\net.py", 'a"b.py']), p.integer(0, 99)),
    }  # fmt: skip
    return {field: value for field, value in found.items() if p.flag()}


def random_graph(p: Picks, kinds: tuple[str, ...] = tuple(hs.OPS)) -> Graph:
    """Up to six nodes with edges of any port and delay."""
    graph = Graph(p.choice(["model", 'a "name"', ""]), p.choice([None, 1, 16]))
    for i in range(p.integer(1, 6)):
        name = NAMES[(p.integer(0, len(NAMES) - 1) + i) % len(NAMES)]
        node = Node(graph.unique(name), random_op(p, p.choice(kinds)), **random_annotations(p))
        if node.is_neuron and node.type is not None:
            node = node.with_(type=TensorType(node.op.r.shape, node.type.coding))
        graph.add(node)
    names = [node.name for node in graph]
    for _ in range(p.integer(0, 6)):
        edge = Edge(p.choice(names), p.choice(names), p.choice(["input", "0", "1", "12"]), p.choice([0, 0, 1, 40]))
        if edge not in graph.edges:
            graph.connect(edge)
    return graph
