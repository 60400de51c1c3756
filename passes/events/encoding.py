"""Spikes in the place of a current: the first weight layer runs on the chip, on events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nir
import numpy as np

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.crossings import MOST_BITPLANES, wrong_code
from hsnn_compiler.ir.dynamics import Dynamics, discretize
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import SYNAPSE_OPS, Encode, bias_of
from hsnn_compiler.ir.types import Placement
from hsnn_compiler.passes.activations import channel_shape
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.connections import split_input, vars_of
from hsnn_compiler.passes.direct import LINEAR, is_direct, move_encodes_behind
from hsnn_compiler.passes.events.regions import (
    ANALOG,
    arriving,
    constant_part,
    insert_collects,
    region,
    separate,
    without_biases,
)
from hsnn_compiler.passes.one_to_one import one_to_one
from hsnn_compiler.passes.synapse_chains import dense_weights
from hsnn_compiler.reference.batches import batches
from hsnn_compiler.reference.float_executor import FloatExecutor

WEIGHTLESS = tuple(kind for kind in LINEAR if kind not in SYNAPSE_OPS)


def ready_for_events(graph: Graph) -> Graph:
    """A typed copy in which every direct Encode feeds synapses only, and no linear op sees analog input and spikes."""
    graph = graph.copy()
    move_encodes_behind(graph, WEIGHTLESS)
    graph = infer_types(graph)
    separate(graph)
    graph = infer_types(graph)
    for encode in list(filter(is_direct, graph)):
        for edge in graph.out_edges(encode.name):
            if len(graph.in_edges(edge.dst)) > 1 and graph[edge.dst].is_synapse:
                split_input(graph, edge)  # every Encode has a range of its own, which goes into the weights
            elif not graph[edge.dst].is_synapse:
                op = one_to_one(np.ones(()), encode.shape)
                place = Placement("chip", "synapses")
                name = graph.unique(f"{encode.name}.synapses")
                graph.insert_on(edge, Node(name, op, placement=place, source=encode.source))
    return infer_types(graph)


def as_events(graph: Graph, kind: str, through: str, context: PassContext) -> Graph:
    """Let events drive what a direct Encode drove.

    Args:
        graph: see `ready_for_events`.
        kind: of the new Encodes.
        through: ``"window"``, the neurons see what direct coding shows them, up to the rounding of the input, through
            a `Collect`; ``"current"``, through a synaptic current without decay, each event with the share of its
            step (for ``delta``); ``"nothing"``, events as they come, each with the weight of the whole range.
        context: with calibration data, for the range of the input.

    Returns:
        A typed copy.
    """
    steps = graph.timesteps or 1
    if wrong := wrong_code(Encode(kind), steps):
        raise refuse(
            "E0471",
            wrong,
            supported=f"bitplane: at most {MOST_BITPLANES} steps; phase: a multiple of {Encode().period} steps",
            suggestion="other --timesteps, or another --encode",
        )
    encodes = [node.name for node in graph if is_direct(node)]
    ends = {n.name: edges for n in graph if not _is_inside(n) and (edges := arriving(graph, n.name, ANALOG))}
    reach = _ranges(graph, encodes, context)
    if through == "window":  # of send-on-delta, each event is worth 1/T as well
        graph = insert_collects(graph, ends, "rate" if kind == "delta" else kind)
    elif through == "current":
        graph = _through_currents(graph, ends)
    else:
        _check_constant_input(graph, ends)
    graph = graph.copy()
    share = 1 / steps if through == "current" else 1.0
    for name in encodes:
        low, high = reach[name]
        largest = max(-low, high) or 1.0
        doubled = low < 0
        why = Placement("host", "events, computed from the input and sent to the chip")
        for synapse in graph.successors(name):
            graph.update(synapse.name, op=_on_events(synapse.op, largest * share, doubled=doubled))
        graph.update(name, op=Encode(kind, largest, doubled), placement=why)
    return infer_types(graph)


def _is_inside(node: Node) -> bool:
    """Whether a node is not an end of a way of analog input."""
    return not (node.is_population or node.kind == "Decode")


def _ranges(graph: Graph, names: list[str], context: PassContext) -> dict[str, tuple[float, float]]:
    """Smallest (at most 0) and largest (at least 0) value that each Encode gets on the calibration data."""
    if context.calibration is None:
        raise refuse("E0213", "map-surrogate-to-events needs data", suggestion="pass --calib data.npz")
    sources = {name: graph.in_edges(name)[0].src for name in names}
    before = graph.copy()
    keep = set(sources.values()).union(*(graph.ancestors(source) for source in sources.values()))
    for node in graph:
        if node.name not in keep:
            before.remove(node.name)
    executor, record = FloatExecutor(before), [(source, "s") for source in sources.values()]
    found = dict.fromkeys(names, (0.0, 0.0))
    for batch, done, total in batches(before, context.calibration, context.batch_size):
        trace = executor.run_batch(batch, record).trace
        for name, source in sources.items():
            value = trace[source, "s"]
            found[name] = min(found[name][0], float(value.min())), max(found[name][1], float(value.max()))
        context.progress("calibration: range of the input", done, total)
    return found


def _check_constant_input(graph: Graph, ends: Mapping[str, list[Edge]]) -> None:
    for name in ends:
        if graph[name].kind == "FirstSpike":
            raise refuse(
                "E0472",
                "neurons that fire once need their whole input as they begin",
                node=name,
                source=graph[name].source,
                supported="map-surrogate-to-events{mapping=exact} with --coding ttfs",
            )


def _through_currents(graph: Graph, ends: Mapping[str, list[Edge]]) -> Graph:
    """Give the neurons a synaptic current without decay: the running sum of what arrives. Biases become leaks."""
    biases = {name: constant_part(graph, edges) for name, edges in ends.items()}
    graph = graph.copy()
    for edges in ends.values():
        without_biases(graph, region(graph, edges))
    for name, bias in biases.items():
        node = graph[name]
        others = len(graph.in_edges(name)) - len(ends[name])
        if node.kind not in _WITH_CURRENT or node.dynamics is None or others:
            raise refuse(
                "E0472",
                "a synaptic current without decay cannot be given to "
                + ("neurons that spikes of others drive too" if others else f"{node.kind}"),
                node=name,
                source=node.source,
                supported=f"{', '.join(_WITH_CURRENT)} neurons that the input alone drives",
                suggestion="map-surrogate-to-events{mapping=exact}, or statistics",
            )
        op, dynamics = _with_current(node, bias)
        graph.update(name, op=op, dynamics=dynamics)
    return infer_types(graph)


_WITH_CURRENT = {"IF": nir.CubaLIF, "LIF": nir.CubaLIF, "I": nir.CubaLI, "LI": nir.CubaLI}


def _with_current(node: Node, bias: np.ndarray) -> tuple[Any, Dynamics]:
    """The same neuron behind u = u + I, with a constant current besides."""
    assert node.dynamics is not None
    step = discretize(node.op, node.dynamics)
    one = np.ones(channel_shape(node.shape))
    fields: dict[str, Any] = {"tau_syn": one, "tau_mem": one, "r": one, "v_leak": 0 * one, "w_in": one}
    if node.is_spiking:
        given = vars_of(node.op)
        fields |= {name: np.broadcast_to(given[name], _shape(given[name], one)) for name in ("v_threshold", "v_reset")}
        shape = np.broadcast_shapes(*(np.shape(array) for array in fields.values()))
        fields = {name: np.broadcast_to(array, shape).astype(np.float64) for name, array in fields.items()}
    leak = step.leak + step.gain * bias
    kept = {**vars(node.dynamics), "integrator": "none", "decay": step.decay, "gain": step.gain}
    return _WITH_CURRENT[node.kind](**fields), Dynamics(**{**kept, "leak": leak, "current_decay": 1.0})


def _shape(array: np.ndarray, other: np.ndarray) -> tuple[int, ...]:
    return np.broadcast_shapes(np.shape(array), other.shape)


def _on_events(op: Any, factor: float, *, doubled: bool) -> Any:
    """Weights for spikes that stand for `factor`: [W, -W], if each channel comes as two parts."""
    weight = np.asarray(op.weight, np.float64)
    bias = bias_of(op)
    if doubled and weight.ndim > 2:
        weight = dense_weights(op)
    weight = factor * (np.concatenate([weight, -weight], 1) if doubled else weight)
    if bias is None:
        return nir.Linear(weight)
    if weight.ndim == 2:
        return nir.Affine(weight, bias)
    groups = 1 if doubled else int(op.groups)
    return type(op)(op.input_shape, weight, op.stride, op.padding, op.dilation, groups, bias)
