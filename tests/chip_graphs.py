"""Random networks as the compiler leaves them: quantised, scheduled, ready for Lava.

Built from nodes directly and not through the passes, so that every corner of the number formats is
reached: currents that wrap, potentials that saturate, weights that Lava truncates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import nir
import numpy as np
from picks import Picks

from hsnn_compiler.ir import Dynamics, Graph, Node, Placement
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Decode, Encode
from hsnn_compiler.ir.payloads import largest_payload, message_bits
from hsnn_compiler.ir.quant import CurrentQuant, NeuronQuant, WeightQuant
from hsnn_compiler.ir.shapes import Shape
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.schedule import SchedulePass

CHIP, HOST = Placement("chip"), Placement("host")
VTH_MAX = 2**17 - 1
V_MAX = 2**23 - 1


def random_network(p: Picks) -> tuple[Graph, np.ndarray]:
    """A network of 1 to 5 populations and 2 or 3 input samples for it."""
    shape = p.choice([(3,), (6,), (2, 7), (2, 5, 6), (4, 4, 3)])
    graph = Graph("random", timesteps=p.integer(4, 12))
    x = p.rng().integers(-4500, 4500, (p.integer(2, 3), *shape)).astype(np.float32) / p.choice([1, 8, 64])
    graph.add(Node("x", nir.Input(np.array(shape)), placement=HOST))
    population(graph, p, "pop0", shape, [encode(graph, p, "x", "encode0")], spiking=True)
    spiking = ["pop0"]
    for i in range(1, p.integer(1, 4) + 1):
        name = f"pop{i}"
        shapes = {n: graph[n].shape for n in spiking}
        feeds, shape = connections(graph, p, name, shapes)
        if shape == x.shape[1:] and p.flag(3):
            feeds.append(encode(graph, p, "x", f"encode{i}"))
        integrates = p.flag(4)
        population(graph, p, name, shape, feeds, spiking=not integrates)
        if not integrates:
            spiking.append(name)
    for node in [n for n in graph if n.is_neuron and not graph.out_edges(n.name)]:
        kind = p.choice(["mean", "sum", "last"]) if node.is_spiking else "last"
        graph.add(Node(f"{node.name}.decode", Decode(kind), placement=HOST), node.name)
        graph.add(Node(f"{node.name}.output", nir.Output(np.array(node.shape)), placement=HOST), f"{node.name}.decode")
    return schedule(graph), x


def schedule(graph: Graph) -> Graph:
    """Depths and delays, by the pass."""
    return SchedulePass().run(infer_types(graph), PassContext()).graph


def signals(graph: Graph) -> list[tuple[str, str]]:
    """Everything that can be recorded."""
    return [(n.name, v) for n in graph if n.is_neuron for v in "suv"]


def encode(graph: Graph, p: Picks, source: str, name: str) -> str:
    exponent = p.integer(0, 7)
    quant = CurrentQuant(exponent, 2.0**exponent / 64, -4096, 4095)  # x itself, rounded, is the mantissa
    return graph.add(Node(name, Encode(), placement=CHIP, quant=quant), source).name


def population(graph: Graph, p: Picks, name: str, shape: Shape, feeds: Sequence[str], *, spiking: bool) -> None:
    rng = p.rng()
    parameter = np.ones((1,) * len(shape))
    encodes = [graph[feed] for feed in feeds if graph[feed].kind == "Encode"]
    bias_exp = encodes[0].quant.exponent if encodes else p.integer(0, 7)  # type: ignore[union-attr]
    top = p.choice([0, 9, 4095])
    bias_shape = p.choice([shape, (shape[0], *[1] * (len(shape) - 1)), (1,) * len(shape)])
    bias = rng.integers(-top - (top > 0), top + 1, bias_shape)
    for encode in encodes:
        low, high = -4096 - min(0, int(bias.min())), 4095 - max(0, int(bias.max()))
        graph.update(encode.name, quant=CurrentQuant(bias_exp, encode.quant.scale, low, high))  # type: ignore[union-attr]
    reset = p.choice(["zero", "subtract"]) if spiking else "none"
    v_init = (
        p.choice([0, 1, -500, 64 * 50, V_MAX, -V_MAX, int(rng.integers(-V_MAX, V_MAX))]) if reset == "subtract" else 0
    )
    most = p.choice([1, 1, 2, 7, 255]) if reset == "subtract" else 1
    vth = p.choice([100, 300, 0, 20, 1, 2000, VTH_MAX - 1, VTH_MAX, 2 ** p.integer(1, 16)]) if spiking else VTH_MAX
    quant = NeuronQuant(
        du=p.choice([4095, 0, 1, 2047, 4094, int(rng.integers(0, 4096))]),
        dv=p.choice([0, 1, 128, 2048, 4095, int(rng.integers(0, 4096))]),
        vth=max(vth, int(most > 1)),
        v_init=rng.integers(-V_MAX, V_MAX, shape, np.int32) if reset == "subtract" and p.flag(4) else v_init,
        bias_mant=bias.astype(np.int32),
        bias_exp=bias_exp,
        scale=1.0,
        taken=(None, 5000, None, 2**23)[abs(v_init) % 4] if reset == "subtract" and most == 1 else None,
    )
    for what in ("du", "dv", "taken"):  # one for each neuron
        if rng.random() < 0.3 and (what != "taken" or quant.taken is not None):
            quant = replace(quant, **{what: rng.integers(0, 4096, shape, np.int32)})
    op = nir.IF(r=parameter, v_threshold=parameter, v_reset=0 * parameter) if spiking else nir.I(r=parameter)
    dynamics = Dynamics(integrator="none", reset=reset, max_spikes=most)
    graph.add(Node(name, op, dynamics=dynamics, placement=CHIP, quant=quant), *feeds)
    graph.replace(infer_types(graph)[name])


def connections(graph: Graph, p: Picks, name: str, shapes: dict[str, Shape]) -> tuple[list[str], Shape]:
    """Synapses into a new population: one to three, from any earlier ones; and the shape they agree on."""
    source = p.choice([list(shapes)[-1], *shapes])  # the last one more often: networks get deep
    convolves = len(shapes[source]) > 1 and p.flag()
    feeds = []
    shape: Shape = ()
    for i in range(p.choice([1, 1, 2, 3])):
        feed = f"{name}.syn{i}"
        if i and not convolves:
            source = p.choice(list(shapes))
        elif i:
            source = p.choice([n for n, s in shapes.items() if s == shapes[source]])
        if convolves:
            if i == 0:
                sides = geometry(p, shapes[source])
            graph.add(_conv(p, feed, sides, shapes[source]), source)
        else:
            if i == 0:
                shape = (p.integer(1, 6),)
            graph.add(_dense(p, feed, shape[0], int(np.prod(shapes[source]))), _flat(graph, source, shapes[source]))
        bits = message_bits(largest_payload(graph, graph[source]))
        if bits and not p.flag(4):  # now and then whatever is not 0 counts as one spike
            graph.update(feed, quant=replace(graph[feed].quant, message_bits=bits))
        feeds.append(feed)
    return feeds, infer_types(graph)[feeds[0]].shape


def _flat(graph: Graph, source: str, shape: Shape) -> str:
    name = f"{source}.flatten"
    if len(shape) == 1:
        return source
    if name not in graph:
        graph.add(Node(name, nir.Flatten({"input": np.array(shape)}, 0, -1), placement=CHIP), source)
    return name


def _dense(p: Picks, name: str, outputs: int, inputs: int) -> Node:
    rng = p.rng()
    low, high = p.choice(
        [(-256, 255), (0, 255), (-255, 0), (-400, 400), (0, 400), (-400, 0), (-3, 3), (0, 0), (-256, 0)]
    )
    weight = rng.integers(low, high + 1, (outputs, inputs)).astype(np.int32)
    weight *= rng.random(weight.shape) < p.choice([1.0, 0.5])
    exponent = p.choice([0, *range(-8, 8)])
    bits = p.choice([8, 8, 8, 7, 4, 1])
    quant = WeightQuant(weight, exponent, bits, "mixed", 1.0)
    return Node(name, nir.Linear(weight * 2.0**exponent), placement=CHIP, quant=quant)


Geometry = tuple[tuple[int, ...], tuple[int, ...], object, tuple[int, ...]]


def geometry(p: Picks, shape: Shape) -> Geometry:
    """Kernel, stride, padding and dilation that leave at least one pixel."""
    kernel, stride, dilation, padding = [], [], [], []
    for size in shape[1:]:
        k = p.choice([1, 2, 3])
        d = p.choice([1, 2])
        kernel.append(k)
        dilation.append(d)
        stride.append(p.choice([1, 2, 3]))
        padding.append(p.integer(max(0, (d * (k - 1) + 2 - size) // 2), k))
    if p.flag(4):
        return tuple(kernel), (1,) * len(kernel), "same", tuple(dilation)
    return tuple(kernel), tuple(stride), tuple(padding), tuple(dilation)


def _conv(p: Picks, name: str, form: Geometry, shape: Shape) -> Node:
    rng = p.rng()
    kernel, stride, padding, dilation = form
    groups = p.choice([1, shape[0]])
    outputs = shape[0] * 2
    top = p.choice([255, 3, 2**21])
    weight = rng.integers(-top, top + 1, (outputs, shape[0] // groups, *kernel)).astype(np.int32)
    cls, sides = (nir.Conv2d, shape[1:]) if len(shape) == 3 else (nir.Conv1d, shape[1])
    if len(shape) == 2:
        stride, dilation = stride[0], dilation[0]  # type: ignore[assignment]
        padding = padding if isinstance(padding, str) else padding[0]  # type: ignore[index]
    op = cls(sides, weight.astype(float), stride, padding, dilation, groups, np.zeros(outputs))
    return Node(name, op, placement=CHIP, quant=WeightQuant(weight, 0, 8, "mixed", 1.0))
