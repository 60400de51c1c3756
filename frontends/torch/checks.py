"""Checks of a finished capture, by running the model and the graph.

They do not know how capture works, and so they also catch what it may have missed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hsnn_compiler.diagnostics import Finding, HsnnError, Source, refuse
from hsnn_compiler.frontends.torch.axes import Axes
from hsnn_compiler.frontends.torch.results import Output, flat
from hsnn_compiler.frontends.torch.samples import Samples, StepByStep, Subject
from hsnn_compiler.frontends.torch.stateful import prepared
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.reference.float_executor import FloatExecutor

FEW = 2
MOST = 0.9
"""Share of the results of models that jump in float32 that have to agree: a spike that rounding moves moves others."""


def jumps(graph: Graph) -> bool:
    """Whether a rounding error may grow to a spike, or to a level of a quantised activation."""
    return graph.timesteps is not None or bool(graph.of_kind("Quantised"))


def check_repeatable(subject: Subject, samples: Samples, outputs: Sequence[Output], jumpy: bool) -> list[Tensor]:
    """Refuse a model whose output depends on more than its input (E0411, E0406); return its outputs, samples first.

    That is: on earlier calls, on chance, or on the other samples of the batch and their number.
    """
    runs = [_run(subject, samples.all(), outputs, samples.batch) for _ in range(2)]
    if not _close(runs[0], runs[1]):
        raise refuse(
            "E0411",
            "the same input gives different outputs: the model keeps state, or draws random numbers",
            supported="models whose output depends on their input alone",
            suggestion="put neurons with state into hsnn_compiler.nn.TimeLoop; no random numbers in forward",
        )
    try:
        few = _run(subject, samples.few(FEW), outputs, FEW)
    except Exception as error:
        raise HsnnError(wrong_batch(f"a batch of {samples.batch} but not of {FEW}: {error}")) from error
    # Spikes amplify rounding, which may differ between batch sizes: few may differ, all hardly.
    if not _close([item[:FEW] for item in runs[0]], few, jumpy):
        text = f"batches of {samples.batch} and of {FEW}, with different outputs per sample"
        raise HsnnError(wrong_batch(text))
    return runs[0]


def check_same(
    graph: Graph, subject: Subject, samples: Samples, outputs: Sequence[Output], expected: list[Tensor]
) -> None:
    """Run the graph: it must give what the model gave. Models that jump are compared in float64, if they run in it."""
    exact = _in_double(subject, samples, outputs) if jumps(graph) else None
    dtype = torch.float32 if exact is None else torch.float64
    names = [node.name for node in graph.of_kind("Input")]
    arrays = {
        name: _samples_first(item, samples.axes, samples.batch).to(dtype).numpy()
        for name, item in zip(names, samples.all(), strict=True)
    }
    found = [torch.from_numpy(np.asarray(o)) for o in FloatExecutor(graph, dtype).run(arrays).outputs.values()]
    jumpy = jumps(graph) and exact is None
    if not _close(found, expected if exact is None else exact, jumpy):
        raise refuse(
            "E0103",
            f"the captured graph does not compute what the model {graph.name!r} computes",
            suggestion="please report this; threads and code outside PyTorch are the usual suspects",
        )


def _in_double(subject: Subject, samples: Samples, outputs: Sequence[Output]) -> list[Tensor] | None:
    """Outputs of the model in float64, its weights rounded to float32 as the graph's are; None where it refuses."""
    try:
        doubled = copy.deepcopy(subject)
        model = doubled.model if isinstance(doubled, StepByStep) else doubled
        assert isinstance(model, nn.Module)
        model.float().double()
        tensors = [item.double() if item.is_floating_point() else item for item in samples.all()]
        with _double_by_default():
            found = _run(doubled, tensors, outputs, samples.batch)
    except Exception:  # whatever it is, the comparison in float32 remains
        return None
    return found if all(item.dtype is torch.float64 for item in found) else None


class _NoFloat(TorchFunctionMode):
    """Lets ``x.float()`` give float64, as surrogate functions that make spikes of a comparison write it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (torch.Tensor.double if func is torch.Tensor.float else func)(*args, **(kwargs or {}))


@contextmanager
def _double_by_default() -> Iterator[None]:
    """float64 for tensors that say no number type of their own."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _NoFloat():
            yield
    finally:
        torch.set_default_dtype(before)


def _run(subject: Subject, inputs: list[Tensor], outputs: Sequence[Output], batch: int) -> list[Tensor]:
    """Outputs that the graph has, samples first, from neurons without memory of earlier runs."""
    model = subject.model if isinstance(subject, StepByStep) else subject
    assert isinstance(model, nn.Module)
    with prepared(model, batch):
        results = flat(subject(*inputs))
    return [_samples_first(results[output.number], output.axes, batch) for output in outputs]


def _samples_first(tensor: Tensor, axes: Axes, batch: int) -> Tensor:
    """[samples, ...], or [samples, time, ...] where there is time."""
    if axes.order in ("(TB)", "(BT)"):
        axes = Axes(axes.order.strip("()"), axes.steps)
        tensor = tensor.reshape(*axes.sizes(batch), *tensor.shape[1:])
    return tensor.transpose(0, 1).contiguous() if axes.order == "TB" else tensor


def wrong_batch(what: str, where: str = "(forward)", place: Source | None = None) -> Finding:
    """The finding (E0406) for a model that does not treat all batches alike."""
    return Finding(
        "E0406",
        f"the model runs on {what}",
        where,
        place or Source(),
        "models that treat every sample alike, in batches of any size",
        "use x.size(0) or -1 where a batch size is written as a number",
    )


def _close(a: Sequence[Tensor], b: Sequence[Tensor], jumpy: bool = False) -> bool:
    """Whether outputs agree up to rounding; where that may move spikes or levels, whether nearly all do."""
    for x, y in zip(a, b, strict=True):
        if x.shape != y.shape:
            return False
        coarse = torch.finfo(y.dtype).eps > 1e-6 if y.is_floating_point() else False
        rtol = 0.1 if coarse else 1e-3
        x, y = x.to(torch.float64), y.to(torch.float64)
        atol = rtol * float(y[y.isfinite()].abs().max()) if y.isfinite().any() else 0.0
        equal = torch.isclose(x, y, rtol=rtol, atol=max(atol, 1e-6), equal_nan=True)
        if equal.double().mean() < (MOST if jumpy else 1.0):
            return False
    return True
