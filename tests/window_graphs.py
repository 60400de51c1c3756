"""Random networks whose spikes come from the host, and count by their time: Collect, FirstSpike, events, host neurons.

Built like those of `chip_graphs`, from nodes with integers at the edge of every format.
"""

from __future__ import annotations

import nir
import numpy as np
from chip_graphs import CHIP, HOST, connections, encode, population, schedule
from picks import Picks

from hsnn_compiler.ir import Dynamics, Graph, Node
from hsnn_compiler.ir.crossings import DECODE_KINDS
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import COLLECT_CODES, EVENT_KINDS, Collect, Decode, Encode, FirstSpike
from hsnn_compiler.ir.quant import CollectQuant, CurrentQuant, FirstSpikeQuant
from hsnn_compiler.ir.shapes import Shape


def random_windows(p: Picks) -> tuple[Graph, np.ndarray]:
    """A network of 1 to 4 populations on the chip and 2 to 4 input samples for it."""
    shape = p.choice([(3,), (6,), (2, 7), (2, 5, 6), (4, 4, 3)])
    graph = Graph("windows", timesteps=p.integer(2, 9))
    x = p.rng().normal(0, 1, (p.integer(2, 4), *shape)).astype(np.float32)
    graph.add(Node("x", nir.Input(np.array(shape)), placement=HOST))
    spiking = [_events(graph, p, "events"), *([_host_neurons(graph, p)] if p.flag() else [])]
    for i in range(p.integer(1, 4)):
        name = f"pop{i}"
        feeds, shape = _feeds(graph, p, name, spiking)
        fires_once = p.flag(3) and all(graph[feed].kind == "Collect" for feed in feeds)
        if (shape == x.shape[1:] or len(shape) == 1) and p.flag(3):
            feeds.append(encode(graph, p, _analog(graph, p, shape, f"analog{i}"), f"encode{i}"))
        if fires_once:
            _first_spikes(graph, p, name, shape, feeds)
        else:
            population(graph, p, name, shape, feeds, spiking=not p.flag(4))
        if graph[name].is_spiking:
            spiking.append(name)
    for node in [n for n in graph if n.is_population and not graph.out_edges(n.name)]:
        op = Decode(p.choice(DECODE_KINDS), 1.5, p.divisor(graph.timesteps)) if node.is_spiking else Decode("last")
        graph.add(Node(f"{node.name}.decode", op, placement=HOST), node.name)
        graph.add(Node(f"{node.name}.output", nir.Output(np.array(node.shape)), placement=HOST), f"{node.name}.decode")
    return schedule(graph), x


def window_signals(graph: Graph) -> list[tuple[str, str]]:
    """Everything on the chip that can be recorded."""
    found = [(n.name, v) for n in graph if n.is_neuron and n.on_chip for v in "suv"]
    found += [(n.name, v) for n in graph.of_kind("FirstSpike") for v in "sv"]
    return found + [(n.name, "s") for n in graph.of_kind("Collect")]


def _analog(graph: Graph, p: Picks, shape: Shape, name: str) -> str:
    """The input as values of this shape: itself, or some of its elements, which no batch size rounds differently."""
    if graph["x"].op.input_type["input"].tolist() == list(shape):
        return "x"
    given = graph["x"].op.input_type["input"]
    graph.add(Node(f"{name}.flat", nir.Flatten({"input": given}, 0, -1), placement=HOST), "x")
    size = int(np.prod(given))
    op = nir.Linear(np.eye(size)[p.rng().integers(0, size, shape)] * p.choice([1.0, -8.0, 100.0]))
    return graph.add(Node(name, op, placement=HOST), f"{name}.flat").name


def _events(graph: Graph, p: Picks, name: str) -> str:
    assert graph.timesteps is not None
    op = Encode(p.choice(EVENT_KINDS), p.choice([1.0, 0.7, 2.5]), p.flag(), p.divisor(graph.timesteps))
    graph.add(Node(name, op, placement=p.choice([HOST, CHIP])), "x")
    graph.replace(infer_types(graph)[name])
    return name


def _host_neurons(graph: Graph, p: Picks) -> str:
    """A linear layer and neurons in real numbers on the host, with the same value in every step."""
    graph.add(Node("presented", Encode(), placement=HOST), "x")
    shape = infer_types(graph)["presented"].shape
    graph.add(Node("scaled", nir.Scale(p.rng().normal(0, 1, shape)), placement=HOST), "presented")
    one = np.ones((1,) * len(shape))
    op = nir.IF(r=one, v_threshold=one, v_reset=0 * one)
    dynamics = Dynamics(integrator="none", reset=p.choice(["subtract", "zero"]))
    graph.add(Node("neurons", op, dynamics=dynamics, placement=HOST), "scaled")
    for name in ("presented", "scaled", "neurons"):
        graph.replace(infer_types(graph)[name])
    return "neurons"


def _feeds(graph: Graph, p: Picks, name: str, spiking: list[str]) -> tuple[list[str], Shape]:
    """Synapses into a new population, straight or through one or two Collects."""
    feeds, shape = connections(graph, p, name, {n: graph[n].shape for n in spiking})
    kept = [feed for feed in feeds if p.flag(4)] if len(feeds) > 1 else []
    collected = [feed for feed in feeds if feed not in kept]
    if p.flag(4):
        return feeds, shape
    parts = [collected[:1], collected[1:]] if p.flag() else [collected]
    for i, part in enumerate(part for part in parts if part):
        code = p.choice(COLLECT_CODES)
        bias = p.rng().integers(-(2 ** p.integer(0, 23)), 2**10, p.choice([shape, (1,) * len(shape)]), np.int32)
        quant = CollectQuant(p.choice([0, 1, 3, 8, -1, -4, -9]), bias)
        kept.append(f"{name}.collect{i}")
        op = Collect(code, bias / 64.0, p.divisor(graph.timesteps or 1))
        graph.add(Node(kept[-1], op, placement=CHIP, quant=quant), *part)
    return kept, shape


def _first_spikes(graph: Graph, p: Picks, name: str, shape: Shape, feeds: list[str]) -> None:
    top = p.choice([0, 9, 4095])
    bias = p.rng().integers(-top, top + 1, shape, np.int32)
    exponent = p.integer(0, 7)
    for feed in feeds:
        if graph[feed].kind == "Encode":
            room = CurrentQuant(exponent, 2.0**exponent / 64, -4096 + top, 4095 - top)
            graph.update(feed, quant=room)
    quant = FirstSpikeQuant(p.choice([1, 2, 100, 5001, 2**12, 2**19]), bias, exponent, 1.0)
    graph.add(Node(name, FirstSpike(np.ones((1,) * len(shape))), placement=CHIP, quant=quant), *feeds)
    graph.replace(infer_types(graph)[name])
