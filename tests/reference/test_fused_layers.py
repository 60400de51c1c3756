"""Both executors on compiled kernels, against themselves in torch."""

from __future__ import annotations

from typing import Any

import chip_graphs
import nir
import numpy as np
import pytest
import raw_graphs
import torch
from picks import Picks

from hsnn_compiler.ir import Coding, Dynamics, Edge, Graph, Node, TensorType
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.reference import fused
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.reference.loihi_executor import LoihiExecutor
from hsnn_compiler.reference.result import Result


def same(one: Result, two: Result) -> None:
    """Outputs, traces and counters, bit for bit."""
    for a, b in ((one.outputs, two.outputs), (one.trace, two.trace)):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=str(key))
    assert (one.spikes, one.saturated) == (two.spikes, two.saturated)


def both(graph: Graph, x: Any, record: Any, **options: Any) -> dict[str, str]:
    compiled = LoihiExecutor(graph, compiles=True).run(x, record, **options)
    same(LoihiExecutor(graph, compiles=False).run(x, record, **options), compiled)
    return {name: how for name, how in compiled.how.items() if not how.startswith("torch")}


def test_programs_in_integers() -> None:
    layers = sum(
        len(both(graph, x, chip_graphs.signals(graph)))
        for graph, x in (chip_graphs.random_network(Picks.seeded(seed)) for seed in range(60))
    )
    assert layers > 100


def test_raw_graphs_in_integers() -> None:
    layers = 0
    for seed in range(120):
        raw = raw_graphs.random_raw(Picks.seeded(seed), samples=2)
        record = raw_graphs.signals(raw.graph) if seed % 2 else []
        layers += len(both(raw.graph, raw.inputs, record, reset_interval=raw.reset_interval))
    assert layers > 100


def test_raw_graphs_cut_along_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hsnn_compiler.reference.loihi_executor.STRETCH_BYTES", 400)
    for seed in range(30):
        raw = raw_graphs.random_raw(Picks.seeded(seed), samples=2)
        both(raw.graph, raw.inputs, raw_graphs.signals(raw.graph), reset_interval=raw.reset_interval)


def dyadic(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers that add up exactly in any order."""
    return rng.integers(-16, 17, shape).astype(np.float32) / 64


def float_net(seed: int, analog: bool = False) -> Graph:
    """Convolutions and matrices between neurons of every basic kind, some connections delayed or skipping.

    Nothing is rounded: spikes times multiples of 1/64, halved at most once per step, stay within float32;
    `analog` puts potentials between layers, which need float64.
    """
    rng = np.random.default_rng(seed)
    pick = Picks.seeded(seed)
    shape = pick.choice([(2, 7, 6), (3, 9)])
    graph = Graph("net")
    graph.add(Node("input", nir.Input(np.array(shape)), TensorType(shape, Coding.CURRENT)))

    def neuron(name: str, channels: int, rank: int, *feeds: str | Edge) -> None:
        size = pick.choice([(1,), (channels,) + (1,) * (rank - 1)])
        threshold = np.abs(dyadic(rng, *size)) + 0.125
        zero, one = np.zeros(size, np.float32), np.ones(size, np.float32)
        shared: dict[str, Any] = {
            "reset": pick.choice(["zero", "subtract", "value", "none"]),
            "threshold_test": pick.choice([">", ">="]),
            "v_init": pick.choice([0.0, 0.25]),
        }
        op: Any = nir.IF(one, threshold, dyadic(rng, *size))
        if pick.flag(3):
            op = nir.CubaLIF(one, one, one, zero, threshold, zero, one)
            shared.update(decay=1.0, current_decay=0.5, gain=1.0)
        elif analog and name != "n4" and pick.flag(3):  # a loop would add digits with every step
            op = nir.I(one)
        graph.add(Node(name, op, dynamics=Dynamics(1.0, **shared)), *feeds)

    conv = nir.Conv2d if len(shape) == 3 else nir.Conv1d
    kernel, stride = ((3, 2), (2, 1)) if len(shape) == 3 else ((3,), 2)
    bias = dyadic(rng, 4)
    graph.add(Node("c1", conv(None, dyadic(rng, 4, shape[0], *kernel), stride, "valid", 1, 1, bias)), "input")
    neuron("n1", 4, len(shape), "c1")
    graph.add(Node("c2", conv(None, dyadic(rng, 4, 2, *kernel), 1, "same", 1, 2, bias)), Edge("n1", "c2", delay=1))
    neuron("n2", 4, len(shape), "c2", "n1")
    flat = pick.choice(["n1", "n2"])
    graph.add(Node("flat", nir.Flatten({"input": None}, 0, -1)), flat)
    graph = infer_types(graph)
    (size,) = graph["flat"].shape
    graph.add(
        Node("fc", nir.Affine(dyadic(rng, 5, size), dyadic(rng, 5))), Edge("flat", "fc", delay=pick.choice([0, 2]))
    )
    neuron("n3", 5, 1, "fc")
    graph.add(Node("loop", nir.Linear(dyadic(rng, 5, 5))), "n3")
    neuron("n4", 5, 1, "loop")
    graph.connect(Edge("n4", "loop", delay=1))
    graph.add(Node("output", nir.Output(np.array([5]))), "n4")
    return infer_types(graph)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_float(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "WORTH_COMPILING", 0)
    layers = spikes = 0
    for seed in range(25):
        graph = float_net(seed, analog=dtype is torch.float64)
        rng = np.random.default_rng(seed)
        x = (rng.random((3, 9, *graph["input"].shape)) < 0.4).astype(np.uint8)
        record = [(n.name, v) for n in graph for v in ("suv" if n.is_neuron else "s") if n.is_neuron or seed % 3 == 0]
        for wanted in (record, []):
            compiled = FloatExecutor(graph, dtype, method="auto").run(x, wanted, batch_size=2, reset_interval=5)
            same(FloatExecutor(graph, dtype).run(x, wanted, reset_interval=5), compiled)
            layers += sum(not how.startswith("torch") for how in compiled.how.values())
            assert compiled.how["n4"] == "torch: step by step, on a loop"
        spikes += sum(compiled.spikes.values())
    assert layers > 100
    assert spikes > 1000


def test_bytes_that_are_no_spikes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "WORTH_COMPILING", 0)
    graph = float_net(1)
    x = np.random.default_rng(0).integers(0, 4, (2, 6, *graph["input"].shape)).astype(np.uint8)
    compiled = FloatExecutor(graph, method="auto").run(x, [("n1", "v")])
    same(FloatExecutor(graph).run(x, [("n1", "v")]), compiled)
    assert not compiled.how["n1"].startswith("torch")


def test_short_runs_do_not_load_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = float_net(0)
    x = np.ones((1, 4, *graph["input"].shape), np.float32)
    monkeypatch.setattr(fused, "worth_compiling", fused.Worth())
    monkeypatch.setattr("hsnn_compiler.reference.float_executor.worth_compiling", fused.Worth())
    how = FloatExecutor(graph, method="auto").run(x).how
    assert how["n1"] == "torch: too short a run for compiled kernels"
