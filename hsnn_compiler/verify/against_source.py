"""Verify a compiled program against its source, stage by stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hsnn_compiler.diagnostics import Finding, HsnnError, refuse
from hsnn_compiler.driver import capture_model
from hsnn_compiler.ir.graph import NOWHERE, Graph
from hsnn_compiler.passes.base import BOUNDED, EXACT, Progress, no_progress
from hsnn_compiler.verify.alone import Alone, first_loss, measure, variants
from hsnn_compiler.verify.bisect import Case, bisect
from hsnn_compiler.verify.causes import Change, causes
from hsnn_compiler.verify.differences import Off, differences
from hsnn_compiler.verify.replay import Outcome, replay
from hsnn_compiler.verify.runner import Runner, flat_outputs
from hsnn_compiler.verify.source import Source
from hsnn_compiler.verify.stages import (
    PROGRAM,
    Stage,
    calibration_matches,
    is_quantised,
    options_of,
    own_stages,
    recompile,
    uncorrected,
)
from hsnn_compiler.verify.waterfall import Waterfall

if TYPE_CHECKING:
    import torch

    from hsnn_compiler.program import Program

ALLOWED_DROP = 1.0


def verify(
    program: Program,
    model: torch.nn.Module | Graph,
    x: np.ndarray,
    y: np.ndarray | None = None,
    *,
    calibration: np.ndarray | None = None,
    axes: str = "B",
    lava: int = 0,
    alone: bool = False,
    find: bool = False,
    allowed_drop: float = ALLOWED_DROP,
    deadline_s: float = 600.0,
    progress: Progress = no_progress,
) -> Waterfall:
    """See `hsnn_compiler.program.Program.verify`."""
    x = np.asarray(x, np.float32)
    if y is not None and len(y) != len(x):
        raise refuse("E0315", f"{len(y)} labels for {len(x)} samples", supported="one label per sample")
    captured = (
        model if isinstance(model, Graph) else capture_model(model, x, program.graph.name, axes, program.timesteps)[0]
    )
    source = None if isinstance(model, Graph) else _source(model, captured, axes)
    if program.options.get("calibration") != "given":
        calibration = None  # made-up data is made up again
    stages, findings, again = _stages(program, captured, calibration, progress)
    origin, *outcomes = replay(stages, x, y, source, progress)
    findings += _inexact(stages, outcomes)
    outputs = source or _outputs_of(stages[0])
    plain = stages
    if again and (alone or find) and (options := uncorrected(options_of(program))) is not None:
        plain = recompile(captured, program, calibration, options, progress).stages
    known: list[Alone] = []
    if alone:
        known = [*first_loss(stages, outcomes), *measure(variants(plain), x, y, outputs, progress)]
    found = causes(captured, stages, outcomes, program.options)
    at = None
    if find:
        attempt = _attempts(program, captured, calibration, x, outputs) if again else None
        at = bisect(Case(stages, plain, outcomes, found, known, x, y, outputs, attempt, progress), allowed_drop)
    if lava:
        findings += _against_lava(program, x[:lava], deadline_s, progress)
    return Waterfall(
        program.graph.name,
        program.timesteps,
        [origin, *outcomes],
        findings,
        found,
        known,
        at,
        find,
        min(lava, len(x)) if lava else None,
    )


def _source(model: torch.nn.Module, captured: Graph, axes: str) -> Callable[[np.ndarray], np.ndarray] | None:
    source = Source(model, captured, axes)

    def run(x: np.ndarray) -> np.ndarray:
        found = source.run(x)
        if found is None:
            raise refuse(
                "E0604",
                "the model's output has not the shape that capture found",
                supported="[samples, ...], or all steps in front, for every number of samples",
                suggestion="give the same --axes as when compiling",
            )
        return flat_outputs(found, captured)

    return run


def _outputs_of(stage: Stage) -> Callable[[np.ndarray], np.ndarray]:
    runner = Runner(stage, ())
    return lambda x: runner.run(x).outputs


def _stages(
    program: Program, captured: Graph, calibration: np.ndarray | None, progress: Progress
) -> tuple[list[Stage], list[Finding], bool]:
    """The stages, what is to be said of them, and whether the program could be compiled again."""
    if calibration_matches(program, calibration) is False:
        given = "other calibration data than it was compiled with" if calibration is not None else "no calibration data"
        finding = Finding(
            "W0605",
            f"{given}: nothing can be compiled again, so only the graphs that the bundle holds are replayed",
            suggestion=f"--calib {program.source.get('calibration', 'FILE')}, the data it was compiled with",
        )
        return own_stages(captured, program), [finding], False
    again = recompile(captured, program, calibration, options_of(program), progress)
    off = differences(program.graph, again.program.graph)
    last = again.stages[-1]
    own = Stage(PROGRAM, EXACT, program.graph, is_quantised(program.graph), last.scales, last.thresholds)
    return [*again.stages, own], _not_the_same(off, program), True


def _not_the_same(off: list[Off], program: Program) -> list[Finding]:
    if not off:
        return []
    first = next((item for item in off if not item.is_rounding), off[0])
    what = f"{first.what}; {len({item.node for item in off})} nodes in all" if len(off) > 1 else first.what
    source = program.graph[first.node].source if first.node in program.graph else NOWHERE
    if first.is_rounding:
        message = f"compiling again gives other numbers, by rounding only: {what}"
        return [Finding("W0606", message, node=first.node, source=source)]
    return [
        Finding(
            "E0602",
            f"the bundle's graph is not what compiling again gives: {what}",
            node=first.node,
            source=source,
            suggestion="compile again; the same version, model, data and options give the same graph",
        )
    ]


def _inexact(stages: list[Stage], outcomes: list[Outcome]) -> list[Finding]:
    return [
        Finding(
            "E0601",
            f"{stage.name} is declared {stage.contract}, and changes what is computed: {outcome.departure}",
            node=outcome.departure.layer,
            suggestion="verify --bisect; report it with the model, if the pass is the compiler's own",
        )
        for stage, outcome in zip(stages, outcomes, strict=True)
        if outcome.departure is not None
    ]


def _attempts(
    program: Program,
    captured: Graph,
    calibration: np.ndarray | None,
    x: np.ndarray,
    source: Callable[[np.ndarray], np.ndarray],
) -> Callable[[Change], Outcome | str]:
    """A function that compiles with a change and gives the outcome in integers, or what the compiler said."""

    def attempt(change: Change) -> Outcome | str:
        options = options_of(program)
        layers = {name: dict(keys) for name, keys in options.layers.items()}
        for name, keys in (change.layers or {}).items():
            own = layers.setdefault(name, {})
            for key, value in keys.items():
                own.pop(key, None)
                own |= {} if value is None else {key: value}
        steps, reset = change.timesteps or options.timesteps, change.reset or options.reset
        options = replace(options, layers={k: v for k, v in layers.items() if v}, timesteps=steps, reset=reset)
        try:
            changed = recompile(captured, program, calibration, options, no_progress).program
        except HsnnError as error:
            return error.findings[0].message
        stage = Stage(PROGRAM, BOUNDED, changed.graph, integers=is_quantised(changed.graph))
        _, last = replay([stage], x, None, source, no_progress)
        return last

    return attempt


def _against_lava(program: Program, x: np.ndarray, deadline_s: float, progress: Progress) -> list[Finding]:
    """E0603 if Lava and the integer reference differ in any spike, u or v."""
    from hsnn_compiler.verify.traces import compare

    nodes = [node for node in program.graph if node.schedule is not None]
    signals = [(node.name, variable) for node in nodes for variable in "s" + node.states]
    ran = program.simulate(
        x, "lava", signals, deadline_s=deadline_s, progress=lambda done, total: progress("Lava", done, total)
    )
    different = compare(ran, program.simulate(x, "reference", signals))
    return [
        Finding("E0603", f"Lava and the integer reference differ: {item}", node=item.signal[0])
        for item in different[:1]
    ]
