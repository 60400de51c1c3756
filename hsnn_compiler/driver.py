"""From a model to a program: frontend, passes, backend, in one place.

The command line is a thin skin over `compile`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hsnn_compiler import families
from hsnn_compiler.diagnostics import Finding, HsnnError, refuse
from hsnn_compiler.finetune import NOT_AT_ALL, Finetune, training_data, untrained
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.options import FORCE_ZERO, Options
from hsnn_compiler.passes.base import Pass, PassContext, Progress, no_progress
from hsnn_compiler.passes.layer_options import check_layer_options
from hsnn_compiler.passes.pipeline import Stage, parse_pipeline, run_pipeline, to_text
from hsnn_compiler.passes.properties import COMPLETE, PROPERTIES
from hsnn_compiler.program import Program, StageRecord
from hsnn_compiler.reference.batches import batches
from hsnn_compiler.series import as_spikes
from hsnn_compiler.targets import load_target

if TYPE_CHECKING:
    import torch

ACCURACY_DROP = 0.5
ASSUMED_SAMPLES = 64
EXAMPLE_SAMPLES = 2
FEW_SAMPLES = 16
OVERFLOW_SAMPLES = 32


@dataclass(frozen=True)
class Hooks:
    """How a caller watches: after each stage, and during long work."""

    stage: Callable[[int, int, Stage], None] = lambda number, total, stage: None
    progress: Progress = no_progress


def compile(  # noqa: A001
    model: torch.nn.Module | Graph,
    *,
    target: str = "loihi2",
    example: Any = None,
    calibration: Any = None,
    axes: str = "B",
    timesteps: int | Literal["auto"] | None = None,
    pipeline: str = "",
    layers: Mapping[str, Mapping[str, str]] | None = None,
    reset: str = "",
    seed: int = 0,
    coding: str = "rate",
    max_spikes: int = 1,
    encode: str = "current",
    samples: str = "pipelined",
    objective: str = "auto",
    max_crossings: int | None = None,
    labels: Any = None,
    accuracy_drop: float = ACCURACY_DROP,
    finetune: Finetune | tuple[Any, Any] | None = None,
    finetune_epochs: int | None = None,
    name: str = "model",
) -> Program:
    """Compile a trained network.

    Args:
        model: a PyTorch module, or a captured graph.
        target: name of the target, see ``hsnn-compile targets``.
        example: inputs [samples, ...] for capture; by default the calibration data.
        calibration: inputs [samples, ...]; without them, uniform noise is assumed and said.
        axes: leading axes of what the model's forward takes: ``"B"``, batch; ``"TB"`` or ``"BT"``, time and
            batch. Data (`example`, `calibration`) is then [samples, time, ...] all the same.
        timesteps: steps per sample; also how often a model is called that computes one step per call. ``"auto"``
            chooses the fewest that keep the accuracy on calibration data, see `hsnn_compiler.choice`.
        pipeline: see `Options`.
        layers: see `Options`.
        reset: see `Options`.
        seed: see `Options`.
        coding: see `Options`.
        max_spikes: see `Options`.
        encode: see `Options`.
        samples: see `Options`.
        objective: see `Options`.
        max_crossings: see `Options`.
        labels: classes [samples] of the calibration data, for ``timesteps="auto"``; without them accuracy is
            agreement with the model's own predictions.
        accuracy_drop: percent points that ``timesteps="auto"`` may lose.
        finetune: inputs [samples, ...] and classes [samples] or None to fine-tune on, docs/fine-tuning.md.
        finetune_epochs: see `Options`.
        name: name of the model.

    Raises:
        HsnnError: with all findings of the stage that refuses.
    """
    steps = None if timesteps == "auto" else timesteps
    drop = accuracy_drop if timesteps == "auto" else None
    options = Options(
        target=target,
        timesteps=steps,
        pipeline=pipeline,
        layers=layers or {},
        reset=reset,
        seed=seed,
        coding=coding,
        max_spikes=max_spikes,
        encode=encode,
        samples=samples,
        objective=objective,
        max_crossings=max_crossings,
        accuracy_drop=drop,
        finetune_epochs=finetune_epochs,
    )
    findings: Sequence[Finding] = ()
    if isinstance(model, (str, Path)):
        raise refuse(
            "E0208",
            f"{str(model)!r} is a path, not a model",
            suggestion="hsnn_compiler.loading.load_model(path).module",
        )
    data = None if calibration is None else np.asarray(calibration, np.float32)
    if data is not None and not np.isfinite(data).all():
        raise refuse("E0313", "the calibration data holds NaN or infinite values")
    if not isinstance(model, Graph):
        sample = example if example is not None else data
        if sample is None:
            raise refuse("E0215", "the shape of the model's input is not known", suggestion="pass example=x[:1]")
        model, findings = capture_model(model, np.asarray(sample, np.float32), name, axes, steps)
    return lower(
        model,
        options,
        data,
        findings=findings,
        labels=None if labels is None else np.asarray(labels),
        finetune=finetune if isinstance(finetune, Finetune) else training_data(finetune),
    )


def capture_model(
    module: torch.nn.Module, example: np.ndarray, name: str, axes: str = "B", timesteps: int | None = None
) -> tuple[Graph, list[Finding]]:
    """Capture a PyTorch module by running it on an example [samples, ...], or [samples, time, ...]; see `compile`.

    Returns:
        The graph, and what is to be said of it although nothing is wrong.
    """
    import torch

    from hsnn_compiler.frontends.torch import capture

    few = np.ascontiguousarray(example[:2].swapaxes(0, 1) if axes.strip("()") == "TB" else example[:2])
    findings: list[Finding] = []
    graph = capture(module, torch.from_numpy(few), name=name, axes=axes, timesteps=timesteps, findings=findings)
    return graph, findings


def lower(
    graph: Graph,
    options: Options,
    calibration: np.ndarray | None,
    hooks: Hooks = Hooks(),
    source: Mapping[str, str] | None = None,
    findings: Sequence[Finding] = (),
    labels: np.ndarray | None = None,
    finetune: Finetune = NOT_AT_ALL,
) -> Program:
    """Run the pipeline and the backend's check on a captured graph.

    Args:
        graph: as captured.
        options: what is asked for.
        calibration: inputs [samples, ...]; None for noise.
        hooks: how to watch.
        source: where the model came from.
        findings: those of the capture.
        labels: classes [samples] of the calibration data, for choosing the number of time steps.
        finetune: what passes train on.
    """
    passes = parse_pipeline(options.pipeline)
    graph, refused = as_spikes(graph, calibration, options.timesteps)
    _check_options(graph, options, passes, refused)
    if finetune.data is not None:
        next(batches(graph, finetune.data[0], 1))  # refuses what is not shaped like the input
    choice = None
    if options.accuracy_drop is not None:
        from hsnn_compiler.choice import choose_timesteps

        choice = choose_timesteps(graph, options, calibration, labels, hooks.progress)
        options = replace(options, timesteps=choice.timesteps, accuracy_drop=None)
    findings = list(findings)
    assumed = calibration is None
    if calibration is None:
        calibration = assume_calibration(graph, options.seed)
        findings.append(_assumption(calibration))
    else:
        findings += _doubts(calibration)
    context = PassContext(
        timesteps=options.timesteps,
        calibration=calibration,
        assumed=assumed,
        target=load_target(options.target),
        layers=options.layers,
        reset="zero" if options.reset == FORCE_ZERO else options.reset,
        force_zero=options.reset == FORCE_ZERO,
        coding=options.coding,
        max_spikes=options.max_spikes,
        encode=options.encode,
        samples=options.samples,
        objective=options.objective,
        max_crossings=options.max_crossings,
        batch_size=options.batch_size,
        progress=hooks.progress,
        finetune=replace(finetune, epochs=options.finetune_epochs),
    )
    floating, current = graph, graph
    records: list[StageRecord] = []
    trained: dict[str, dict[str, np.ndarray]] = {}
    for number, stage in enumerate(run_pipeline(graph, passes, context), start=1):
        if stage.item.name in families.MAPPING_PASSES:
            floating = current
        current = stage.result.graph
        findings += stage.result.findings
        done = stage.result
        records.append(StageRecord(to_text([stage.item]), stage.item.contract, done.modified, done.notes, done.tables))
        if done.trained:
            trained[stage.item.name] = dict(done.trained)
        hooks.stage(number, len(passes), stage)
    if finetune.data is not None and not trained:
        findings.append(untrained())
    findings += _check_backend(current, options.target)
    if families.family_of(options.target) == families.LOIHI:
        findings += _check_overflow(current, calibration[:OVERFLOW_SAMPLES])
    return Program(
        graph=current,
        floating=floating,
        target=options.target,
        source=dict(source or {}),
        options=options.plain(to_text(passes), None if assumed else calibration, finetune.data),
        stages=tuple(records),
        findings=tuple(findings),
        example=calibration[:EXAMPLE_SAMPLES],
        choice=choice,
        trained=trained,
    )


def load(directory: str | Path) -> Program:
    """Read a bundle that `Program.save` or the command line wrote."""
    from hsnn_compiler.bundle import read_bundle

    return read_bundle(directory)


def assume_calibration(graph: Graph, seed: int) -> np.ndarray:
    """Uniform noise in [0, 1] of the input's shape, for when there is no data."""
    inputs = graph.of_kind("Input")
    if len(inputs) != 1:
        raise refuse("E0216", f"the model has {len(inputs)} inputs", supported="models with one input")
    shape = (ASSUMED_SAMPLES, *inputs[0].shape)
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def _assumption(calibration: np.ndarray) -> Finding:
    return Finding(
        "W0214",
        f"no calibration data: {len(calibration)} samples of uniform noise between 0 and 1 stand in for it;"
        " thresholds and current ranges will not fit real data well",
        suggestion="pass --calib data.npz with a few hundred inputs like those the model was trained on",
    )


