"""Capture: run a model once on an example, and get the graph of what it did.

The model is run in evaluation mode, without gradients, on a batch whose size is a prime that
occurs nowhere in the example's shape, so that a batch size written into the model shows.
Everything that happens between input and output is in the graph or in the findings.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import nir
import numpy as np
import torch
from torch import nn

# The tables fill when their modules are imported.
from hsnn_compiler.diagnostics import Finding, HsnnError, Source, refuse
from hsnn_compiler.frontends.torch import (  # noqa: F401
    arithmetic,
    functions,
    location,
    modules,
    neurons,
    reshaping,
    time_loop,
)
from hsnn_compiler.frontends.torch.checks import check_repeatable, check_same, jumps, wrong_batch
from hsnn_compiler.frontends.torch.crossings import scale_findings
from hsnn_compiler.frontends.torch.dialects import load_dialects
from hsnn_compiler.frontends.torch.quantised import merge_quantised
from hsnn_compiler.frontends.torch.recorder import DispatchMode, FunctionMode, watch_modules
from hsnn_compiler.frontends.torch.results import finished, outputs_of
from hsnn_compiler.frontends.torch.rolling import roll
from hsnn_compiler.frontends.torch.samples import STEPS_TO_SEE, Samples, StepByStep, Subject
from hsnn_compiler.frontends.torch.stateful import forget, prepared
from hsnn_compiler.frontends.torch.tracer import Tracer
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.spec import output_type, verify
from hsnn_compiler.ir.types import Coding, TensorType


def capture(
    model: nn.Module,
    example: torch.Tensor | Sequence[torch.Tensor],
    *,
    name: str = "model",
    axes: str = "B",
    timesteps: int | None = None,
    findings: list[Finding] | None = None,
) -> Graph:
    """Capture what a model computes as a graph.

    Loops over time, written in Python or inside of neurons that take a series, become one step of
    neurons with state. Of a model that is one step itself, `timesteps` says how often it is called.

    Args:
        model: the trained model. It is left as it was; the state of its neurons is reset.
        example: one input tensor, or one per argument of ``forward``, with `axes` in front.
            Only shapes and number types matter.
        name: the graph's name.
        axes: leading axes of the example: ``"B"``, batch; ``"TB"`` or ``"BT"``, time and batch. The
            graph's inputs then have time. ``"(TB)"``, ``"(BT)"``: the same, and the model gets them merged into one.
        timesteps: how often a model is called that computes one step per call.
        findings: a list that takes what is to be said although nothing is wrong.

    Returns:
        The graph: nodes ``input``, ``input_2``, ... and ``output``, ``output_2``, ... at its
        ends, leaf modules under their path, functions under the path of the module that calls
        them. Weights are float32 copies; shapes have no batch axis and no time axis.

    Raises:
        HsnnError: with all findings at once, codes E04xx.
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    if isinstance(model, torch.jit.ScriptModule):
        raise refuse(
            "E0401",
            "a TorchScript module cannot be captured",
            suggestion="give the nn.Module it was made from",
        )
    load_dialects()
    samples = Samples(example, axes)
    with _evaluation(model), torch.no_grad():
        tracer, result, subject = _whole_or_step_by_step(name, model, samples)
        tracer.said += scale_findings(tracer)
        outputs = outputs_of(tracer, result)
        _raise_findings(tracer, [output.node for output in outputs])
        graph, nodes = roll(tracer.graph, tracer.trail, list(tracer.calls.values()), [o.node or "" for o in outputs])
        graph = merge_quantised(finished(graph, nodes, len(samples.tensors)))
        expected = check_repeatable(subject, samples, outputs, jumps(graph))
        if problems := verify(graph):
            raise HsnnError(problems)
        check_same(graph, subject, samples, outputs, expected)
    if isinstance(subject, StepByStep):
        graph.timesteps = _asked_steps(timesteps, samples)
    if findings is not None:
        findings += tracer.said
    return graph


@contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and fresh neurons inside; every module's own mode back afterwards, and fresh neurons."""
    before = [(part, part.training) for part in model.modules()]
    model.eval()
    forget(model)
    try:
        yield
    finally:
        forget(model)
        for part, training in before:
            part.training = training


