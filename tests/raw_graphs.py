"""Random raw graphs: integers on a global time axis, loops and delays included.

Built to reach every corner: currents that wrap, potentials that saturate, payloads that leave 32 bits,
weights that Lava truncates, loops of every length.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import nir
import numpy as np
from chip_graphs import CHIP, HOST, V_MAX, VTH_MAX, Geometry, geometry
from picks import Picks

from hsnn_compiler.ir import Dynamics, Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Concat, DeltaEncoder, SigmaDelta, Spread
from hsnn_compiler.ir.payloads import fires_once
from hsnn_compiler.ir.quant import NeuronQuant, SigmaDeltaQuant, WeightQuant
from hsnn_compiler.ir.shapes import Shape, shape_rule
from hsnn_compiler.ir.timing import layers
from hsnn_compiler.ir.types import Coding, TensorType

SHAPES: tuple[Shape, ...] = ((3,), (6,), (2, 7), (2, 5, 6), (4, 4, 3))
STEPS = 14


@dataclass
class Raw:
    """A raw graph, its data, and the reset interval it runs with."""

    graph: Graph
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    reset_interval: int | None = None


def random_raw(p: Picks, parts: int = 1, *, samples: int = 1) -> Raw:
    """A graph of some parts that do not touch each other, each a random network."""
    raw = Raw(Graph("raw"), reset_interval=p.choice([None, None, None, 7, 8, 17]))
    for part in range(parts):
        _Part(p, raw, f"n{part}." if parts > 1 else "", samples)
    raw.graph = infer_types(raw.graph)
    if raw.reset_interval is not None:  # Lava's LIFReset also resets before the first time, where it can
        raw.reset_interval = max(raw.reset_interval, max(layers(raw.graph).values()) + 1)
    return raw


def signals(graph: Graph) -> list[tuple[str, str]]:
    """Everything that both the executor and Lava record."""
    found = []
    for node in graph:
        if node.is_neuron or node.kind in ("SigmaDelta", "DeltaEncoder"):
            found += [(node.name, v) for v in ("suv" if node.is_spiking or not node.is_neuron else "uv")]
    return found


class _Part:
    """Adds one network to a graph."""

    def __init__(self, p: Picks, raw: Raw, prefix: str, samples: int) -> None:
        self.p, self.raw, self.graph, self.prefix = p, raw, raw.graph, prefix
        self.shapes: dict[str, Shape] = {}  # of everything that can feed something
        self.graded: set[str] = set()
        self.bounded: set[str] = set()  # what cannot make the sums of a convolution leave 32 bits
        self.count = 0
        for i in range(p.choice([1, 1, 2])):
            self._input(f"{prefix}x{i}", samples)
        self.populations: dict[str, Shape] = {}
        for i in range(p.integer(1, 4)):
            self._population(f"{prefix}pop{i}")
        for _ in range(p.choice([0, 1, 1, 2])):
            self._loop()
        for name in list(self.populations):
            if not self.graph.out_edges(name) or p.flag(4):
                self._output(name)

    def _name(self, stem: str) -> str:
        self.count += 1
        return f"{self.prefix}{stem}{self.count}"

    def _input(self, name: str, samples: int) -> None:
        p, shape = self.p, self.p.choice(SHAPES)
        rng = p.rng()
        graded = p.flag(3)
        self.graph.add(
            Node(
                name,
                nir.Input(np.array(shape)),
                TensorType(shape, Coding.GRADED if graded else Coding.SPIKES),
                placement=HOST,
            )
        )
        top = p.choice([3, 300, 40_000, 2**24]) if graded else 1
        data = rng.integers(-top if graded else 0, top + 1, (samples, STEPS, *shape))
        self.raw.inputs[name] = data * (rng.random(data.shape) < p.choice([0.3, 1.0, 0.1]))
        self.shapes[name] = shape
        if top <= 40_000:
            self.bounded.add(name)
        if graded:
            self.graded.add(name)

    # -- populations ----------------------------------------------------------------------------

    def _population(self, name: str) -> None:
        p = self.p
        sources = list(self.shapes)
        source = p.choice([sources[-1], *sources])
        kind = p.choice(["lif", "lif", "lif", "sigma", "delta", "integrator"])
        if self.raw.reset_interval is not None and kind in ("sigma", "delta"):
            kind = "lif"  # Lava cannot reset those
        if kind == "delta" or p.flag(8):
            feeds, shape = [Edge(source, name, delay=p.choice([0, 0, 1, 3]))], self.shapes[source]
        else:
            feeds, shape = self._synapses(name, source)
        node = {"lif": self._lif, "integrator": self._lif, "sigma": self._sigma, "delta": self._sigma}[kind](
            name, shape, kind
        )
        self.graph.add(node, *feeds)
        self.populations[name] = shape
        if kind == "integrator":
            return
        self.shapes[name] = shape
        if kind in ("sigma", "delta") or not fires_once(node):
            self.graded.add(name)
        if kind not in ("sigma", "delta"):
            self.bounded.add(name)

    def _lif(self, name: str, shape: Shape, kind: str) -> Node:
        p, rng, one = self.p, self.p.rng(), np.ones((1,) * len(shape))
        spiking = kind == "lif"
        reset = p.choice(["zero", "subtract"]) if spiking else "none"
        top = p.choice([0, 9, 4095])
        may_start = reset == "subtract" or self.raw.reset_interval is None
        most = p.choice([1, 1, 3, 255]) if reset == "subtract" else 1
        vth = p.choice([100, 300, 0, 20, 1, 2000, VTH_MAX, 2 ** p.integer(1, 16)]) if spiking else VTH_MAX
        v_init = p.choice([0, 0, -500, V_MAX, int(rng.integers(-V_MAX, V_MAX))]) if may_start else 0
        quant = NeuronQuant(
            du=p.choice([4095, 0, -1, 1, 2047, 4094, int(rng.integers(0, 4096))]),
            dv=p.choice([0, 4096, 1, 128, 2048, 4095, int(rng.integers(0, 4096))]),
            vth=max(vth, int(most > 1)),
            v_init=rng.integers(-V_MAX, V_MAX, shape, np.int32) if may_start and p.flag(5) else v_init,
            bias_mant=rng.integers(-top - (top > 0), top + 1, shape).astype(np.int32),
            bias_exp=p.integer(0, 7),
            scale=1.0,
            taken=p.choice([None, None, 0, 5000, 2**23]) if reset == "subtract" and most == 1 else None,
        )
        for what in ("du", "dv", "taken"):  # one for each neuron
            if rng.random() < 0.2 and (what != "taken" or quant.taken is not None):
                quant = replace(quant, **{what: rng.integers(0, 4096, shape, np.int32)})
        op = nir.IF(r=one, v_threshold=one, v_reset=0 * one) if spiking else nir.I(r=one)
        dynamics = Dynamics(integrator="none", reset=reset, max_spikes=most)
        return Node(name, op, dynamics=dynamics, placement=CHIP, quant=quant)

    def _sigma(self, name: str, shape: Shape, kind: str) -> Node:
        p, rng = self.p, self.p.rng()
        spike_exp, state_exp = p.choice([0, 6, 3]), p.choice([0, 6, 2])
        vth = p.choice([1, 0, 10, 300, 2**18])
        bias = rng.integers(-9, 10, shape) * p.choice([0, 1, 1000]) if kind == "sigma" else np.zeros(shape)
        quant = SigmaDeltaQuant(vth, bias.astype(np.int32), spike_exp, state_exp, 1.0)
        threshold, cumulative = np.full(1, float(vth)), p.flag(3)
        if kind == "delta":
            return Node(name, DeltaEncoder(threshold, cumulative), placement=CHIP, quant=quant)
        op = SigmaDelta(threshold, bias.astype(float), p.choice(["relu", "unit"]), cumulative)
        return Node(name, op, placement=CHIP, quant=quant)

    def _output(self, name: str) -> None:
        shape = self.populations[name]
        if len(shape) == 1 and self.p.flag(3) and name in self.shapes:
            readout = self._name("readout")
            self._dense(readout, 2, shape[0], graded=name in self.graded)
            self.graph.connect(Edge(name, readout, delay=self.p.choice([0, 1])))
            name, shape = readout, (2,)
        self.graph.add(Node(self._name("out"), nir.Output(np.array(shape)), placement=HOST), name)

    # -- connections ----------------------------------------------------------------------------

    def _delay(self) -> int:
        return self.p.choice([1, 1, 2, 4, 9])

    def _synapses(self, name: str, source: str) -> tuple[list[Edge], Shape]:
        """One to three synapses from any sources, and the shape they agree on."""
        p = self.p
        feeds: list[Edge] = []
        shape: Shape = ()
        convolves = len(self.shapes[source]) > 1 and source in self.bounded and p.flag()
        for i in range(p.choice([1, 1, 2, 3])):
            feed = self._name("syn")
            if convolves:
                if i:
                    source = p.choice(self._like(source))
                else:
                    spreads = len(self.shapes[source]) == 3 and p.flag(4)
                    step = (p.integer(1, 3), 2)
                    image = shape_rule(Spread(step), [self.shapes[source]]) if spreads else self.shapes[source]
                    sides = geometry(p, image)
                    maps = p.choice([(2 * image[0], image[0]), (2, 1), (2 * image[0], 1)])
                shape = self._conv(feed, sides, maps, image, graded=source in self.graded)
                fed = self._later(source)
                if spreads:
                    self.graph.add(Node(f"{feed}.spread", Spread(step), placement=CHIP), fed)
                    fed = f"{feed}.spread"
                self.graph.connect(Edge(fed, feed, delay=self._delay()))
            else:
                if i:
                    source = p.choice(list(self.shapes))
                else:
                    shape = (p.integer(1, 6),)
                self._from_flat(feed, source, shape[0])
            feeds.append(Edge(feed, name, delay=p.choice([0, 0, 0, 2])))
        return feeds, shape

    def _like(self, source: str) -> list[str]:
        """Sources of a convolution with the same shape and coding."""
        return [
            n
            for n in self.shapes
            if n in self.bounded
            and self.shapes[n] == self.shapes[source]
            and (n in self.graded) == (source in self.graded)
        ]

    def _from_flat(self, feed: str, source: str, outputs: int) -> None:
        """A dense synapse from a source, flattened if need be, or from two sources one after the other."""
        p = self.p
        name, size = self._flat(source)
        graded = source in self.graded
        if p.flag(6):
            other = p.choice(list(self.shapes))
            second, more = self._flat(other)
            graded |= other in self.graded
            both = self._name("both")
            self.graph.add(
                Node(both, Concat(0), placement=CHIP), Edge(name, both, "0", p.choice([0, 1])), Edge(second, both, "1")
            )
            name, size = both, size + more
        self._dense(feed, outputs, size, graded=graded)
        self.graph.connect(Edge(name, feed, delay=self._delay()))

    def _flat(self, source: str) -> tuple[str, int]:
        shape, size = self.shapes[source], int(np.prod(self.shapes[source]))
        name = self._later(source)
        if len(shape) == 1:
            return name, size
        flat = self._name("flat")
        self.graph.add(Node(flat, nir.Flatten({"input": np.array(shape)}, 0, -1), placement=CHIP), name)
        return flat, size

    def _later(self, source: str) -> str:
        """The source, sometimes behind delays of its own for each neuron."""
        if not self.p.flag(8):
            return source
        name, shape = self._name("later"), self.shapes[source]
        delay = self.p.rng().integers(0, 5, shape).astype(float)
        self.graph.add(Node(name, nir.Delay(delay), dynamics=Dynamics(), placement=CHIP), source)
        return name

    def _dense(self, name: str, outputs: int, inputs: int, *, graded: bool) -> None:
        p, rng = self.p, self.p.rng()
        low, high = p.choice([(-256, 255), (0, 255), (-255, 0), (-400, 400), (0, 400), (-400, 0), (-3, 3), (0, 0)])
        weight = rng.integers(low, high + 1, (outputs, inputs)).astype(np.int32)
        weight *= rng.random(weight.shape) < p.choice([1.0, 0.5, 0.1])
        exponent, bits = p.choice([0, 0, *range(-8, 8)]), p.choice([8, 8, 8, 7, 4, 1])
        message = p.choice([16, 16, 16, 0]) if graded else p.choice([0, 0, 0, 8])
        quant = WeightQuant(weight, exponent, bits, "mixed", 1.0, message_bits=message)
        self.graph.add(Node(name, nir.Linear(weight * 2.0**exponent), placement=CHIP, quant=quant))

    def _conv(self, name: str, sides: Geometry, maps: tuple[int, int], shape: Shape, *, graded: bool) -> Shape:
        """A convolution with `maps`, output channels and groups."""
        p, rng = self.p, self.p.rng()
        (kernel, stride, padding, dilation), (outputs, groups) = sides, maps
        top = p.choice([255, 3] if graded else [255, 3, 2**21])
        weight = rng.integers(-top, top + 1, (outputs, shape[0] // groups, *kernel)).astype(np.int32)
        message = p.choice([16, 16, 0]) if graded else p.choice([0, 0, 8])
        cls, size = (nir.Conv2d, shape[1:]) if len(shape) == 3 else (nir.Conv1d, shape[1])
        if len(shape) == 2:
            stride, dilation = stride[0], dilation[0]  # type: ignore[assignment]
            padding = padding if isinstance(padding, str) else padding[0]  # type: ignore[index]
        op = cls(size, weight.astype(float), stride, padding, dilation, groups, np.zeros(outputs))
        quant = WeightQuant(weight, 0, 8, "mixed", 1.0, message_bits=message)
        self.graph.add(Node(name, op, placement=CHIP, quant=quant))
        return shape_rule(op, [shape])

    # -- loops ----------------------------------------------------------------------------------

    def _loop(self) -> None:
        """A connection from a population to itself or to an earlier one."""
        p = self.p
        numbered = [n for n in self.populations if n in self.shapes]
        if not numbered:
            return
        target = p.choice(numbered)
        source = p.choice([n for n in numbered if numbered.index(n) >= numbered.index(target)])
        shape = self.shapes[target]
        back = self._name("back")
        if shape == self.shapes[source] and p.flag(5):
            edge = Edge(source, target, delay=self._delay())  # without any synapse
            if edge not in self.graph.in_edges(target):
                self.graph.connect(edge)
            return
        if len(shape) == 1:
            self._from_flat(back, source, shape[0])
        elif source == target and source in self.bounded:
            ones = (1,) * (len(shape) - 1)
            self._conv(back, ((3,) * len(ones), ones, "same", ones), (shape[0], 1), shape, graded=source in self.graded)
            self.graph.connect(Edge(source, back, delay=self._delay()))
        else:
            return
        self.graph.connect(Edge(back, target))
