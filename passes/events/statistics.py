"""Layer by layer, the neurons are given back the excitation that they were trained with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hsnn_compiler.ir.dynamics import discretize
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.passes.activations import channel_shape
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.connections import vars_of
from hsnn_compiler.passes.events.challenges import Moments, compare

SMALLEST, LARGEST = 1 / 64, 64.0


def match_statistics(events: Graph, direct: Graph, context: PassContext) -> Graph:
    """Recalibrate every spiking layer, in sequence, against the same network under direct coding.

        theta'_c = r_c theta_c              r_c = std(u_event) / std(u_direct)
        leak'_c  = leak_c + gain m_c        m_c = r_c E[u_direct] - E[u_event]

    per channel c, over samples and pixels of the calibration data, with u the current into the membrane (leak / gain
    in it), averaged over the steps, after all layers before have been recalibrated: in thresholds, it gets the mean
    and the spread back that it was trained with. All else that is a potential (resets, start, lower bound) scales
    with the threshold.
    """
    graph = events
    for node in graph.topological():
        if not (node.is_neuron and node.is_spiking):
            continue
        moments = compare(graph, direct, [node.name], context)[node.name]
        graph = graph.copy()
        graph.update(node.name, **rescaled(node, *corrections(moments)))
    return graph


def corrections(moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Per channel, the factor r of the threshold and the constant current m / theta, see `match_statistics`."""
    event, direct = moments.spread()
    factor = np.divide(event, direct, out=np.ones_like(event), where=(event > 0) & (direct > 0))
    factor = np.clip(factor, SMALLEST, LARGEST)
    mean_event, mean_direct = moments.mean()
    constant = factor * mean_direct - mean_event
    return factor, constant


def rescaled(node: Node, factor: np.ndarray, constant: np.ndarray) -> dict[str, Any]:
    """Op and dynamics of the recalibrated population.

    Args:
        node: the population.
        factor: of the threshold, [channels].
        constant: current that is added, in thresholds of `node`, [channels].
    """
    assert node.dynamics is not None
    step, shape = discretize(node.op, node.dynamics), channel_shape(node.shape)
    r, m = factor.reshape(shape), constant.reshape(shape)
    given = {name: np.asarray(value, np.float64) for name, value in vars_of(node.op).items()}
    for name in ("v_threshold", "v_reset"):
        given[name] = given[name] * r
    size = np.broadcast_shapes(*(value.shape for value in given.values()))
    op = type(node.op)(**{name: np.broadcast_to(value, size).copy() for name, value in given.items()})
    dynamics = replace(
        node.dynamics,
        v_init=step.v_init * r,
        v_min=None if step.v_min is None else step.v_min * r,
        leak=step.leak + step.gain * m * step.threshold,
    )
    return {"op": op, "dynamics": dynamics}
