"""Extension ops: what NIR cannot express, in NIR's own style.

Every op is a small frozen dataclass whose fields are its parameters; arrays are numpy.
Together with the NIR primitives they form `OPS`, the closed list of what a graph may hold.
Shapes never include batch or time. Those between values and steps are in `crossings`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np

from hsnn_compiler.ir.crossings import COLLECT_CODES as COLLECT_CODES
from hsnn_compiler.ir.crossings import EVENT_KINDS as EVENT_KINDS
from hsnn_compiler.ir.crossings import Collect, Decode, Encode, FirstSpike
from hsnn_compiler.ir.host_call import HostCall


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
