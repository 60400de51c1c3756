"""Options of single layers, ``--layer NAME:key=value``: what each takes and where it has an effect."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.ops import ACTIVATIONS, SYNAPSE_OPS, Clip
from hsnn_compiler.passes.trained import trained_end

METHODS = ("mse", "ltb", "percentile", "max")


@dataclass(frozen=True)
class LayerOption:
    """One key.

    Attributes:
        fits: whether a text is a legal value.
        values: legal values, in words.
        kinds: ops of the captured graph on which it has an effect; empty for all.
    """

    fits: Callable[[str], bool]
    values: str
    kinds: tuple[str, ...] = ()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _weight_bits(text: str) -> bool:
    return text.strip().isdigit() and 2 <= int(text) <= 8


LAYER_OPTIONS: dict[str, LayerOption] = {
    "place": LayerOption(lambda t: t in ("host", "chip"), "host, chip"),
    "threshold": LayerOption(lambda t: 0 < _number(t) < math.inf, "a positive number", ACTIVATIONS),
    "method": LayerOption(lambda t: t in METHODS, ", ".join(METHODS), ACTIVATIONS),
    "percentile": LayerOption(lambda t: 0 < _number(t) <= 100, "above 0, at most 100", ACTIVATIONS),
    "bits": LayerOption(_weight_bits, "2 to 8", SYNAPSE_OPS),
}


def _clipped_at(op: Any) -> float:
    """Where an activation ends, in the channel where it ends first."""
    end = trained_end(op)
    if end is not None:
        return float(end.min())
    return op.high if isinstance(op, Clip) else math.inf


def check_layer_options(graph: Graph, layers: Mapping[str, Mapping[str, str]], keys: set[str]) -> list[Finding]:
    """Everything wrong with layer options (E0211), for a captured graph and the keys its pipeline reads."""
    findings = []
    names = [node.name for node in graph]
    for name, settings in layers.items():
        if name not in names:
            near = [other for other in names if other.lstrip("_") == name]
            hint = f"did you mean {near[0]}?" if near else ""
            findings.append(Finding("E0211", f"no layer named {name!r}", supported=", ".join(names), suggestion=hint))
            continue
        kind = graph[name].kind
        for key, value in settings.items():
            if key not in keys:
                findings.append(
                    Finding("E0211", f"no option {key!r} for layers", node=name, supported=", ".join(sorted(keys)))
                )
                continue
            option = LAYER_OPTIONS[key]
            if not option.fits(value):
                findings.append(Finding("E0211", f"{key}={value}", node=name, supported=option.values))
            elif key == "threshold" and float(value) > (top := _clipped_at(graph[name].op)):
                ends = f"at most {top:g}, where the activation is clipped"
                findings.append(Finding("E0211", f"{key}={value}", node=name, supported=ends))
            elif option.kinds and kind not in option.kinds:
                findings.append(
                    Finding("E0211", f"{key} has no effect on {kind}", node=name, supported=", ".join(option.kinds))
                )
    return findings
