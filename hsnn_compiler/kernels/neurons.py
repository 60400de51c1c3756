"""Neuron populations, and the coefficients that the compiled step takes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hsnn_compiler.ir.quant import STATE_SHIFT

UNITY = 4096
LIMIT = 2**23
RESETS = ("zero", "value", "subtract", "none")


@dataclass(frozen=True, eq=False)
class FloatNeuron:
    """Spiking or integrating neurons in floating point.

    With a the sum of synapses and bias: ``u = a``, or ``u = current_decay*u + w_in*a`` with u = 0 at first;
    ``v = decay*v + gain*u + leak``; spikes where ``v > threshold``, or >= if `inclusive`. Then the reset: v becomes
    0, `v_reset`, ``v - threshold``, or stays. All parameters are numbers, or arrays that broadcast against the
    channel-last shape of the population.

    Attributes:
        threshold: None for neurons that do not spike: v itself is their output.
        current_decay, w_in: both, or None for neurons without synaptic current.
        reset: ``"zero"``, ``"value"``, ``"subtract"`` or ``"none"``.
    """

    decay: ArrayLike = 1.0
    gain: ArrayLike = 1.0
    leak: ArrayLike = 0.0
    threshold: ArrayLike | None = 1.0
    v_reset: ArrayLike = 0.0
    v_init: ArrayLike = 0.0
    current_decay: ArrayLike | None = None
    w_in: ArrayLike | None = None
    reset: str = "zero"
    inclusive: bool = False

    def __post_init__(self) -> None:
        if self.reset not in RESETS:
            raise ValueError(f"reset {self.reset!r} is none of {', '.join(RESETS)}")
        if (self.current_decay is None) != (self.w_in is None):
            raise ValueError("current_decay and w_in belong together")

    @property
    def has_current(self) -> bool:
        """Whether u has a memory."""
        return self.current_decay is not None

    @property
    def spiking(self) -> bool:
        """Whether there is a threshold."""
        return self.threshold is not None

    def coefficients(self, out_shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """[8, 1, 1] for equal neurons, else [8, 1 or rows, columns * channels], see `updates`."""
        threshold = np.asarray(np.inf if self.threshold is None else self.threshold, dtype)
        # v >= threshold says that v is above the number next below it.
        limit = np.nextafter(threshold, np.asarray(-np.inf, dtype)) if self.inclusive else threshold
        keep, drop = {
            "zero": (0.0, 0.0),
            "value": (0.0, -np.asarray(self.v_reset, dtype)),
            "subtract": (1.0, threshold),
            "none": (1.0, 0.0),
        }[self.reset if self.spiking else "none"]
        current = (0.0, 0.0) if self.current_decay is None else (self.current_decay, self.w_in)
        values = [self.decay, self.gain, self.leak, limit, keep, drop, *current]
        return _stacked(values, out_shape, dtype)

    def start(self, out_shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """v at first: [1] if all are equal, else [n]."""
        start = np.asarray(self.v_init, dtype)
        return start.reshape(1) if start.size == 1 else np.broadcast_to(start, out_shape).flatten()


@dataclass(frozen=True, eq=False)
class LoihiNeuron:
    """A population in Loihi's integers, bit for bit as ``hsnn_compiler.reference.loihi_neuron.scan``.

    Attributes:
        du, dv: as in `NeuronParameters`; numbers, or arrays that broadcast against the channel-last shape.
        vth: one per population.
        v_init: v at the start; a number, or an array that broadcasts against the channel-last shape.
        bias: added to v at every step, shifted by its exponent already; broadcasts against [batch, *out shape].
        reset: ``"zero"`` or ``"subtract"``.
        spiking: False if v itself is the output; thresholds and resets apply all the same, as on the chip.
        taken: what the reset subtracts, in units of v; a number, or an array like du; None: the threshold.
    """

    du: ArrayLike
    dv: ArrayLike
    vth: int
    bias: ArrayLike = 0
    v_init: ArrayLike = 0
    reset: str = "zero"
    spiking: bool = True
    taken: ArrayLike | None = None

    def __post_init__(self) -> None:
        if self.reset not in ("zero", "subtract"):
            raise ValueError(f"reset {self.reset!r} is neither zero nor subtract")
        taken = 0 if self.taken is None else self.taken
        du, dv, taken = (np.asarray(array, np.int64) for array in (self.du, self.dv, taken))
        exist = np.all((du >= 0) & (du < UNITY)) and np.all((dv >= 0) & (dv <= UNITY)) and 0 <= self.vth <= LIMIT
        if not exist:
            raise ValueError(f"du {self.du!r}, dv {self.dv!r}, vth {self.vth} do not exist on Loihi")
        arrays = (np.asarray(self.bias, np.int64), np.asarray(self.v_init, np.int64), taken)
        if max(np.abs(array).max(initial=0) for array in arrays) > LIMIT:
            raise ValueError("bias, v_init or taken beyond 24 bits")

    @property
    def has_current(self) -> bool:
        """Whether u has a memory."""
        return bool(np.any(np.asarray(self.du) != UNITY - 1))

    def coefficients(self, out_shape: tuple[int, ...]) -> np.ndarray:
        """int32, [5, 1, 1] for equal neurons, else [5, 1 or rows, columns * channels], see `updates`."""
        threshold = min(self.vth << STATE_SHIFT, LIMIT)  # v stays below, so none above it differs
        taken = threshold if self.taken is None else self.taken
        remain, hold = UNITY - 1 - np.asarray(self.du), UNITY - np.asarray(self.dv)
        values = (remain, hold, threshold, self.reset == "subtract", taken)
        return _stacked(values, out_shape, np.dtype(np.int32))

    def leaks(self, out_shape: tuple[int, ...]) -> np.ndarray:
        """The bias, [1 or batch, 1 or rows, columns * channels] int32."""
        bias = np.asarray(self.bias, np.int32)
        batched = bias.ndim > len(out_shape)
        return np.stack([by_rows(sample, out_shape) for sample in (bias if batched else bias[None])])

    def start(self, out_shape: tuple[int, ...]) -> np.ndarray:
        """v at first: [1] if all are equal, else [n]."""
        start = np.asarray(self.v_init, np.int32)
        return start.reshape(1) if start.size == 1 else np.broadcast_to(start, out_shape).flatten()


def _stacked(values: Sequence[ArrayLike], out_shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Coefficients, [k, 1, 1] for equal neurons, else [k, 1 or rows, columns * channels]."""
    arrays = [np.asarray(value, dtype) for value in values]
    if all(array.size == 1 for array in arrays):
        return np.array([array.item() for array in arrays], dtype).reshape(-1, 1, 1)
    return np.stack(np.broadcast_arrays(*(by_rows(array, out_shape) for array in arrays)))


def by_rows(array: np.ndarray, out_shape: tuple[int, ...]) -> np.ndarray:
    """Broadcast to the rows of a population, [1 or rows, columns * channels]; one row if all are alike."""
    full = out_shape if len(out_shape) == 3 else (1, 1, *out_shape)
    array = array.reshape((1,) * (3 - array.ndim) + array.shape) if array.ndim < 3 else array
    rows = array.shape[0]
    return np.ascontiguousarray(np.broadcast_to(array, (rows, *full[1:]))).reshape(rows, -1)
