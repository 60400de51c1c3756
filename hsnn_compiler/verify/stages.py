"""The stages of a compilation, compiled again from the source: the graph after each pass, and how to run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hsnn_compiler.data import digest_of
from hsnn_compiler.driver import Hooks, lower
from hsnn_compiler.finetune import Finetune
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.ops import threshold_of
from hsnn_compiler.options import Options
from hsnn_compiler.passes.activations import SCALE_SUFFIX, converted_neurons
from hsnn_compiler.passes.base import BOUNDED, EXACT, LOSSY, Progress
from hsnn_compiler.passes.calibration.thresholds import CalibrateThresholds
from hsnn_compiler.passes.pipeline import Stage as Executed
from hsnn_compiler.passes.pipeline import parse_pipeline, to_text
from hsnn_compiler.passes.properties import PROPERTIES
from hsnn_compiler.verify.differences import same_function

if TYPE_CHECKING:
    from hsnn_compiler.program import Program

CAPTURED, PROGRAM = "captured", "program"


@dataclass(frozen=True)
class Stage:
    """One graph to replay data through.

    Attributes:
        name: ``captured``, the pass as pipeline text, or ``program`` (the bundle's own graph).
        contract: ``exact``, ``bounded`` or ``lossy``: how it relates to the stage before.
        graph: what is run.
        integers: whether Loihi's integers are run, rather than real numbers (float64).
        scales: by converted layer, what a spike in every step stands for.
        thresholds: by converted layer, its threshold in units of the source's activation.
        repeats: whether it computes what the stage before computes, op by op, so that nothing need be run.
    """

    name: str
    contract: str
    graph: Graph
    integers: bool = False
    scales: Mapping[str, np.ndarray] = field(default_factory=dict)
    thresholds: Mapping[str, np.ndarray] = field(default_factory=dict)
    repeats: bool = False


@dataclass(frozen=True)
class Recompiled:
    """A compilation done again: its stages, and the program that came out."""

    stages: list[Stage]
    program: Program


def options_of(program: Program, layers: Mapping[str, Mapping[str, str]] | None = None) -> Options:
    """The options a program was compiled with, as its manifest has them; `layers` are added to those of layers.

    What its passes chose from data stays chosen, so that a compilation differs only where it is told to.
    """
    known = Options.from_plain(program.target, program.options)
    merged = {name: dict(keys) for name, keys in known.layers.items()}
    for name, keys in (layers or {}).items():
        merged.setdefault(name, {}).update(keys)
    ran = ",".join(stage.name for stage in program.stages)
    return replace(known, layers=merged, pipeline=ran or known.pipeline)


def uncorrected(options: Options) -> Options | None:
    """The options without the corrections of `calibrate-thresholds`; None where they have none.

    A correction makes up for what other layers get wrong, so it means nothing where these are exact.
    """
    passes = parse_pipeline(options.pipeline)
    plain = [
        replace(item, correct="none") if isinstance(item, CalibrateThresholds) else item  # its other options stay
        for item in passes
    ]
    return None if plain == passes else replace(options, pipeline=to_text(plain))


def recompile(
    captured: Graph, program: Program, calibration: np.ndarray | None, options: Options, progress: Progress
) -> Recompiled:
    """Compile again with the same options and keep the graph after each pass that changed something."""
    executed: list[Executed] = []
    hooks = Hooks(lambda number, total, stage: executed.append(stage), progress)
    again = lower(captured, options, calibration, hooks, finetune=Finetune(trained=program.trained))
    return Recompiled(_stages(captured, executed), again)


def own_stages(captured: Graph, program: Program) -> list[Stage]:
    """What the bundle itself keeps of its way: before quantisation, and the end."""
    first = Stage(CAPTURED, EXACT, captured)
    lossy = any(stage.contract == LOSSY and stage.modified for stage in program.stages)
    # The thresholds of converted layers were divided into the weights: a rate stands for a share of one that is lost.
    floating = Stage("before quantisation", LOSSY if lossy else EXACT, program.floating)
    if is_quantised(program.graph):
        return [first, floating, *_quantised("quantised", program.graph)]
    return [first, floating, Stage("on the chip", LOSSY, program.graph)]


def calibration_matches(program: Program, calibration: np.ndarray | None) -> bool | None:
    """Whether the program was compiled with this calibration data; None where the bundle does not say."""
    if program.options.get("calibration") != "given":
        return True  # made-up data is made up again
    if calibration is None:
        return False
    noted = program.options.get("calibration_sha256")
    return None if noted is None else noted == digest_of(calibration)


def _stages(captured: Graph, executed: Sequence[Executed]) -> list[Stage]:
    found = [Stage(CAPTURED, EXACT, captured)]
    scales: dict[str, np.ndarray] = {}
    thresholds: dict[str, np.ndarray] = {}
    for stage in executed:
        graph = stage.result.graph
        if not stage.result.modified:
            continue
        # Scales stand behind converted neurons until they are folded into weights; what they say stays true.
        for node in converted_neurons(graph):
            scales[node.name] = np.asarray(graph[node.name + SCALE_SUFFIX].op.scale, np.float64)
            thresholds[node.name] = threshold_of(node.op)
        before, item = found[-1], stage.item
        if is_quantised(graph) and not before.integers:
            made = _quantised(item.name, graph)
        else:
            repeats = same_function(before.graph, graph)
            made = [Stage(item.name, item.contract, graph, before.integers, repeats=repeats)]
        found += [replace(each, scales=dict(scales), thresholds=dict(thresholds)) for each in made]
    return found


def _quantised(name: str, graph: Graph) -> list[Stage]:
    return [Stage(f"{name}: weights", BOUNDED, graph), Stage(f"{name}: state", BOUNDED, graph, integers=True)]


def completes(name: str) -> bool:
    """Whether a stage makes up for what the one before it left open: conversion ends with calibrated thresholds."""
    return name == "calibrate-thresholds"


def is_quantised(graph: Graph) -> bool:
    """Whether the chip's part of a graph holds integers."""
    return PROPERTIES["quantised"](graph) and any(node.quant is not None for node in graph)