def _doubts(calibration: np.ndarray) -> list[Finding]:
    """Calibration data that says little."""
    few = f"only {len(calibration)} samples" if len(calibration) < FEW_SAMPLES else ""
    constant = "all samples are the same" if len(calibration) > 1 and not np.ptp(calibration, axis=0).any() else ""
    way_out = "pass a few hundred inputs like those the model was trained on"
    return [Finding("W0222", f"calibration data: {what}", suggestion=way_out) for what in (few, constant) if what]


def _check_options(graph: Graph, options: Options, passes: Sequence[Pass], found: Sequence[Finding]) -> None:
    findings = [*options.problems(), *found]
    keys = {key for item in passes for key in item.layer_options}
    findings += check_layer_options(graph, options.layers, keys)
    if findings:
        raise HsnnError(findings)


def _check_backend(graph: Graph, target: str) -> list[Finding]:
    found = families.check(graph, target)
    if any(finding.is_error for finding in found):
        raise HsnnError(found)
    return found


def _check_overflow(graph: Graph, samples: np.ndarray) -> list[Finding]:
    """Run a few samples on the integers and say which populations leave the range of their state."""
    if not all(PROPERTIES[name](graph) for name in COMPLETE):
        return []
    from hsnn_compiler.reference.loihi_executor import LoihiExecutor

    findings = []
    for name, count in LoihiExecutor(graph).run(samples).saturated.items():
        what = "left the range of the chip's state"
        way_out = "fewer time steps, or compare accuracy: simulate --backend float and --backend reference"
        if graph[name].is_event_source:
            what, way_out = "lay outside the range of this encoder", "nothing, if the model clips them there, too"
        if count:
            message = f"{count} values {what} in {len(samples)} calibration samples"
            findings.append(Finding("W0451", message, node=name, source=graph[name].source, suggestion=way_out))
    return findings
