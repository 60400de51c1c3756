"""Which way is faster: a rough count of nanoseconds on one core, from the shape of a layer and its activity.

The constants were measured with ``benchmarks/kernels.py`` on an AMD EPYC with AVX-512. Only their ratios matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hsnn_compiler.kernels.synapses import Synapse
from hsnn_compiler.kernels.tables import ROWS, Tables
from hsnn_compiler.kernels.windows import window

SEGMENT = 1.3
"""To find a segment of one position's receptive field."""
WORD_OF_INPUTS = 1.5
"""To look at a word."""
EVENT = 0.2
"""To find an active input."""
NEAR, FAR, NEAR_BYTES = 0.3, 0.6, 2**15
"""To add one AVX-512 register of weights, if all weights fit the first cache, and if not."""
MULTIPLY = 0.018
"""To multiply and add one float32 in a matrix product or convolution."""
CURRENT = 0.6
"""To write a current to memory, and read it again."""
CALL = 50_000.0
"""To call PyTorch once."""
REGISTER_BYTES = 64


@dataclass(frozen=True)
class Costs:
    """Of a layer, in nanoseconds per sample and step.

    Attributes:
        fixed: event-driven, with no input active.
        active: event-driven, per active input.
        dense: as matrix products and convolutions.
    """

    fixed: float
    active: float
    dense: float

    def events(self, active: float, steps: int) -> float:
        """Nanoseconds event-driven, with so many inputs active in so many steps of samples."""
        return steps * self.fixed + active * self.active

    def most_active(self, steps: int) -> float:
        """How many inputs may be active in so many steps of samples for events to be the faster way."""
        return (steps * (self.dense - self.fixed) + CALL) / self.active


def estimate(synapses: list[Synapse], tables: Tables) -> Costs:
    """Costs of a layer."""
    groups, segments, _ = tables.masks.shape
    blocks, depth, lanes = tables.weights.shape
    neurons = math.prod(synapses[0].out_shape)
    positions = neurons // tables.channels
    size = np.dtype(tables.weights.dtype).itemsize
    looked = positions * groups * (segments * SEGMENT + depth // ROWS * WORD_OF_INPUTS * (blocks // groups))
    inputs = sum(synapse.in_size for synapse in synapses)
    seen = sum(math.prod(window(synapse).kernel.shape[:2]) for synapse in synapses) / groups
    register = NEAR if tables.weights.nbytes <= NEAR_BYTES else FAR
    event = blocks * (EVENT + lanes * size / REGISTER_BYTES * register)
    multiplications = sum(positions * math.prod(synapse.weight.shape) for synapse in synapses)
    return Costs(
        fixed=looked + neurons * 0.15,
        active=positions * seen / inputs * event,
        dense=multiplications * MULTIPLY * max(size, 4) / 4 + inputs * 0.5 + neurons * (CURRENT + 0.15),
    )
