"""From a population's step to the parameters of PyNN's ``IF_curr_delta``.

Its step of dt = 1 ms is, with e = exp(-dt / tau_m) and R = tau_m / cm,

    V <- e V + (1 - e) R i_offset + weights of the spikes that arrive

so tau_m = -dt / ln(beta) and cm = tau_m (1 - beta) / dt give beta V + i_offset dt + weights, and i_offset = bias / dt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hsnn_compiler.backends.spinnaker.netlist import Population

FORGETFUL = 2.0**-10
"""tau_m in ms of neurons with beta = 0: exp(-dt / tau_m) is 0 in float64 and in s16.15."""
NEVER = 2.0**15 - 1
"""Threshold of neurons that only integrate: half of what s16.15 holds."""
_NEIGHBOURS = 8  # numbers next to -1 / ln(beta) that are tried


@dataclass(frozen=True, eq=False)
class Cells:
    """Parameters of ``IF_curr_delta`` by neuron, float64 [size]; v_rest, v_reset and tau_refrac are 0.

    Attributes:
        tau_m: ms.
        cm: nF.
        i_offset: nA, without what is presented.
        v_thresh: mV.
    """

    tau_m: np.ndarray
    cm: np.ndarray
    i_offset: np.ndarray
    v_thresh: np.ndarray


def cells(population: Population) -> Cells:
    """Parameters of neurons, or of a readout."""
    assert population.beta is not None
    assert population.bias is not None
    beta = np.asarray(population.beta, np.float64)
    tau = time_constants(beta)
    threshold = np.full(population.size, NEVER) if population.threshold is None else population.threshold
    return Cells(tau, tau * (1.0 - beta), np.asarray(population.bias, np.float64), np.asarray(threshold, np.float64))


def time_constants(beta: np.ndarray) -> np.ndarray:
    """tau_m for which exp(-1 / tau_m) is beta in float64, to the last bit wherever a neighbour of -1 / ln(beta) is."""
    values, where = np.unique(beta, return_inverse=True)
    return np.array([_time_constant(float(value)) for value in values])[where].reshape(beta.shape)


def _time_constant(beta: float) -> float:
    if beta == 0:
        return FORGETFUL
    above = below = found = -1.0 / math.log(beta)
    for _ in range(_NEIGHBOURS):
        for tau in (above, below):
            if math.exp(-1.0 / tau) == beta:
                return tau
        above, below = math.nextafter(above, math.inf), math.nextafter(below, 0.0)
    return found
