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
from hsnn_compiler.frontends.torch import arithmetic, functions, location, modules, neurons, reshaping  # noqa: F401
from hsnn_compiler.frontends.torch.checks import check_repeatable, check_same, wrong_batch
from hsnn_compiler.frontends.torch.recorder import DispatchMode, FunctionMode, watch_modules
from hsnn_compiler.frontends.torch.tracer import Tracer
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.spec import output_type, verify
from hsnn_compiler.nn import reset_states

_BATCHES = (5, 7, 11, 13, 17, 19, 23, 29)


def capture(model: nn.Module, example: torch.Tensor | Sequence[torch.Tensor], *, name: str = "model") -> Graph:
    """Capture what a model computes as a graph.

    Args:
        model: the trained model. It is left as it was; the state of its neurons is reset.
        example: one input tensor, or one per argument of ``forward``; axis 0 is the batch.
            Only shapes and number types matter.
        name: the graph's name.

    Returns:
        The graph: nodes ``input``, ``input_2``, ... and ``output``, ``output_2``, ... at its
        ends, leaf modules under their path, functions under the path of the module that calls
        them. Weights are float32 copies; shapes have no batch axis.

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
    inputs = _batch(example)
    tracer = Tracer(Graph(name), len(inputs[0]))
    with _evaluation(model), torch.no_grad():
        result = _run(tracer, model, inputs)
        outputs = _outputs(tracer, result)
        _raise_findings(tracer, outputs)
        expected = check_repeatable(model, inputs, result, spiking=tracer.graph.timesteps is not None)
    graph = _finished(tracer, outputs, len(inputs))
    if problems := verify(graph):
        raise HsnnError(problems)
    check_same(graph, inputs, expected)
    return graph


def _batch(example: Any) -> list[torch.Tensor]:
    """The example's samples, repeated to a batch of a tell-tale size."""
    tensors = [example] if isinstance(example, torch.Tensor) else list(example)
    if not tensors or not all(isinstance(item, torch.Tensor) and item.dim() and len(item) for item in tensors):
        raise refuse(
            "E0408",
            "the example is not a batch of inputs",
            supported="a tensor, or a list of tensors, of shape [batch, ...]",
            suggestion="x[:1] of your data set",
        )
    if len({len(item) for item in tensors}) > 1:
        raise refuse(
            "E0408",
            f"inputs with batches of different sizes: {', '.join(str(len(item)) for item in tensors)}",
            supported="inputs that share axis 0, the batch",
        )
    taken = {size for item in tensors for size in item.shape}
    batch = next((size for size in _BATCHES if size not in taken), 31)
    rows = torch.arange(batch) % len(tensors[0])
    return [_noisy(item.detach().cpu()[rows].clone()) for item in tensors]


def _noisy(rows: torch.Tensor) -> torch.Tensor:
    """Make all samples different, so that whatever is computed from them differs too."""
    if not rows.is_floating_point():
        return rows
    noise = torch.rand(rows.shape, generator=torch.Generator().manual_seed(0))
    return rows + (0.05 * noise).to(rows.dtype)


@contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; every module's own mode back afterwards."""
    before = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


def _run(tracer: Tracer, model: nn.Module, inputs: list[torch.Tensor]) -> Any:
    """Run the model under watch, on copies of the inputs."""
    tracer.frame = sys._getframe()
    copies = [item.clone() for item in inputs]
    for item in copies:
        shape = tuple(item.shape[1:])
        node = Node(tracer.graph.unique("input"), nir.Input(np.array(shape, np.int64)))
        tracer.graph.add(node.with_(type=output_type(node, [])))
        tracer.track(item, node.name)
    try:
        with watch_modules(tracer, model), DispatchMode(tracer), FunctionMode(tracer):
            result = model(*copies)
    except HsnnError:
        raise
    except Exception as error:
        raise HsnnError(_stopped(tracer, model, inputs, error)) from error
    finally:
        reset_states(model)
    if tracer.failure is not None:
        raise tracer.failure
    return result


def _stopped(tracer: Tracer, model: nn.Module, inputs: list[torch.Tensor], error: Exception) -> list[Finding]:
    """The findings when the model's own code raised an exception."""
    place = Source("", *location.raised(error, tracer.frame))
    text = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    where = f"{tracer.broken} (forward)".strip()
    if tracer.findings:
        message = f"the model then stopped with {text}; what comes after is not checked"
        return [*_distinct(tracer.findings), Finding("E0410", message, where, place)]
    single = [item[:1] for item in inputs]
    try:
        model(*single)
    except Exception:
        shapes = ", ".join(str(list(one.shape[1:])) for one in single)
        return [
            Finding(
                "E0410",
                f"the model does not run on an example of shape {shapes}, {single[0].dtype}: {text}",
                where,
                place,
                suggestion="pass data or --input-shape as it was trained on; model.float() if it is not float32",
            )
        ]
    finally:
        reset_states(model)
    return [wrong_batch(f"one sample but not on a batch of {len(inputs[0])}: {text}", where, place)]


def _outputs(tracer: Tracer, result: Any) -> list[str | None]:
    """Nodes of the model's results; whatever is wrong with a result becomes a finding."""
    tensors = result if isinstance(result, (tuple, list)) else [result]
    nodes: list[str | None] = []
    for i, tensor in enumerate(tensors):
        if tracer.is_traced(tensor):
            (value,) = tracer.traced_in(tensor)
            nodes.append(value.node)
            tracer.always |= value.taint
            if value.node is not None or value.taint:
                continue
        is_tensor = isinstance(tensor, torch.Tensor)
        tracer.always |= set(range(len(tracer.findings) + 1))  # any of them may be the reason
        what = "does not come from the input" if is_tensor else f"is a {type(tensor).__name__}"
        message = f"output {i + 1} of the model {what}"
        tracer.findings.append(
            Finding(
                "E0404",
                message,
                "output",
                Source(),
                "a tensor, or a tuple or list of tensors, computed from the input",
            )
        )
    if not nodes and not tracer.findings:
        raise refuse("E0404", "the model returns nothing", node="output")
    return nodes


def _raise_findings(tracer: Tracer, outputs: list[str | None]) -> None:
    """Raise what was found, except what concerns values that no output depends on."""
    live = [finding for i, finding in enumerate(tracer.findings) if i in tracer.always]
    if live:
        raise HsnnError(_distinct(live))
    if None in outputs:
        raise tracer.internal("an output without node and without finding")


def _distinct(findings: list[Finding]) -> list[Finding]:
    return list(dict.fromkeys(findings))


def _finished(tracer: Tracer, outputs: list[str | None], inputs: int) -> Graph:
    """Add the output nodes and leave out what no output depends on (inputs stay)."""
    graph = tracer.graph
    keep = {node.name for node in list(graph)[:inputs]}
    for feed in outputs:
        assert feed is not None
        node = Node(graph.unique("output"), nir.Output(np.array(graph[feed].shape, np.int64)))
        graph.add(node.with_(type=graph[feed].type), feed)
        keep |= {node.name} | graph.ancestors(node.name)
    for node in list(graph):
        if node.name not in keep:
            graph.remove(node.name)
    return graph
