"""From a population of a graph to what a neuron of py-spinnaker2 holds: int8 weights, the rest in their units.

A weight W is the integer rint(W s), where s = 127 / the largest weight that arrives at the neuron, or at any neuron of
its channel. The potential is kept in the same units: with V <- beta V + g (W x + b) + l divided by g / s,

    alpha_decay = beta    i_offset = s (b + l / g)    threshold = s theta / g    v_init = s v_0 / g

so weights are rounded, and nothing else is but to float32. py-spinnaker2's import of NIR has one s per population.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.dynamics import StepCoefficients, discretize, per_neuron
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.ops import bias_of
from hsnn_compiler.ir.shapes import Shape, conv_padding, per_axis

LARGEST_WEIGHT = 127
START_ERROR = 0.01
"""Most by which a potential may miss its start, in steps of a weight."""
LIST, CONVOLUTION = "lif_no_delay", "lif_conv2d"
SUBTRACT, TO_VALUE = "reset_by_subtraction", "reset_to_v_reset"


@dataclass(frozen=True, eq=False)
class Cell:
    """Parameters of a population, arrays [size]; real ones are float32 numbers, held as float64.

    Attributes:
        model: of py-spinnaker2, `LIST` or `CONVOLUTION`.
        reset: `SUBTRACT` or `TO_VALUE` (zero).
        alpha: decay of the potential per step.
        threshold: a spike where V > threshold; None for neurons that never fire.
        v_init: potential before the run.
        i_offset: added in every step of the run.
        clock: added in every step of the window only, by spikes: integers.
        scale: units of the potential per unit of the model's.
    """

    model: str
    reset: str
    alpha: np.ndarray
    threshold: np.ndarray | None
    v_init: np.ndarray
    i_offset: np.ndarray
    clock: np.ndarray
    scale: np.ndarray


def cell_of(graph: Graph, node: Node, depth: int) -> Cell:
    """The cell of a population whose window begins after `depth` steps of a run.

    A constant current acts from the first step of a run on. Deeper populations begin with the potential from which that
    leads to the start of their window; where a neuron would fire on the way, a clock sends the whole part of the bias.

    Raises:
        HsnnError: E0573 where a start potential cannot be had either way.
    """
    assert node.dynamics is not None
    step = discretize(node.op, node.dynamics)
    gain = per_neuron(step.gain, node.shape)
    scale = per_neuron(input_scale(graph, node), node.shape) / gain
    bias = per_neuron(step.leak, node.shape)
    for feed in synapses(graph, node):
        constant = bias_of(feed.op)
        if constant is not None:
            image = feed.kind.startswith("Conv")  # [channels, ...]; a matrix acts on the last axis
            own = np.reshape(constant, (-1, *[1] * (len(node.shape) - 1))) if image else constant
            bias = bias + gain * per_neuron(own, node.shape)
    alpha, bias = single(per_neuron(step.decay, node.shape)), bias * scale
    start = per_neuron(step.v_init, node.shape) * scale
    threshold = _threshold(step, node, scale)
    found = _before(start, alpha, bias, depth, threshold)
    if found is None:
        what = "a start potential that the run before the window would change"
        supported = "a start below the threshold, and a leak that leaves something of it"
        way_out = f"--layer {node.name}:place=host, or v_init=0"
        raise refuse("E0573", what, node=node.name, source=node.source, supported=supported, suggestion=way_out)
    clock, before = found
    offset = single(bias - clock)
    model = CONVOLUTION if _stays_convolution(graph, node) and not clock.any() else LIST
    reset = SUBTRACT if step.reset == "subtract" else TO_VALUE
    return Cell(model, reset, alpha, threshold, before, offset, clock.astype(np.int64), scale)


def input_scale(graph: Graph, node: Node) -> np.ndarray:
    """Integers per real unit of what arrives, that broadcast against a population: one per channel, or one for all."""
    tops = [_largest(feed.op, len(node.shape)) for feed in synapses(graph, node)]
    if not tops:
        return np.ones(1)
    if len({top.shape for top in tops}) > 1:  # rows of a matrix and channels of an image are not the same neurons
        tops = [np.full((1,) * len(node.shape), top.max()) for top in tops]
    top = np.maximum.reduce(tops)
    return LARGEST_WEIGHT / np.where(top > 0, top, top.max() or 1.0)


def integers(op: Any, scale: np.ndarray) -> np.ndarray:
    """Weights as int8, in the shape of the op's own; `scale` as `input_scale` gives it."""
    weight = np.asarray(op.weight, np.float64)
    rows = np.broadcast_to(np.reshape(scale, -1), len(weight)).reshape(-1, *[1] * (weight.ndim - 1))
    return np.rint(weight * rows).astype(np.int8)


