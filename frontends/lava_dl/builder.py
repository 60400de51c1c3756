"""Puts layers one behind the other, as ``Network._create`` of netx does, and beside each other after concat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.frontends.lava_dl import synapses
from hsnn_compiler.frontends.lava_dl.fields import Fields, MissingError
from hsnn_compiler.frontends.lava_dl.inputs import transform_of
from hsnn_compiler.frontends.lava_dl.neurons import INTEGRATOR, Neuron, build, read_bias, read_neuron
from hsnn_compiler.ir.dynamics import Dynamics
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.ops import Concat, Spread
from hsnn_compiler.ir.shapes import Shape, ShapeError, shape_rule
from hsnn_compiler.ir.types import Coding, Placement, TensorType

CHIP = Placement("chip", "as in the file")
DELAY_MAX = 62


@dataclass(frozen=True)
class Signal:
    """What a layer puts out.

    Attributes:
        name: of the node.
        shape: [neurons] or [channels, height, width].
        message_bits: 0 for spikes, else those of its payloads.
        delay: steps by which all of it arrives later, still to be put on an edge.
    """

    name: str
    shape: Shape
    message_bits: int = 0
    delay: int = 0


class Builder:
    """Collects the graph of a file.

    Args:
        name: of the model.
        input_shape, message_bits: see `read_net`.
    """

    def __init__(self, name: str, input_shape: Shape | None, message_bits: int) -> None:
        self.graph = Graph(name)
        self.input_shape, self.message_bits = input_shape, message_bits
        self.signals: list[Signal | None] = []  # by number of the layer; None where it could not be read
        self._later: list[tuple[Fields, str, int, int]] = []  # concat node, port and number of a layer that comes later
        self._readers: dict[str, Callable[[int, Fields], Signal]] = {
            "input": self._input,
            "flatten": self._flatten,
            "average": self._average,
            "concat": self._concat,
            **dict.fromkeys(("dense", "dense_rec"), self._dense),
            **dict.fromkeys(("conv", "pool", "convT", "unpool"), self._image),
        }

    def add(self, number: int, layer: Fields) -> None:
        """Add the next layer; `MissingError` where it cannot be read."""
        kind = layer.text("type")
        layer.ignore("shape", "inFeatures", "outFeatures", "inChannels", "outChannels", "kernelSize")
        if kind not in self._readers:
            raise layer.wrong(
                f"a layer of type {kind}",
                supported=", ".join(self._readers),
                suggestion="layers of complex numbers and others that netx cannot build either have no counterpart",
                code="E0251",
            )
        if self.signals and self.signals[-1] is None:
            raise MissingError  # what feeds it could not be read, which was said
        signal = self._readers[kind](number, layer)
        layer.leftovers()
        if "shape" in layer and int(np.prod(layer.integers("shape"))) != int(np.prod(signal.shape)):
            raise layer.wrong(f"the shape {layer.integers('shape').tolist()}, where {list(signal.shape)} comes out")
        self.signals.append(signal)

    def skip(self, number: int) -> None:
        """Go on after a layer that cannot be read."""
        self.signals.append(None)

    def finish(self, report: Callable[[Finding], None]) -> None:
        """Connect what came before its source, and add the output."""
        for layer, port, number, _ in self._later:
            signal = self.signals[number] if number < len(self.signals) else None
            if signal is not None:
                self.graph.connect(Edge(signal.name, layer.node, port, signal.delay))
        last = self.signals[-1] if self.signals else None
        if last is not None:
            output = Node("output", nir.Output(np.array(last.shape)))
            self.graph.add(output, Edge(last.name, "output", delay=last.delay))

    # -- layers with neurons --------------------------------------------------------------------

    def _input(self, number: int, layer: Fields) -> Signal:
        if number:
            raise layer.wrong("an input layer that is not the first", supported="one, as layer 0")
        shape = tuple(layer.integers("shape").reshape(-1).tolist())
        if "neuron" not in layer:
            layer.leftovers()
            return self._source(shape, self.message_bits)
        neuron, transform = read_neuron(layer), transform_of(layer)
        layer.note(
            f"the input are integers, trunc(2 * {transform.weight} * x - {transform.weight} + {transform.bias}) "
            "for x in [0, 1]",
            suggestion="give such values, or the integers themselves",
        )
        if neuron.kind == "lif" and neuron.du != 4095:
            layer.assume(
                "the input goes through the neurons' current, as SLAYER trains it; netx adds it to the potential"
            )
        source = self._source(shape, 24)
        return self._population(layer, neuron, shape, None, [Edge(source.name, layer.node)], encoder=True)

    def _source(self, shape: Shape, message_bits: int) -> Signal:
        coding = Coding.GRADED if message_bits else Coding.SPIKES
        self.graph.add(Node("input", nir.Input(np.array(shape)), TensorType(shape, coding)))
        return Signal("input", shape, message_bits)

    def _dense(self, number: int, layer: Fields) -> Signal:
        neuron = read_neuron(layer) if "neuron" in layer else INTEGRATOR
        if "neuron" not in layer:
            layer.note("no neuron: it integrates without leak and never spikes, as netx has it")
        recurrent = layer.text("type") == "dense_rec"
        outputs = layer.integers("weight").shape[0] if "shape" not in layer else int(np.prod(layer.integers("shape")))
        source = self._before(layer, lambda: (layer.integers("weight").size // outputs,))
        if len(source.shape) > 1:
            flat = self._flat(f"{layer.node}.flatten", source)
            layer.note(f"{list(source.shape)} is flattened, channels first")
            source = flat
        weights = synapses.dense(layer, "weight", outputs, source.message_bits, neuron.weight_scale)
        feed = self._synapse(layer, f"{layer.node}.weight", weights, source)
        signal = self._population(layer, neuron, (outputs,), read_bias(layer, (outputs,)), [feed])
        if recurrent:
            # SLAYER feeds back what the neurons sent in the step before, without their axonal delay.
            back = synapses.dense(layer, "weight_rec", outputs, neuron.message_bits, neuron.weight_scale)
            own = Signal(layer.node, (outputs,), neuron.message_bits)
            self.graph.connect(self._synapse(layer, f"{layer.node}.weight_rec", back, own))
        return signal

    def _image(self, number: int, layer: Fields) -> Signal:
        kind = layer.text("type")
        if "neuron" not in layer:
            raise layer.wrong("the neuron is missing")
        neuron = read_neuron(layer)
        source = self._before(layer, lambda: self._no_shape(layer))
        if len(source.shape) != 3:
            raise layer.wrong(f"a layer on images behind {list(source.shape)}", supported="[channels, height, width]")
        bits, scale = source.message_bits, neuron.weight_scale
        if kind in ("conv", "pool"):
            weights = (synapses.conv if kind == "conv" else synapses.pool)(layer, source.shape, bits, scale)
        else:
            step, weights = synapses.transposed(layer, source.shape, bits, scale)
            spread = f"{layer.node}.spread"
            self.graph.add(Node(spread, Spread(step), placement=CHIP, source=layer.source), source.name)
            shape = shape_rule(Spread(step), [source.shape])
            source = Signal(spread, shape, source.message_bits, source.delay)
        feed = self._synapse(layer, f"{layer.node}.weight", weights, source)
        shape = self._shape_of(layer, weights["op"], source.shape)
        return self._population(layer, neuron, shape, read_bias(layer, shape), [feed])

    def _population(
        self,
        layer: Fields,
        neuron: Neuron,
        shape: Shape,
        bias: np.ndarray | None,
        feeds: list[Edge],
        *,
        encoder: bool = False,
    ) -> Signal:
        if neuron.kind == "sigma":
            layer.assume(
                "an output of sums (Sigma): the graph puts out what arrives in each step; netx its running sum"
            )
            return Signal(feeds[0].src, shape, neuron.message_bits)
        self.graph.add(
            Node(layer.node, placement=CHIP, source=layer.source, **build(neuron, shape, bias, encoder=encoder)), *feeds
        )
        return self._delayed(layer, Signal(layer.node, shape, neuron.message_bits))

    def _delayed(self, layer: Fields, signal: Signal) -> Signal:
        """Axonal delays of a layer: on the edges where all are alike, else a Delay."""
        if "delay" not in layer:
            return signal
        delays = layer.integers("delay").reshape(-1)
        size = int(np.prod(signal.shape))
        if delays.size not in (1, size) or delays.min() < 0:
            raise layer.wrong(
                f"{delays.size} delays from {delays.min()}", supported=f"one or {size} delays of 0 and more steps"
            )
        if delays.max() > DELAY_MAX:
            layer.assume(f"delays of up to {delays.max()} steps: Loihi and netx have at most {DELAY_MAX}")
        layer.note(
            "delays are those of the neurons' axons, as SLAYER trains them (netx: delays of the synapses into them)"
        )
        if (delays == delays[0]).all():
            return Signal(signal.name, signal.shape, signal.message_bits, int(delays[0]))
        name = f"{layer.node}.delay"
        op = nir.Delay(delays.reshape(signal.shape).astype(float))
        self.graph.add(Node(name, op, dynamics=Dynamics(), placement=CHIP, source=layer.source), signal.name)
        return Signal(name, signal.shape, signal.message_bits)

    def _synapse(self, layer: Fields, name: str, annotated: dict[str, Any], source: Signal) -> Edge:
        """Add a synapse op; its step, and the delay of what feeds it, are on the edge into it."""
        node = Node(name, placement=CHIP, source=layer.source, **annotated)
        self._shape_of(layer, node.op, source.shape)
        self.graph.add(node, Edge(source.name, name, delay=source.delay + 1))
        return Edge(name, layer.node)

    # -- layers without -------------------------------------------------------------------------

    def _flatten(self, number: int, layer: Fields) -> Signal:
        source = self._before(layer, lambda: self._no_shape(layer))
        return source if len(source.shape) == 1 else self._flat(layer.node, source)

    def _flat(self, name: str, source: Signal) -> Signal:
        op = nir.Flatten({"input": np.array(source.shape)}, 0, -1)
        self.graph.add(Node(name, op, placement=CHIP), source.name)
        return Signal(name, (int(np.prod(source.shape)),), source.message_bits, source.delay)

    def _average(self, number: int, layer: Fields) -> Signal:
        source = self._before(layer, lambda: self._no_shape(layer))
        if len(source.shape) > 1:
            source = self._flat(f"{layer.node}.flatten", source)
        outputs = int(np.prod(layer.integers("shape")))
        if outputs < 1 or source.shape[0] % outputs:
            raise layer.wrong(f"the average of {source.shape[0]} values in {outputs} parts", supported="equal parts")
        layer.note(f"averages are put out as sums over {source.shape[0] // outputs} values")
        annotated = synapses.average(source.shape[0], outputs, source.message_bits)
        # A readout: it computes in the step it reads.
        node = Node(layer.node, placement=CHIP, source=layer.source, **annotated)
        self.graph.add(node, Edge(source.name, layer.node, delay=source.delay))
        return Signal(layer.node, (outputs,), 24)

    def _concat(self, number: int, layer: Fields) -> Signal:
        """The layer before, and those whose numbers are listed, one after the other along the channels."""
        source = self._before(layer, lambda: self._no_shape(layer))
        numbers = layer.integers("layers").reshape(-1).tolist()
        whole = tuple(layer.integers("shape").reshape(-1).tolist())
        # A loop may go through it: then nothing but the file says its shape.
        kind = TensorType(whole, Coding.GRADED if source.message_bits else Coding.SPIKES)
        node = Node(layer.node, Concat(0), kind, placement=CHIP, source=layer.source)
        self.graph.add(node, Edge(source.name, layer.node, "0", source.delay))
        bits = source.message_bits
        for port, other in enumerate(numbers, 1):
            if other < 0 or other == number:
                raise layer.wrong(f"a concatenation with layer {other}", supported="numbers of other layers")
            earlier = self.signals[other] if other < number else None
            if earlier is not None:
                bits = max(bits, earlier.message_bits)
                self.graph.connect(Edge(earlier.name, layer.node, str(port), earlier.delay))
            else:
                self._later.append((layer, str(port), other, number))
        if len(whole) not in (1, 3):
            raise layer.wrong(f"the shape {list(whole)}", supported="[neurons] or [channels, height, width]")
        return Signal(layer.node, whole, bits)

    # -- shapes ---------------------------------------------------------------------------------

    def _before(self, layer: Fields, shape: Callable[[], Shape]) -> Signal:
        """What feeds a layer: the layer before it, or the input of the network."""
        if self.signals:
            signal = self.signals[-1]
            assert signal is not None
            return signal
        layer.note("the file has no input layer: the first layer is fed from outside")
        return self._source(self.input_shape or shape(), self.message_bits)

    def _no_shape(self, layer: Fields) -> Shape:
        raise layer.wrong("the shape of what feeds the first layer is not in the file", suggestion="give input_shape")

    def _shape_of(self, layer: Fields, op: Any, shape: Shape) -> Shape:
        try:
            return shape_rule(op, [shape])
        except ShapeError as error:
            raise layer.wrong(str(error)) from None
