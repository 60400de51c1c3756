"""What a core of SpiNNaker 2 holds, estimated: py-spinnaker2 splits populations by a number of neurons per core.

The layout of a core's memory is not published; sizes below are assumptions, and the profile names them so.
"""

from __future__ import annotations

from hsnn_compiler.targets import Target

ROW_BYTES = 4
"""For each source neuron: where its synapses lie; a convolution needs no such table."""
NEURON_BYTES = 32
"""Parameters (float32), state and what arrives."""


def neurons_per_core(size: int, rows: int, synapses: int, kernel: int, target: Target) -> int:
    """Most neurons of a population that a core can hold; 0 where it cannot hold one.

    Args:
        size: neurons of the population.
        rows: neurons that feed it, through lists.
        synapses: all of the population, in lists.
        kernel: bytes of all kernels of a convolution; a core has those of its own channels.
        target: the profile.
    """
    free = target["core.data_bytes"] - ROW_BYTES * rows
    each = NEURON_BYTES + (target["core.synapse_bytes"] * synapses + kernel) / max(size, 1)
    return max(min(target["core.neurons"], size, int(free // each)), 0)