def _whole_or_step_by_step(name: str, model: nn.Module, samples: Samples) -> tuple[Tracer, Any, Subject]:
    """Run the model, or, if it turns out to be one step, the model once per step."""
    refused: HsnnError | None = None
    try:
        tracer, result = _traced(name, model, model, samples)
        if not tracer.is_one_step():
            return tracer, result, model
    except HsnnError as error:
        # A model that is one step may stop on a whole series, of which a layer takes time for channels.
        if samples.axes.time is None or samples.axes.steps < STEPS_TO_SEE:
            raise
        refused = error
    samples.first_steps(STEPS_TO_SEE)
    subject = StepByStep(model, samples.axes, STEPS_TO_SEE)
    try:
        tracer, result = _traced(name, model, subject, samples)
    except HsnnError as error:
        raise refused or error from None
    if refused and not tracer.is_stepped():
        raise refused
    return tracer, result, subject


def _traced(name: str, model: nn.Module, subject: Subject, samples: Samples) -> tuple[Tracer, Any]:
    """Run what is to be captured under watch, on copies of the inputs."""
    tracer = Tracer(Graph(name), samples.batch)
    tracer.frame = sys._getframe()
    copies = samples.all()
    for item in copies:
        shape = tuple(item.shape[samples.axes.count :])
        node = Node(tracer.graph.unique("input"), nir.Input(np.array(shape, np.int64)))
        kind = TensorType(shape, Coding.CURRENT) if samples.axes.has_time else output_type(node, [])
        tracer.graph.add(node.with_(type=kind))
        tracer.track(item, node.name, axes=samples.axes)
    if samples.axes.has_time:
        tracer.graph.timesteps = samples.axes.steps
    try:
        with prepared(model, samples.batch), watch_modules(tracer, model), DispatchMode(tracer), FunctionMode(tracer):
            result = subject(*copies)
    except HsnnError:
        raise
    except Exception as error:
        raise HsnnError(_stopped(tracer, subject, samples, error)) from error
    if tracer.failure is not None:
        raise tracer.failure
    return tracer, result


def _stopped(tracer: Tracer, subject: Subject, samples: Samples, error: Exception) -> list[Finding]:
    """The findings when the model's own code raised an exception."""
    place = Source("", *location.raised(error, tracer.frame))
    text = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    where = f"{tracer.broken} (forward)".strip()
    if tracer.findings:
        message = f"the model then stopped with {text}; what comes after is not checked"
        return [*_distinct(tracer.findings), Finding("E0410", message, where, place)]
    try:
        subject(*samples.few(1))
    except Exception:
        inputs = samples.few(1)
        first = inputs[0]
        shapes = ", ".join(str(list(one.shape[samples.axes.count :])) for one in inputs)
        return [
            Finding(
                "E0410",
                f"the model does not run on an example of shape {shapes}, {first.dtype}: {text}",
                where,
                place,
                suggestion="pass data or --input-shape as it was trained on; model.float() if it is not float32",
            )
        ]
    return [wrong_batch(f"one sample but not on a batch of {samples.batch}: {text}", where, place)]


def _asked_steps(timesteps: int | None, samples: Samples) -> int:
    """How often a model that is one step is to be called."""
    if timesteps is None and not samples.steps:
        raise refuse(
            "E0414",
            "the model computes one time step per call, and nothing says how many steps there are",
            supported="models with a loop over time, or a number of steps",
            suggestion="--timesteps 25, or in Python: timesteps=25",
        )
    return timesteps or samples.steps


def _raise_findings(tracer: Tracer, outputs: list[str | None]) -> None:
    """Raise what was found, except what concerns values that no output depends on."""
    live = [finding for i, finding in enumerate(tracer.findings) if i in tracer.always]
    if live:
        raise HsnnError([*_distinct(live), *tracer.said])
    if None in outputs:
        raise tracer.internal("an output without node and without finding")


def _distinct(findings: list[Finding]) -> list[Finding]:
    return list(dict.fromkeys(findings))
