"""Graphs that run as one chain of layers, against the same graphs in torch, node by node."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest
import torch
from picks import Picks
from test_fused_layers import dyadic, same

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Coding, Dynamics, Edge, Graph, Node, Placement, TensorType
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.quant import NeuronQuant, WeightQuant
from hsnn_compiler.kernels import chain
from hsnn_compiler.reference import fused
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.reference.loihi_executor import LoihiExecutor
from hsnn_compiler.reference.result import Result
from hsnn_compiler.reference.whole import Whole

TIME = 13


class Net:
    """Two inputs, maps, matrices and delays, one or two outputs: nothing that is no chain.

    Args:
        p: choices.
        quantised: for the integer executor, or else for the float executor.
    """

    def __init__(self, p: Picks, *, quantised: bool) -> None:
        self.p, self.rng, self.quantised = p, p.rng(), quantised
        self.graph = Graph("net")
        shape = p.choice([(2, 7, 6), (3, 9)])
        for name, size in (("input", shape), ("side", (20,))):
            kind = TensorType(size, Coding.SPIKES if quantised else Coding.CURRENT)
            self.graph.add(Node(name, nir.Input(np.array(size)), kind, placement=self.placed("host")))
        last, channels = "input", shape[0]
        for i in range(p.integer(0, 2)):
            weight = self.weight(4, channels, *((3, 2) if len(shape) == 3 else (3,)))
            kind = nir.Conv2d if len(shape) == 3 else nir.Conv1d
            conv = kind(
                None, weight, p.choice([1, 2]), "valid", 1, 1, 0 * weight[:, 0].max(tuple(range(1, len(shape))))
            )
            last, channels = self.layer(f"c{i}", last, conv, len(shape)), 4
        flat = Edge(last, "flat", delay=p.choice([0, 2]))
        self.graph.add(Node("flat", nir.Flatten({"input": None}, 0, -1), placement=self.placed("chip")), flat)
        (size,) = infer_types(self.graph)["flat"].shape
        wide = self.layer("wide", "flat", nir.Linear(self.weight(70, size)))
        end = self.layer("end", wide, nir.Linear(self.weight(6, 70)), spiking=p.flag(), side=p.flag())
        for name, source in (("output", end), ("output_2", wide))[: p.choice([1, 2])]:
            size = 6 if source == end else 70
            self.graph.add(Node(name, nir.Output(np.array([size])), placement=self.placed("host")), source)
        if not self.graph.out_edges("side"):
            self.graph.remove("side")
        self.graph = infer_types(self.graph)

    def placed(self, where: Any) -> Placement | None:
        return Placement(where) if self.quantised else None

    def weight(self, *shape: int) -> np.ndarray:
        return 2.0 * self.rng.integers(-60, 61, shape) if self.quantised else dyadic(self.rng, *shape)

    def synapse(self, name: str, source: str, op: Any) -> str:
        quant = WeightQuant(op.weight.astype(np.int32), 0, 8, "mixed", 1.0) if self.quantised else None
        edge = Edge(source, name, delay=self.p.choice([0, 1, 3]))
        return self.graph.add(Node(name, op, placement=self.placed("chip"), quant=quant), edge).name

    def layer(self, name: str, source: str, op: Any, rank: int = 1, *, spiking: bool = True, side: bool = False) -> str:
        feeds = [self.synapse(f"{name} synapse", source, op)]
        if side:
            feeds.append(self.synapse(f"{name} side", "side", nir.Linear(self.weight(len(op.weight), 20))))
        one, quant = np.ones((1,) * rank, np.float32), None
        neuron: Any = nir.IF(one, 0.5 * one, 0 * one) if spiking else nir.I(one)
        if self.quantised:
            shape = infer_types(self.graph)[feeds[0]].shape
            bias = self.rng.integers(-20, 21, shape).astype(np.int32)
            quant = NeuronQuant(self.p.choice([4095, 1000]), 409, 80, 3, bias, 0, 1.0, self.p.choice([None, 7000]))
        dynamics = Dynamics(1.0, reset=self.p.choice(["zero", "subtract"]))
        return self.graph.add(
            Node(name, neuron, dynamics=dynamics, placement=self.placed("chip"), quant=quant), *feeds
        ).name


@pytest.fixture
def chained(monkeypatch: pytest.MonkeyPatch) -> list[Result]:
    """What chains returned, with windows of four steps."""
    monkeypatch.setattr(fused, "WORTH_COMPILING", 0)
    monkeypatch.setattr(chain, "WINDOW_BYTES", 0)
    monkeypatch.setattr(chain, "FEWEST_STEPS", 4)
    found: list[Result] = []
    original = Whole.run

    def run(self: Whole, *arguments: Any) -> Result | None:
        done = original(self, *arguments)
        found.extend([done] if done else [])
        return done

    monkeypatch.setattr(Whole, "run", run)
    return found


@pytest.mark.parametrize("quantised", [False, True])
def test_whole(quantised: bool, chained: list[Result]) -> None:
    spikes, runs = 0, 0
    for seed in range(40):
        net = Net(Picks.seeded(seed), quantised=quantised)
        graph, p = net.graph, net.p
        x = {
            node.name: (net.rng.random((5, TIME, *node.shape)) < 0.25).astype(
                p.choice([np.uint8, np.int32, np.float32, bool])
            )
            for node in graph.of_kind("Input")
        }
        record = [(n.name, v) for n in graph for v in "suv" if n.is_neuron and p.flag()]
        interval = p.choice([None, 5])
        if quantised:
            fast, slow = LoihiExecutor(graph, compiles=True), LoihiExecutor(graph, compiles=False)
        else:
            fast, slow = FloatExecutor(graph, torch.float64, method="auto"), FloatExecutor(graph, torch.float64)
        for wanted in (record, []):
            done = fast.run(x, wanted, batch_size=3, reset_interval=interval)
            same(slow.run(x, wanted, reset_interval=interval), done)
            assert all(how.startswith("events") for how in done.how.values())
            spikes, runs = spikes + sum(done.spikes.values()), runs + 2
    assert len(chained) == runs
    assert spikes > 10_000


@pytest.mark.parametrize("quantised", [False, True])
def test_runs_like_one_before(quantised: bool, chained: list[Result]) -> None:
    """What was checked once is not checked again: the answers are those of an executor that has never run."""

    def executor() -> FloatExecutor | LoihiExecutor:
        if quantised:
            return LoihiExecutor(graph, compiles=True)
        return FloatExecutor(graph, torch.float64, method="auto")

    repeats = 0
    for seed in range(30):
        net = Net(Picks.seeded(seed), quantised=quantised)
        graph, p = net.graph, net.p
        if len(graph.of_kind("Input")) > 1:
            continue
        used, shape = executor(), graph["input"].shape
        records = [[], [("wide", "s"), ("end", "v")]]
        for _ in range(12):
            x = (net.rng.random((p.choice([1, 4]), p.choice([TIME, 5]), *shape)) < 0.25).astype(
                p.choice([np.uint8, bool])
            )
            if not quantised and x.dtype == np.uint8 and p.flag(5):
                x.flat[0] = 3  # a value, not a spike: no chain
            if p.flag(3):
                x = np.asfortranarray(x)
            told: list[tuple[int, int]] = []
            options = {"batch_size": p.choice([2, 8]), "reset_interval": p.choice([None, 4])}
            record = p.choice(records)
            done = used.run(x, record, progress=lambda *step, told=told: told.append(step), **options)
            new = executor().run(x, record, **options)
            same(new, done)
            assert new.how == done.how
            assert told[-1] == (len(x), len(x))
        repeats += len(used._repeats._chains)
        with pytest.raises(HsnnError, match="E0330"):
            used.run(x[..., :-1])
    assert repeats > 50
