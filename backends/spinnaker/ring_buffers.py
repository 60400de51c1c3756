"""Ring buffers: what a weight becomes on the machine.

A neuron has one ring buffer of 16 bits, unsigned, for each sign of its synapses and each step of delay. Spikes add
weights to it, and it stops at 65535. The sum, shifted left by `shift`, is added to the potential (s16.15): one unit of
a weight is worth 2^(shift - 15). sPyNNaker (``get_ring_buffer_shifts``, ``get_weight_scales`` in
``population_vertex.py``) estimates the shift from a firing rate, or takes it from ``max_expected_summed_weight``.

A source fires once in a step at most, so what can come in one step is known: the sum of the weights of a neuron. The
shift below is the smallest that holds this sum in 16 bits: nothing saturates, and no bit is given away.
"""

from __future__ import annotations

import numpy as np

from hsnn_compiler.backends.spinnaker.netlist import Turn

FRACTION_BITS = 15
FULL = 0xFFFF  # of a ring buffer, and of a weight in a synaptic row
SIGNS = ("excitatory", "inhibitory")


def units(weight: np.ndarray, shift: int) -> np.ndarray:
    """Weights in units of the ring buffer, int64: rounded to even, as ``numpy.rint`` in ``synapse_dynamics_static.py``.

    Args:
        weight: float64, any shape.
        shift: of the ring buffer.
    """
    return np.rint(np.abs(weight) * 2.0 ** (FRACTION_BITS - shift)).astype(np.int64)


def shifts(turn: Turn, name: str) -> tuple[int, int]:
    """Shifts of a population's excitatory and inhibitory ring buffers.

    May be more than 15: then no ring buffer holds what can come in one step.
    """
    arriving = turn.arriving(name)
    post = np.concatenate([np.zeros(0, np.int32), *(part.post for part in arriving)])
    weight = np.concatenate([np.zeros(0), *(part.weight for part in arriving)])
    negative = weight < 0
    size = turn.populations[name].size
    return tuple(  # type: ignore[return-value]
        _smallest_shift(post[chosen], weight[chosen], size) for chosen in (~negative, negative)
    )


def max_expected_summed_weight(shift: int) -> float:
    """What to tell sPyNNaker so that it takes this shift: it takes the logarithm to base 2, rounded up."""
    return 0.75 * 2.0**shift


def _smallest_shift(post: np.ndarray, weight: np.ndarray, size: int) -> int:
    shift = 0
    while np.bincount(post, units(weight, shift), size).max() > FULL:
        shift += 1
    return shift
