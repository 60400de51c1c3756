"""Fixed-point annotations: the integers a chip holds, beside the real values they stand for.

After quantisation a node keeps its NIR op with *dequantised* parameters, so the float
executor can run the same graph, and carries one of the records below with the integers
themselves, which the integer executor and the Lava backend use.

Units: a synapse delivers integers `a`; Loihi aligns them with the membrane potential by
a shift of 6 bits, so a real membrane potential `v` is the integer ``v * scale * 64``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STATE_SHIFT = 6
"""Bits by which Loihi left-shifts synaptic input and thresholds to align them with u and v."""


@dataclass(frozen=True, eq=False)
class WeightQuant:
    """Integers of one synapse op.

    Attributes:
        integers: same shape as the op's weight, int32; real weight = ``integers * 2**exponent / scale``.
        exponent: power of two applied to the accumulated sum (0 for convolutions).
        bits: weight precision, at most 8.
        sign_mode: ``"mixed"`` (even integers, -256..254), ``"excitatory"`` (0..255) or
            ``"inhibitory"`` (-255..0), as on Loihi.
        scale: integer synaptic units per real unit; one value per receiving population.
        clipped: number of weights that hit the limit of the format.
        message_bits: 0: what arrives counts as 0 or 1; else graded spikes, signed integers of so many bits.
    """

    integers: np.ndarray
    exponent: int
    bits: int
    sign_mode: str
    scale: float
    clipped: int = 0
    message_bits: int = 0


@dataclass(frozen=True, eq=False)
class NeuronQuant:
    """Integers of one population, in the terms of Lava's LIF processes.

    Attributes:
        du: current decay, 12 bits; 4095 means no memory of the current; one, or int32 per neuron (the population's
            shape).
        dv: membrane decay, 12 bits; the potential keeps ``(4096 - dv) / 4096`` per step; one, or int32 per neuron.
        vth: threshold, 17 bits, compared as ``v > vth << 6``.
        v_init: membrane potential at the start of each sample, in units of v: one, or int32 per neuron (the
            population's shape).
        bias_mant: int32 per neuron (the population's shape), 13 bits signed.
        bias_exp: shared exponent, 0..7; added each step is ``bias_mant << bias_exp``.
        scale: integer synaptic units per real unit of membrane potential.
        taken: what a spike takes from the potential where the reset subtracts, in units of v: one, or int32 per
            neuron; None: the threshold, ``vth << 6``.
    """

    du: int | np.ndarray
    dv: int | np.ndarray
    vth: int
    v_init: int | np.ndarray
    bias_mant: np.ndarray
    bias_exp: int
    scale: float
    taken: int | np.ndarray | None = None

    @property
    def has_own_decays(self) -> bool:
        """Whether neurons have decays of their own, which the chip has but Lava's processes have not."""
        return bool(np.ndim(self.du) or np.ndim(self.dv))


@dataclass(frozen=True, eq=False)
class SigmaDeltaQuant:
    """Integers of a sigma-delta population or a delta encoder, in the terms of Lava's ``SigmaDelta`` and ``Delta``.

    Attributes:
        vth: threshold; compared as ``vth << (spike_exp + state_exp)``.
        bias: int32 per neuron (the population's shape), shifted like the threshold; zeros for an encoder.
        spike_exp: exponent of the threshold in units of the payload.
        state_exp: exponent of the state in units of the payload: sent is ``delta >> state_exp``.
        scale: payload units per real unit.
    """

    vth: int
    bias: np.ndarray
    spike_exp: int
    state_exp: int
    scale: float


@dataclass(frozen=True, eq=False)
class CurrentQuant:
    """How an `Encode(direct)` presents analog values as bias mantissas of a population.

    mantissa = clip(rint(x * scale * 64 / 2**exponent), -4096 - low, 4095 - high), where the
    constant part of the bias is already inside the population's own ``bias_mant``.

    Attributes:
        exponent: shared bias exponent of the receiving population.
        scale: scale of the receiving population.
        low, high: smallest and largest mantissa that leave room for the constant bias.
    """

    exponent: int
    scale: float
    low: int
    high: int

    @property
    def unit(self) -> float:
        """Mantissas per real unit."""
        return self.scale * 2**STATE_SHIFT / 2.0**self.exponent

    def present(self, values: np.ndarray) -> tuple[np.ndarray, int]:
        """Bias mantissas (int32) that present analog values on the chip, and how many were clipped."""
        wanted = np.rint(values.astype(np.float64) * self.unit)
        mantissas = np.clip(wanted, self.low, self.high)
        return mantissas.astype(np.int32), int((mantissas != wanted).sum())


@dataclass(frozen=True, eq=False)
class CollectQuant:
    """How a `Collect` adds up integers, in the units of the membrane potential, 24 bits that saturate.

        acc = bias                                                       as a window begins
        acc = clip(acc + round(a_t value_t / 2^shift), +-(2^23 - 1))     in each of its steps, t = 0 ... T - 1
        out = (acc + 32) >> 6                                            synaptic units, in all steps of the next window

    with a_t what its synapses deliver and value_t a whole number: ``rate`` 1, ``ttfs`` T - t, ``bitplane``
    2^(T-1-t). Halves are rounded up; a shift below 0 is one to the left, and exact. On the chip the value of a
    step is a shift (bitplane) or a second sum (ttfs), and all of it microcode of the population behind.

    Attributes:
        shift: see above. In all, `out` is wrong by at most 1/2 + T/128 synaptic units; with -6, by nothing.
        bias: int32, broadcasts against the shape.
    """

    shift: int
    bias: np.ndarray


@dataclass(frozen=True, eq=False)
class FirstSpikeQuant:
    """Integers of a `FirstSpike` population.

        z = (a << 6) + (bias_mant << bias_exp)       a: synaptic input of the sample's first step
        v = z + (ramp >> 1)                          in that step, clipped to +-(2^23 - 1)
        v = v + ramp                                 in each further one
        s = v >= T ramp;   v = -T ramp where s       which the rest of the sample cannot make up for

    so it fires at step T - n, n = clip(floor(z / ramp + 1/2), 0, T), exactly.

    Attributes:
        ramp: threshold / T, in units of the membrane potential.
        bias_mant: int32 per neuron (the population's shape), 13 bits signed.
        bias_exp: shared exponent, 0..7.
        scale: integer synaptic units per real unit of membrane potential.
    """

    ramp: int
    bias_mant: np.ndarray
    bias_exp: int
    scale: float


@dataclass(frozen=True)
class Schedule:
    """When a population works on a sample.

    Sample k occupies the 1-based steps ``k * period + depth + 1 ... k * period + depth + timesteps``;
    the state is reset as the first of them begins.
    """

    depth: int
    period: int


Quant = WeightQuant | NeuronQuant | SigmaDeltaQuant | CurrentQuant | CollectQuant | FirstSpikeQuant
"""What a node may carry once it is quantised."""