def convolution_of(op: Any, shape: Shape) -> dict[str, int] | None:
    """Parameters of py-spinnaker2's Conv2DProjection, or None where it has no form for an op.

    It knows no groups and no dilation, and which axis a stride of two numbers means first is not documented.

    Args:
        op: of synapses.
        shape: what it takes, [channels, height, width].
    """
    if type(op).__name__ != "Conv2d" or int(op.groups) != 1 or per_axis(op.dilation, 2) != (1, 1):
        return None
    stride = per_axis(op.stride, 2)
    if stride[0] != stride[1]:
        return None
    (top, bottom), (left, right) = conv_padding(op)
    return {
        "in_height": int(shape[1]),
        "in_width": int(shape[2]),
        "stride_x": stride[0],
        "stride_y": stride[1],
        "pool_x": 1,
        "pool_y": 1,
        "pad_top": top,
        "pad_bottom": bottom,
        "pad_left": left,
        "pad_right": right,
    }


def synapses(graph: Graph, node: Node) -> list[Node]:
    """Synapse ops that end at a population."""
    return [source for source in graph.predecessors(node.name) if source.is_synapse]


def single(array: np.ndarray) -> np.ndarray:
    """Rounded to float32."""
    return np.asarray(array, np.float32).astype(np.float64)


def _largest(op: Any, rank: int) -> np.ndarray:
    rows = np.abs(np.asarray(op.weight, np.float64)).reshape(len(op.weight), -1).max(1)
    image = type(op).__name__.startswith("Conv")
    return rows.reshape(-1, *[1] * (rank - 1)) if image else rows.reshape(*[1] * (rank - 1), -1)


def _threshold(step: StepCoefficients, node: Node, scale: np.ndarray) -> np.ndarray | None:
    """The chip fires above it: where the model fires at it, too, the number before."""
    if step.threshold is None:
        return None
    threshold = (per_neuron(step.threshold, node.shape) * scale).astype(np.float32)
    below = np.nextafter(threshold, np.float32(-np.inf))
    return np.asarray(below if step.inclusive else threshold).astype(np.float64)


def _stays_convolution(graph: Graph, node: Node) -> bool:
    """Whether all that arrives is one convolution that py-spinnaker2 has a form for."""
    sources = graph.predecessors(node.name)
    if len(sources) != 1 or not sources[0].is_synapse:
        return False
    return convolution_of(sources[0].op, graph.predecessors(sources[0].name)[0].shape) is not None


def _before(
    start: np.ndarray, alpha: np.ndarray, bias: np.ndarray, depth: int, threshold: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray] | None:
    """What of the bias a clock sends, and the potential before the run, float32; None where there is neither."""
    if not depth:
        return np.zeros_like(bias), single(start)
    for clock in (np.zeros_like(bias), np.rint(bias)):
        rest = single(bias - clock)
        with np.errstate(all="ignore"):
            v = start.copy()
            for _ in range(depth):
                v = np.where(alpha > 0, (v - rest) / alpha, 0.0)
            before = single(v)
            v, highest = before, np.full_like(bias, -np.inf)
            for _ in range(depth):
                v = single(single(alpha * v) + rest)
                highest = np.maximum(highest, v)
            kept = (alpha == 0) | (np.abs(v - start) <= START_ERROR)
            quiet = True if threshold is None else highest <= threshold
        if np.all(np.isfinite(before) & kept & quiet):
            return clock, before
    return None
