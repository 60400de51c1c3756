"""The networks that `executors.py` runs: weights, thresholds, inputs, and the graphs of them for our executors.

As in `kernels.py`. Dense: 784-256-10. Convolutions on 34x34x2: 5x5 to 16 channels (stride 2), 3x3 to 32, 3x3 to 64
(stride 2), dense to 10. The integers of a synapse are even, as 8 bits with mixed signs hold them, and the real
weights are those integers / 64: sums of them are exact in float32, whatever the order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import nir
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hsnn_compiler.ir import Dynamics, Edge, Graph, Node, Placement
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.quant import NeuronQuant, WeightQuant
from hsnn_compiler.ir.types import Coding, TensorType

TIME = 16
DECAY = 0.9
SCALE = 64
"""Integer units per real one."""
SHAPES: dict[str, tuple[int, ...]] = {"dense": (784,), "conv": (2, 34, 34)}
WEIGHTS: dict[str, list[tuple[int, ...]]] = {
    "dense": [(256, 784), (10, 256)],
    "conv": [(16, 2, 5, 5), (32, 16, 3, 3), (64, 32, 3, 3), (10, 4096)],
}
STRIDES = [2, 1, 2]
PADDING = 1
CALIBRATION_SAMPLES = 8


@dataclass(frozen=True)
class Synapse:
    """Weights of a layer; dense ones see their input flattened."""

    integers: np.ndarray
    stride: int = 1

    @property
    def is_conv(self) -> bool:
        return self.integers.ndim == 4

    @property
    def real(self) -> np.ndarray:
        return (self.integers / SCALE).astype(np.float32)


@dataclass(frozen=True)
class Net:
    """Layers of synapses and neurons; thresholds in real units."""

    name: str
    synapses: list[Synapse]
    thresholds: list[float]


def apply(synapse: Synapse, weight: Tensor, folded: Tensor) -> Tensor:
    """Currents for spikes [time * samples, ...]."""
    if synapse.is_conv:
        return F.conv2d(folded, weight, None, synapse.stride, PADDING)
    return F.linear(folded.flatten(1), weight)


def inputs(name: str, samples: int, steps: int, activity: float) -> np.ndarray:
    """Spikes [samples, time, ...], made one sample at a time, so that it needs hardly more memory than they do."""
    rng = np.random.default_rng(1)
    x = np.empty((samples, steps, *SHAPES[name]), np.uint8)
    for sample in x:
        sample[...] = rng.random(sample.shape, np.float32) < activity
    return x


def network(name: str, thresholds: list[float]) -> Net:
    rng = np.random.default_rng(0)
    synapses = []
    for i, shape in enumerate(WEIGHTS[name]):
        integers = np.clip(2 * np.rint(SCALE / 2 * rng.normal(0.02, 1, shape)), -254, 254).astype(np.int32)
        synapses.append(Synapse(integers, STRIDES[i] if len(shape) == 4 else 1))
    return Net(name, synapses, thresholds)


@torch.no_grad()
def calibrated(name: str, activity: float) -> Net:
    """The network with thresholds at which each layer spikes about as often as the input."""
    net = network(name, [])
    x = torch.from_numpy(inputs(name, CALIBRATION_SAMPLES, TIME, activity)).transpose(0, 1).float()
    for synapse in net.synapses:
        current = apply(synapse, torch.from_numpy(synapse.real), x.flatten(0, 1)).unflatten(0, x.shape[:2])
        low, high = 0.0, 2.0**17 / SCALE
        while high - low > low / 100:
            threshold = (low + high) / 2
            x = lif(current, threshold)
            low, high = (threshold, high) if x.mean() > activity else (low, threshold)
        # Between two numbers that a potential right after its first input can have.
        net.thresholds.append((math.floor(threshold * SCALE) + 0.5) / SCALE)
        x = lif(current, net.thresholds[-1])
    return net


def lif(current: Tensor, threshold: float) -> Tensor:
    """Spikes for currents, both [time, samples, ...], in as few operations as PyTorch lets one."""
    v = torch.zeros_like(current[0])
    spikes = torch.empty_like(current)
    for now, out in zip(current, spikes, strict=True):
        v.mul_(DECAY).add_(now)
        torch.gt(v, threshold, out=out)
        v.sub_(out, alpha=threshold)
    return spikes


# -- graphs ---------------------------------------------------------------------------------------


def float_graph(net: Net) -> Graph:
    """For `FloatExecutor`."""
    graph = Graph(net.name)
    shape = SHAPES[net.name]
    last = graph.add(Node("input", nir.Input(np.array(shape)), TensorType(shape, Coding.CURRENT))).name
    dynamics = Dynamics(1.0, "none", decay=DECAY, gain=1.0, reset="subtract")
    for i, (synapse, threshold) in enumerate(zip(net.synapses, net.thresholds, strict=True)):
        last = _synapse(graph, i, synapse, last, synapse.real, delay=0)
        one = np.ones(1)
        op = nir.LIF(one, one, 0 * one, threshold * one, 0 * one)
        last = graph.add(Node(f"lif{i}", op, dynamics=dynamics), last).name
    graph.add(Node("output", nir.Output(np.array([10]))), last)
    return infer_types(graph)


def raw_graph(net: Net) -> Graph:
    """For `LoihiExecutor` and Lava: integers on a global time axis, each synapse takes a step."""
    graph = Graph(net.name)
    chip, host, shape = Placement("chip"), Placement("host"), SHAPES[net.name]
    last = graph.add(Node("input", nir.Input(np.array(shape)), TensorType(shape, Coding.SPIKES), placement=host)).name
    dynamics = Dynamics(integrator="none", reset="subtract")
    for i, (synapse, threshold) in enumerate(zip(net.synapses, net.thresholds, strict=True)):
        quant = WeightQuant(synapse.integers, 0, 8, "mixed", 1.0)
        last = _synapse(graph, i, synapse, last, synapse.integers.astype(float), delay=1, quant=quant)
        shape = infer_types(graph)[last].shape
        bias = np.zeros(shape, np.int32)
        neurons = NeuronQuant(4095, round(4096 * (1 - DECAY)), int(threshold * SCALE), 0, bias, 0, 1.0)
        one = np.ones((1,) * len(shape))
        op = nir.IF(r=one, v_threshold=one, v_reset=0 * one)
        last = graph.add(Node(f"lif{i}", op, dynamics=dynamics, placement=chip, quant=neurons), last).name
    graph.add(Node("output", nir.Output(np.array([10])), placement=host), last)
    return infer_types(graph)


def _synapse(
    graph: Graph,
    i: int,
    synapse: Synapse,
    last: str,
    weight: np.ndarray,
    *,
    delay: int,
    quant: WeightQuant | None = None,
) -> str:
    """Add a synapse op, behind a Flatten if it needs one; its name."""
    chip = Placement("chip") if quant else None
    if synapse.is_conv:
        zeros = np.zeros(len(weight), weight.dtype)
        op = nir.Conv2d(None, weight, synapse.stride, PADDING, 1, 1, zeros)
    else:
        op = nir.Linear(weight)
        if graph.name == "conv":
            shape = infer_types(graph)[last].shape
            flatten = nir.Flatten({"input": np.array(shape)}, 0, -1)
            last = graph.add(Node(f"flatten{i}", flatten, placement=chip), last).name
    name = f"synapse{i}"
    graph.add(Node(name, op, placement=chip, quant=quant), Edge(last, name, delay=delay))
    return name
