"""The scale of a population: integer synaptic units per real unit, as large as everything that has to fit allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.graph import Node
from hsnn_compiler.ir.quant import STATE_SHIFT, WeightQuant
from hsnn_compiler.passes.loihi_format import (
    EXPONENT_MAX,
    MANTISSA_MAX,
    STATE_MAX,
    VTH_MAX,
    WeightFormat,
    weight_format,
)
from hsnn_compiler.passes.raw.neurons import Rule
from hsnn_compiler.passes.raw.peaks import Peak

BITS = 8
MARGIN = 2.0
"""How much larger than in the real network currents and potentials may get before they leave their numbers."""
CANDIDATES, WEIGHTS = 4096, 1024
"""How many scales are tried, on how many of the weights."""
GRADED_BITS = 16
SHIFT_MAX = 8
COARSE_RATIO = 8
"""A sum of spikes is shifted right, which floors it, only where that makes weights so many times finer."""
VTH_MIN = 4


@dataclass(frozen=True, eq=False)
class Feed:
    """Synapses into a population or an Output, before they are integers.

    Attributes:
        name: of their node.
        op: without a bias; its weights are `weight`.
        weight: what one unit of payload, or a spike, adds, float64.
        is_graded: whether payloads arrive.
    """

    name: str
    op: Any
    weight: np.ndarray
    is_graded: bool

    @property
    def format(self) -> WeightFormat:
        """Range and step of its integers."""
        return weight_format(self.weight, BITS)

    @property
    def fits(self) -> float:
        """Largest scale at which its weights fit their format."""
        return self.format.largest_scale(self.weight)

    def exponent(self, scale: float) -> int:
        """Bits by which its sums are shifted at a scale far below what its weights allow; never of a convolution."""
        ratio = self.fits / scale
        if self.weight.ndim > 2 or not math.isfinite(ratio) or ratio < (2 if self.is_graded else COARSE_RATIO):
            return 0
        return -min(SHIFT_MAX, math.floor(math.log2(ratio)))

    def quantise(self, scale: float) -> tuple[WeightQuant, float]:
        """Its integers at a scale, and by how much a weight is off at most, as a share of the largest."""
        exponent, form = self.exponent(scale), self.format
        integers, clipped = form.round(self.weight, scale * 2.0**-exponent)
        error = np.abs(integers * 2.0**exponent / scale - self.weight).max(initial=0.0)
        largest = np.abs(self.weight).max(initial=0.0)
        quant = WeightQuant(
            integers, exponent, BITS, form.sign_mode, scale, clipped, GRADED_BITS if self.is_graded else 0
        )
        return quant, round(float(error / largest), 9) if largest else 0.0


def choose_scale(node: Node, rule: Rule, feeds: Sequence[Feed], peak: Peak) -> tuple[float, int]:
    """Scale and threshold (`VTH_MAX` for an integrator) of a population.

    The scale is bounded by the weights (8 bits), by currents and potentials (24 bits with `MARGIN`, from the peaks of
    the real network), by the bias (13 bits and an exponent) and by the threshold (17 bits). Below the bound, down to
    half of it, that threshold integer is taken at which the weights are rounded least: where weights and threshold lie
    on a common grid, not at all.

    Raises:
        HsnnError: E0443 where the threshold would be less than four units.
    """
    factor = np.abs(rule.potential_gain)
    reached = max(
        float((peak.u * factor).max(initial=0.0)), float(((peak.v + np.abs(rule.shift)) / rule.unit).max(initial=0.0))
    )
    bounds = [feed.fits for feed in feeds]
    bounds.append(_ratio(STATE_MAX / 2**STATE_SHIFT / MARGIN, reached))
    bounds.append(_ratio((MANTISSA_MAX << EXPONENT_MAX) / 2**STATE_SHIFT, float(np.abs(rule.bias).max(initial=0.0))))
    if rule.theta is None:
        return scale_without_threshold(feeds, min(bounds)), VTH_MAX
    bound = min(*bounds, VTH_MAX / rule.theta)
    top = math.floor(bound * rule.theta * (1 + 1e-9))
    if top < VTH_MIN:
        raise refuse(
            "E0443",
            f"the threshold would be {top} integer units: its weights or currents are far larger than its threshold",
            node=node.name,
            source=node.source,
            supported=f"{VTH_MIN} units or more",
            suggestion="look for a huge weight, or inputs that are too large",
        )
    thresholds = np.arange(top, max(VTH_MIN, top // 2) - 1, -1)[:CANDIDATES]
    on_grid = _grids(feeds, bound)
    # `integers_of` tests >= exactly on whole units.
    if rule.inclusive and not rule.subtracts and np.all(rule.decay == 1):
        on_grid.append((np.append(rule.bias, rule.v_init), 1.0))
    vth = int(thresholds[_least_rounded(thresholds / rule.theta, on_grid)])
    return vth / rule.theta, vth


def scale_without_threshold(feeds: Sequence[Feed], bound: float) -> float:
    """Scale of an integrator or an Output, below a bound: the largest weight becomes an integer."""
    if not math.isfinite(bound):
        return 1.0
    on_grid = _grids(feeds, bound)
    steps = [grid / largest for weight, grid in on_grid if (largest := np.abs(weight).max(initial=0.0))]
    if not steps:
        return bound
    top = math.floor(bound / max(steps) * (1 + 1e-9))
    candidates = np.arange(max(top, 1), top // 2, -1)[:CANDIDATES] * max(steps)
    return min(bound, float(candidates[_least_rounded(candidates, on_grid)]))


def _grids(feeds: Sequence[Feed], bound: float) -> list[tuple[np.ndarray, float]]:
    """The weights of each feed, and the distance of neighbouring ones in synaptic units."""
    return [(feed.weight, feed.format.step * 2.0 ** feed.exponent(bound)) for feed in feeds]


def _least_rounded(scales: np.ndarray, on_grid: Sequence[tuple[np.ndarray, float]]) -> int:
    """Which scale rounds numbers least, in real units; the first of equal ones."""
    errors = np.zeros(len(scales))
    for numbers, grid in on_grid:
        some = np.unique(np.abs(numbers))
        some = some[:: max(1, len(some) // WEIGHTS)]
        wanted = some * (scales / grid)[:, None]
        errors += ((wanted - np.rint(wanted)) ** 2).mean(1) * (grid / scales) ** 2
    return int(np.argmin(np.where(errors < 1e-18, 0.0, errors)))


def _ratio(room: float, largest: float) -> float:
    return room / largest if largest > 0 else math.inf
