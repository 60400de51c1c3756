"""Random layers for the kernel tests, and what they should do: plain PyTorch, one step after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import strategies as st

from hsnn_compiler.kernels import ConvSynapse, DenseSynapse, FloatNeuron
from hsnn_compiler.reference.loihi_neuron import Lif, NeuronParameters, scan
from hsnn_compiler.reference.loihi_synapse import IntegerSynapse

Synapse = ConvSynapse | DenseSynapse


@dataclass
class Case:
    """A layer without its neurons, and what drives it."""

    synapses: list[Any]
    inputs: list[np.ndarray]

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.synapses[0].out_shape


def dyadic(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Weights whose sums are exact in any order: -1, -7/8, ... 1."""
    return rng.integers(-8, 9, shape) / 8


def integers(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Weights that Lava's Dense leaves as they are."""
    return 2 * rng.integers(-128, 128, shape).astype(np.int32)


def spikes(rng: np.random.Generator, shape: Sequence[int], activity: float) -> np.ndarray:
    return (rng.random(shape) < activity).astype(np.uint8)


def payloads(rng: np.random.Generator, shape: Sequence[int], activity: float, limit: int = 2**12) -> np.ndarray:
    return (rng.integers(-limit, limit, shape) * (rng.random(shape) < activity)).astype(np.int32)


ACTIVITIES = st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0])
SIGNALS = st.sampled_from([spikes, payloads])


@st.composite
def dense_cases(draw: Any, weights: Any) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    batch, time = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    out = draw(st.sampled_from([1, 3, 16, 17, 40, 100, 256, 300, 600]))
    synapses, inputs = [], []
    for _ in range(draw(st.integers(1, 3))):
        size = draw(st.sampled_from([1, 7, 63, 64, 65, 130, 300]))
        exponent = draw(st.integers(-4, 4)) if weights is integers else 0
        synapses.append(DenseSynapse(weights(rng, (out, size)), exponent))
        inputs.append(draw(SIGNALS)(rng, (batch, time, size), draw(ACTIVITIES)))
    return Case(synapses, inputs)


