"""What `quantise` will make of weights, while they are still trained as real numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hsnn_compiler.ir.dynamics import discretize
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.loihi_format import VTH_MAX, weight_format
from hsnn_compiler.training.trainable import Rounding


def as_on_chip(graph: Graph, bits: int, context: PassContext) -> Rounding:
    """The rounding of weights that go straight into neurons: all in one scale per population, as large as they allow.

    Weights are taken in thresholds, which is how they get to the chip where thresholds differ between channels. Left
    out are the limits that data sets (24-bit states, currents), weights behind which pooling or scales are still to be
    folded, and those that a `Collect` adds up.
    """
    ends = [node for node in graph if node.is_neuron and node.quant is None]

    def rounded(weights: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for end in ends:
            feeds = {source.name: weights[source.name] for source in graph.predecessors(end.name) if source.is_synapse}
            unit = _thresholds(end)
            in_thresholds = {name: _rows(weight, 1 / unit) for name, weight in feeds.items()}
            formats = {n: weight_format(weight, context.layer(n, "bits", bits)) for n, weight in in_thresholds.items()}
            fits = min((formats[n].largest_scale(w) for n, w in in_thresholds.items()), default=np.inf)
            if not np.isfinite(fits):
                continue
            scale = max(int(min(fits, VTH_MAX)), 1) if end.is_spiking else fits
            for name, weight in in_thresholds.items():
                found[name] = _rows(formats[name].round(weight, scale)[0] / scale, unit)
        return found

    return rounded


def _thresholds(node: Node) -> np.ndarray:
    """What a weight of one threshold is, per channel or once: threshold over gain."""
    assert node.dynamics is not None
    step = discretize(node.op, node.dynamics)
    threshold = np.ones(1) if step.threshold is None else step.threshold
    return np.atleast_1d(threshold / (step.gain if step.w_in is None else step.gain * step.w_in))


def _rows(weight: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Weights times a factor per output channel, or one for all."""
    flat = factor.reshape(-1)
    if len(flat) not in (1, len(weight)):
        return weight  # neurons of a channel differ: no kernel has such weights, and quantise refuses them
    scaled: np.ndarray = weight * flat.reshape(-1, *[1] * (weight.ndim - 1))
    return scaled
