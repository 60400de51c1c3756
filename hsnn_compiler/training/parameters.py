"""What may be trained of a node: where it lies in the graph, how it is kept in its range, how it is written back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.diagnostics import Finding, HsnnError, refuse
from hsnn_compiler.ir.dynamics import discretize
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.ops import SYNAPSE_OPS
from hsnn_compiler.ir.quant import WeightQuant
from hsnn_compiler.ir.weight_format import WeightFormat

LEAKY = ("LIF", "CubaLIF", "LI", "CubaLI")
NAMES = ("weight", "bias", "threshold", "decay", "current_decay", "gain", "leak", "scale")
"""What `names_of` may give."""

Move = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Range:
    """How a trained tensor becomes the parameter: ``move(start, trained)``, for `first(start)` the start itself."""

    first: Callable[[Tensor], Tensor]
    move: Move


FREE = Range(lambda start: start.clone(), lambda start, trained: trained)
"""Any number; what is trained is the parameter itself."""
POSITIVE = Range(torch.zeros_like, lambda start, trained: start * trained.exp())
"""start * exp(p), p = 0 at first: of one sign, and steps are relative."""
DECAY = Range(torch.zeros_like, lambda start, trained: (start - (1 - start) * trained.expm1()).clamp(min=0))
"""1 - (1 - start) exp(p), p = 0 at first: below 1, and steps are relative to what is lost; at least 0."""

RANGES: Mapping[str, Range] = {
    "weight": FREE,
    "bias": FREE,
    "leak": FREE,
    "threshold": POSITIVE,
    "gain": POSITIVE,
    "scale": POSITIVE,
    "decay": DECAY,
    "current_decay": DECAY,
}


def key_of(node: str, name: str) -> str:
    """The name under which a trained parameter is kept: ``node:name``."""
    return f"{node}:{name}"


def split_key(key: str) -> tuple[str, str]:
    """Node and name of a parameter."""
    node, _, name = key.rpartition(":")
    return node, name


def names_of(node: Node) -> tuple[str, ...]:
    """Parameters of a node that can be trained: of one whose integers are chosen already, only the weights."""
    if node.quant is not None:
        return ("weight",) if isinstance(node.quant, WeightQuant) else ()
    if node.kind in SYNAPSE_OPS:
        return ("weight", "bias") if hasattr(node.op, "bias") else ("weight",)
    if node.kind in ("BatchNorm", "LayerNorm"):
        return ("weight", "bias")
    if node.kind == "Scale":
        return ("scale",)
    if node.kind == "FirstSpike":
        return ("threshold",)
    if node.kind == "Collect":
        return ("bias",)
    if not node.is_neuron:
        return ()
    own = ["gain", "leak"]
    own += ["threshold"] if node.is_spiking else []
    own += ["decay"] if node.kind in LEAKY else []
    own += ["current_decay"] if node.kind.startswith("Cuba") else []
    return tuple(own)


def chosen(graph: Graph, train: Iterable[str], nodes: Iterable[str] | None = None) -> list[tuple[str, str]]:
    """Parameters (node, name) of these names; E0212 for unknown names, E0550 where nothing is left to train."""
    wanted, only = list(train), None if nodes is None else set(nodes)
    unknown = [name for name in wanted if name not in NAMES]
    findings = [Finding("E0212", f"nothing is trained by the name {n!r}", supported=", ".join(NAMES)) for n in unknown]
    if findings:
        raise HsnnError(findings)
    ends = graph.of_kind("Output")
    reaching = {node.name for node in ends}.union(*(graph.ancestors(node.name) for node in ends))
    found = [
        (node.name, name)
        for node in graph
        if node.name in reaching and (only is None or node.name in only)
        for name in names_of(node)
        if name in wanted
    ]
    if not found:
        raise refuse(
            "E0550",
            f"the network has no {' or '.join(wanted)} that could be trained",
            supported=f"of {', '.join(NAMES)}: what its layers have",
        )
    return found


def write(graph: Graph, values: Mapping[str, np.ndarray]) -> Graph:
    """A copy of a graph with other parameters.

    Args:
        graph: stays as it is.
        values: by `key_of`, arrays of the size that the parameters have.

    Raises:
        HsnnError: E0551, with all parameters that the graph does not have.
    """
    findings = []
    done = graph.copy()
    for key, value in values.items():
        name, parameter = split_key(key)
        if name not in done or parameter not in names_of(done[name]):
            findings.append(Finding("E0551", f"the graph has no parameter {key!r}"))
        elif np.size(value) != start_of(done[name], parameter).size:
            message = f"{key}: {list(np.shape(value))} values for {list(start_of(done[name], parameter).shape)}"
            findings.append(Finding("E0551", message, node=name))
        else:
            done.replace(_written(done[name], parameter, np.asarray(value)))
    if findings:
        raise HsnnError(findings)
    return done


def start_of(node: Node, name: str) -> np.ndarray:
    """A parameter as the graph has it."""
    if node.is_neuron:
        assert node.dynamics is not None
        return np.asarray(getattr(discretize(node.op, node.dynamics), name))
    return np.asarray(getattr(node.op, name))


def _written(node: Node, name: str, value: np.ndarray) -> Node:
    start = start_of(node, name)
    value = value.reshape(start.shape).astype(start.dtype)
    if isinstance(node.quant, WeightQuant):
        integers, clipped = integers_of(node.quant, value)
        quant = replace(node.quant, integers=integers, clipped=clipped)
        return node.with_(op=replace(node.op, weight=on_chip(node.quant, value)), quant=quant)
    if not node.is_neuron:
        return node.with_(op=replace(node.op, **{name: value}))
    if name == "threshold":
        was = np.asarray(node.op.v_threshold)
        return node.with_(op=replace(node.op, v_threshold=value.reshape(was.shape).astype(was.dtype)))
    assert node.dynamics is not None
    changes: dict[str, Any] = {name: value}
    if name == "current_decay":  # which overrides the integrator's factor on the input, too
        changes["current_gain"] = discretize(node.op, node.dynamics).w_in
    return node.with_(dynamics=replace(node.dynamics, **changes))


def integers_of(quant: WeightQuant, weight: np.ndarray) -> tuple[np.ndarray, int]:
    """Weights as integers in the format that a quantisation chose for them, and how many were clipped."""
    unit = quant.scale * 2.0**-quant.exponent
    return WeightFormat(quant.sign_mode, quant.bits).round(np.asarray(weight, np.float64), unit)


def on_chip(quant: WeightQuant, weight: np.ndarray) -> np.ndarray:
    """The same as real numbers, float64."""
    real: np.ndarray = integers_of(quant, weight)[0] * 2.0**quant.exponent / quant.scale
    return real
