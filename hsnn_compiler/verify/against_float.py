"""How far a quantised network's spikes are from those of the network in real numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hsnn_compiler.network import Network

TRACE_BYTES = 2**28
"""Recorded spikes stay below this: as many samples are compared as fit, at least one."""


@dataclass(frozen=True)
class SpikesOff:
    """Spikes of one population.

    Attributes:
        real, integers: their numbers in the two networks.
        differ: neuron-steps in which one fires and the other does not.
        cosine: of the neurons' spike counts, 1 for equal proportions; None where nothing fires in one of them.
    """

    real: int
    integers: int
    differ: int
    cosine: float | None


def spikes_off(network: Network, x: Mapping[str, np.ndarray]) -> tuple[dict[str, SpikesOff], int]:
    """Compare a quantised network with the real one it was made from; by population, and on how many samples.

    Args:
        network: from `Network.quantised`.
        x: inputs [samples, time, ...] by input node, of which the first samples are compared.
    """
    assert network.real is not None
    populations = [node for node in network.graph if node.is_spiking]
    neurons = sum(node.type.size for node in populations if node.type)
    steps = next(iter(x.values())).shape[1]
    samples = max(1, TRACE_BYTES // max(5 * steps * neurons, 1))
    some = {name: array[:samples] for name, array in x.items()}
    record = [(node.name, "s") for node in populations if network.real.graph[node.name].is_spiking]
    real = network.real.simulate(some, "float", record)
    integers = network.simulate(some, "reference", record)
    found = {name: _compare(real.trace[name, s], integers.trace[name, s]) for name, s in record}
    return found, min(map(len, some.values()))


def _compare(real: np.ndarray, integers: np.ndarray) -> SpikesOff:
    counts = [signal.sum((0, 1), dtype=np.float64).ravel() for signal in (real, integers)]
    lengths = float(np.linalg.norm(counts[0]) * np.linalg.norm(counts[1]))
    return SpikesOff(
        int(counts[0].sum()),
        int(counts[1].sum()),
        int((real != integers).sum()),
        float(counts[0] @ counts[1]) / lengths if lengths else None,
    )
