"""Extension ops: what NIR cannot express, in NIR's own style.

Every op is a small frozen dataclass whose fields are its parameters; arrays are numpy.
Together with the NIR primitives they form `OPS`, the closed list of what a graph may hold.
Shapes never include batch or time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np

from hsnn_compiler.ir.host_call import HostCall


@dataclass(frozen=True, eq=False)
class Encode:
    """Crossing from values to steps. ``direct``: the value is presented at every step, a current.

    The others (`EVENT_KINDS`) give spikes, 0 or 1, T steps per sample. They bring the value to u = x / high in
    [0, 1], clipping it, and round u to a level n; step t counts from 0:

        bitplane   n = rint(u (2^T - 1)); a spike where bit T - 1 - t of n is set; T at most 16
        rate       n = rint(u T); a spike where floor((t + 1) n / T) > floor(t n / T): n of them, evenly spaced
        ttfs       n = rint(u T); one spike at t = T - n, none if n = 0
        delta      n = rint(u T); a spike at each t < n: send-on-delta from zero, in steps of 1/T

    Attributes:
        kind: see above.
        high: value of u = 1, positive; a number that calibration froze.
        doubled: whether axis 0 (the channels) holds the parts of x above zero, then those below, [2 C, ...].
    """

    kind: str = "direct"
    high: float = field(default=1.0, metadata={"quiet": True})
    doubled: bool = field(default=False, metadata={"quiet": True})


@dataclass(frozen=True, eq=False)
class Decode:
    """Crossing from steps to values: ``gain`` times the ``sum``, ``mean`` or ``last`` over the time steps."""

    kind: str = "mean"
    gain: float = 1.0


@dataclass(frozen=True, eq=False)
class Collect:
    """Adds up what arrives during a window of T steps and presents the sum, constant, at every step of the next window.

        c = sum_t value_t I_t + bias

    with value_t of `code`: ``rate`` 1/T, ``ttfs`` (T - t)/T, ``bitplane`` 2^(T-1-t)/(2^T - 1). In the graph both
    windows are the sample's own steps; the schedule lays them one after the other.

    Attributes:
        code: see above.
        bias: broadcasts against the shape; per channel (axis 0) [C, 1, ...] as a rule.
    """

    code: str
    bias: np.ndarray


@dataclass(frozen=True, eq=False)
class FirstSpike:
    """A neuron that fires at most once per sample, the earlier the larger its input, which is constant over the steps.

    For an input z it fires at step T - n, n = clip(floor(z T / threshold + 1/2), 0, T), and never where n = 0:
    a ReLU, clipped at the threshold and rounded to T levels, when a spike at step t counts
    (T - t)/T thresholds. Its potential is z, the ramp that meets it threshold (T - t - 1/2) / T
    (Stanojevic 2024, doi 10.1038/s41467-024-51110-5, in whole steps). z is what arrives at step 0:
    it lies behind a `Collect`, or behind `Encode(direct)` and linear ops.

    Attributes:
        threshold: positive; broadcasts against the shape.
    """

    threshold: np.ndarray


@dataclass(frozen=True, eq=False)
class NoOp:
    """Passes its input on; `kind` says what it was (Dropout in eval mode, Identity)."""

    kind: str = "Identity"


@dataclass(frozen=True, eq=False)
class ReLU:
    """max(x, 0)."""


@dataclass(frozen=True, eq=False)
class Clip:
    """min(max(x, low), high); ReLU6 is ``Clip(0, 6)``."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Quantised:
    """QCFS, a clipped ReLU of so many levels (Bu et al. 2022, arXiv 2303.04347):

        threshold * floor(clip(x / threshold, 0, 1) * levels + 1/2) / levels

    Attributes:
        threshold: positive; per channel (axis 0) [C, 1, ...], or [1, ...] for all.
        levels: at least 1; with zero there is one value more.
        ties: where x lies halfway between two levels, ``up`` as above, or to the ``even`` one, as ``torch.round``.
    """

    threshold: np.ndarray
    levels: int
    ties: str = field(default="up", metadata={"quiet": True})


@dataclass(frozen=True, eq=False)
class LeakyReLU:
    """x where x > 0, else ``slope * x``."""

    slope: float


@dataclass(frozen=True, eq=False)
class Sigmoid:
    """1 / (1 + exp(-x))."""


@dataclass(frozen=True, eq=False)
class Tanh:
    """Hyperbolic tangent."""


@dataclass(frozen=True, eq=False)
class GELU:
    """x * Phi(x); ``approximate`` is ``"none"`` or ``"tanh"`` as in PyTorch."""

    approximate: str = "none"


