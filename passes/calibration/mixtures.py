"""Calibration samples between the ones there are: mixtures of two of them."""

from __future__ import annotations

import numpy as np

from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.reference.batches import has_time

ENOUGH = 256
"""So many mixtures at least, where there are fewer samples."""
MOST = 1024
MOST_BYTES = 256 * 2**20


def with_mixtures(samples: np.ndarray, copies: int, seed: int = 0) -> np.ndarray:
    """The samples, and behind them mixtures of them.

    A mixture is a * x + (1 - a) * y of two samples x, y, a uniform in [1/2, 1]: mixup (Zhang et al., 2018,
    arXiv 1710.09412), but without labels: what is right of a mixture, the network before conversion says. It lies
    between classes, where a network decides by little, as it does on data that are not quite like those of
    calibration; clean samples say nothing about that.

    Args:
        samples: [samples, ...], real numbers.
        copies: mixtures of each sample, or none; of fewer samples, where `MOST` or `MOST_BYTES` would be
            exceeded, so that memory does not grow with the number of samples.
        seed: of who is mixed with whom.
    """
    if copies == 0:
        return samples
    draw = np.random.default_rng(seed)
    most = min(MOST, MOST_BYTES // max(1, samples[0].nbytes))
    first = np.concatenate([draw.permutation(len(samples)) for _ in range(copies)])[:most]
    second = draw.permutation(first)
    shares = draw.uniform(0.5, 1.0, (len(first), *[1] * (samples.ndim - 1))).astype(samples.dtype)
    return np.concatenate([samples, shares * samples[first] + (1 - shares) * samples[second]])


def copies_of_each(graph: Graph, samples: np.ndarray) -> int:
    """Mixtures per sample; 0 where samples cannot be mixed: series of steps, and whole numbers, which may be names."""
    series = any(has_time(node) for node in infer_types(graph).of_kind("Input"))
    if series or not np.issubdtype(samples.dtype, np.floating) or len(samples) < 2:
        return 0
    return -(-ENOUGH // len(samples))