@st.composite
def conv_cases(draw: Any, weights: Any) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    batch, time = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    first = draw(_convolutions())
    synapses, inputs = [], []
    for _ in range(draw(st.integers(1, 2))):
        shape, kernel, stride, padding, dilation, groups, out = first
        if synapses:  # another one onto the same map: a kernel of 1, and an input of the map's size
            height, width, out = synapses[0].out_shape
            shape, kernel, stride, padding = (height, width, draw(st.integers(1, 4))), (1, 1), (1, 1), ((0, 0), (0, 0))
            dilation, groups = (1, 1), 1
        weight = weights(rng, (out, shape[2] // groups, *kernel))
        synapses.append(ConvSynapse(weight, shape, stride, padding, dilation, groups))
        inputs.append(draw(SIGNALS)(rng, (batch, time, *shape), draw(ACTIVITIES)))
    return Case(synapses, inputs)


@st.composite
def _convolutions(draw: Any) -> tuple[Any, ...]:
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels = groups * draw(st.sampled_from([1, 2, 5, 8, 32]))
    out = groups * draw(st.sampled_from([1, 4, 16, 20, 32, 48]))
    kernel, stride, padding, dilation, size = [], [], [], [], []
    for _ in range(2):
        kernel.append(draw(st.integers(1, 5)))
        stride.append(draw(st.integers(1, 3)))
        dilation.append(draw(st.integers(1, 3)))
        padding.append((draw(st.integers(0, 4)), draw(st.integers(0, 4))))
        needed = dilation[-1] * (kernel[-1] - 1) + 1 - sum(padding[-1])
        size.append(draw(st.integers(max(needed, 1), max(needed, 1) + 9)))
    return (*size, channels), tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), groups, out


def float_currents(case: Case) -> np.ndarray:
    """[batch, time, *out] float64."""
    total = np.zeros(())
    for synapse, array in zip(case.synapses, case.inputs, strict=True):
        total = total + _channel_last(array, lambda x, s=synapse: _float_synapse(s, x.double()), synapse)
    return total


def _float_synapse(synapse: Synapse, x: torch.Tensor) -> torch.Tensor:
    weight = torch.from_numpy(synapse.weight).double()
    if isinstance(synapse, DenseSynapse):
        return F.linear(x, weight)
    (top, bottom), (left, right) = synapse.padding
    x = F.pad(x, (left, right, top, bottom))
    return F.conv2d(x, weight, None, synapse.stride, 0, synapse.dilation, synapse.groups)


def loihi_currents(case: Case) -> np.ndarray:
    """[batch, time, *out] int64, from the integer executor's synapses."""
    total = np.zeros((), np.int64)
    for synapse, array in zip(case.synapses, case.inputs, strict=True):
        bits = 0 if array.dtype == np.uint8 else 24
        if isinstance(synapse, DenseSynapse):
            function = IntegerSynapse(synapse.weight, exponent=synapse.exponent, message_bits=bits)
        else:
            op = SimpleNamespace(
                stride=synapse.stride, dilation=synapse.dilation, groups=synapse.groups, padding=(0, 0)
            )
            op.weight = synapse.weight
            function = IntegerSynapse(synapse.weight, op, message_bits=bits)
            function.sides = [side for both in reversed(synapse.padding) for side in both]
        total = total + _channel_last(array, lambda x, f=function: f(x.to(torch.int64)), synapse)
    return total


def _channel_last(array: np.ndarray, function: Any, synapse: Synapse) -> np.ndarray:
    """Call a channel-first function of [n, ...] on [batch, time, ..., channels]."""
    x = torch.from_numpy(array).flatten(0, 1)
    dense = isinstance(synapse, DenseSynapse)
    out = function(x) if dense else function(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return out.reshape(*array.shape[:2], *out.shape[1:]).numpy()


def replay(neuron: FloatNeuron, currents: np.ndarray, dtype: Any, resets: Any = (), state: Any = None) -> Any:
    """Step through float neurons: (spikes or None, u, v), all [batch, time, ...]."""
    p = {
        name: np.asarray(value, dtype)
        for name in ("decay", "gain", "leak", "threshold", "v_reset", "v_init", "current_decay", "w_in")
        if (value := getattr(neuron, name)) is not None
    }
    shape = (currents.shape[0], *currents.shape[2:])
    u, v = (np.zeros(shape, dtype), np.broadcast_to(p["v_init"], shape)) if state is None else state
    found: dict[str, list[np.ndarray]] = {name: [] for name in "suv"}
    for t in range(currents.shape[1]):
        if len(resets) and resets[t]:
            u, v = np.zeros(shape, dtype), np.broadcast_to(p["v_init"], shape)
        a = currents[:, t].astype(dtype)
        u = a if "w_in" not in p else p["current_decay"] * u + p["w_in"] * a
        v = p["decay"] * v + p["gain"] * u + p["leak"]
        s = np.zeros(shape, bool)
        if "threshold" in p:
            s = v >= p["threshold"] if neuron.inclusive else v > p["threshold"]
            after = {"zero": 0 * v, "value": p["v_reset"] + 0 * v, "subtract": v - p["threshold"], "none": v}
            v = np.where(s, after[neuron.reset], v)
        for name, value in zip("suv", (s, u, v), strict=True):
            found[name].append(value)
    return tuple(np.stack(found[name], 1) for name in "suv")


def loihi_replay(neuron: Any, currents: np.ndarray, resets: Any = (), state: Any = None) -> Any:
    """(output, states, population) of the integer executor's neurons, batch first."""
    bias = torch.from_numpy(np.asarray(neuron.bias, np.int64))
    du, dv = (torch.from_numpy(np.asarray(value)) for value in (neuron.du, neuron.dv))
    taken = None if neuron.taken is None else torch.from_numpy(np.asarray(neuron.taken))
    parameters = NeuronParameters(du, dv, neuron.vth, bias, neuron.v_init, neuron.reset, neuron.spiking, taken)
    current = torch.from_numpy(np.ascontiguousarray(currents.astype(np.int64))).transpose(0, 1)
    population = Lif(parameters, tuple(current.shape[1:]))
    if state is not None:
        population.u, population.v = (torch.from_numpy(np.asarray(part, np.int64)) for part in state)
    done = scan(population, current, "uv", [int(t) for t in np.flatnonzero(resets)])
    states = {name: value.transpose(0, 1).numpy() for name, value in done.states.items()}
    return done.output.transpose(0, 1).numpy(), states, population