@dataclass(frozen=True, eq=False)
class Softmax:
    """Softmax over `axis` (axes count without the batch axis)."""

    axis: int = -1
    log: bool = False


@dataclass(frozen=True, eq=False)
class BatchNorm:
    """(x - mean) / sqrt(var + eps) * weight + bias along axis 0 (the channels), inference form."""

    weight: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    var: np.ndarray
    eps: float = 1e-5


@dataclass(frozen=True, eq=False)
class LayerNorm:
    """Normalisation over the last ``weight.ndim`` axes, then weight and bias."""

    weight: np.ndarray
    bias: np.ndarray
    eps: float = 1e-5


@dataclass(frozen=True, eq=False)
class MaxPool2d:
    """Largest value of each window; sizes are (height, width)."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True, eq=False)
class Mean:
    """Mean over `axes` (counted without the batch axis)."""

    axes: tuple[int, ...]
    keepdim: bool = False


@dataclass(frozen=True, eq=False)
class Add:
    """Sum of its ports ``0``, ``1``, ..."""


@dataclass(frozen=True, eq=False)
class Concat:
    """Its ports ``0``, ``1``, ... one after the other along `axis`."""

    axis: int = 0


@dataclass(frozen=True, eq=False)
class Spread:
    """Zeros between the pixels: ``out[:, step * y, step * x] = in[:, y, x]``, steps as (height, width).

    A convolution behind it is a transposed convolution of that stride.
    """

    step: tuple[int, int]


@dataclass(frozen=True, eq=False)
class SigmaDelta:
    """Sigma-delta neuron: it sends what its activation changed by, once that is large enough.

        sigma = sigma + I;  act = activation(sigma + bias);  delta = act - act_before + residue
        s = delta where |delta| >= threshold, else 0;  residue = delta - s

    With `cumulative`, |sum of delta since the last spike| is what is compared. `activation` is
    ``"relu"`` or ``"unit"`` (none). After ``lava/proc/sdn``.
    """

    threshold: np.ndarray
    bias: np.ndarray
    activation: str = "relu"
    cumulative: bool = False


@dataclass(frozen=True, eq=False)
class DeltaEncoder:
    """Sends what its input changed by, once that is large enough: a `SigmaDelta` whose activation is its input."""

    threshold: np.ndarray
    cumulative: bool = False


EXTENSION_OPS: tuple[type, ...] = (
    Encode, Decode, Collect, FirstSpike, NoOp, ReLU, Clip, Quantised, LeakyReLU, Sigmoid, Tanh, GELU, Softmax,
    BatchNorm, LayerNorm, MaxPool2d, Mean, Add, Concat, Spread, SigmaDelta, DeltaEncoder,
    HostCall,
)  # fmt: skip

NIR_OPS: tuple[type, ...] = (
    nir.Input, nir.Output, nir.Affine, nir.Linear, nir.Scale, nir.Conv1d, nir.Conv2d, nir.Flatten,
    nir.SumPool2d, nir.AvgPool2d, nir.Delay, nir.Threshold, nir.I, nir.LI, nir.IF, nir.LIF,
    nir.CubaLI, nir.CubaLIF,
)  # fmt: skip

OPS: dict[str, type] = {cls.__name__: cls for cls in NIR_OPS + EXTENSION_OPS}

EVENT_KINDS = ("bitplane", "rate", "ttfs", "delta")
"""Kinds of `Encode` that put out spikes."""

COLLECT_CODES = ("bitplane", "rate", "ttfs")
"""Codes that `Collect` reads."""

ACTIVATIONS = ("ReLU", "Clip", "Quantised")
"""Ops that can become neurons whose spikes stand for their value."""

SYNAPSE_OPS = ("Affine", "Linear", "Conv1d", "Conv2d")
"""Ops with weights: on a chip, the synapses."""


def kind_of(op: Any) -> str:
    """Name of an op's class: the name used in text, tables and files."""
    return type(op).__name__


def is_nir(op: Any) -> bool:
    """Whether the op is a NIR primitive (so that a plain NIR tool can read it)."""
    return isinstance(op, NIR_OPS)


def threshold_of(op: Any) -> np.ndarray:
    """Threshold of a population that fires, float64."""
    return np.asarray(op.threshold if isinstance(op, FirstSpike) else op.v_threshold, np.float64)


def bias_of(op: Any) -> np.ndarray | None:
    """Bias of a synapse op, per output channel, or None."""
    return getattr(op, "bias", None)
