"""Checks of a finished capture, by running the model and the graph.

They do not know how capture works, and so they also catch what it may have missed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hsnn_compiler.diagnostics import Finding, HsnnError, Source, refuse
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.nn import reset_states
from hsnn_compiler.reference.float_executor import FloatExecutor

Tensors = list[torch.Tensor]


def check_repeatable(model: nn.Module, inputs: Tensors, result: Any, spiking: bool) -> Tensors:
    """Refuse a model whose output depends on more than its input (E0411, E0406); return its outputs.

    That is: on earlier calls, on chance, or on the other samples of the batch and their number.
    """
    runs = [] if spiking else [_results(result)]  # capture runs a TimeLoop for one step only
    while len(runs) < 2:
        runs.append(_results(model(*(item.clone() for item in inputs))))
    reset_states(model)
    if not _close(runs[0], runs[1]):
        raise refuse(
            "E0411",
            "the same input gives different outputs: the model keeps state, or draws random numbers",
            supported="models whose output depends on their input alone",
            suggestion="put neurons with state into hsnn_compiler.nn.TimeLoop; no random numbers in forward",
        )
    try:
        few = _results(model(*(item[:2].clone() for item in inputs)))
    except Exception as error:
        raise HsnnError(wrong_batch(f"a batch of {len(inputs[0])} but not of 2: {error}")) from error
    finally:
        reset_states(model)
    # Spikes amplify rounding, which may differ between batch sizes: few may differ, all hardly.
    if not _close([item[:2] for item in runs[0]], few, spiking):
        text = f"batches of {len(inputs[0])} and of 2, with different outputs per sample"
        raise HsnnError(wrong_batch(text))
    return runs[0]


def check_same(graph: Graph, inputs: Tensors, expected: Tensors) -> None:
    """Run the graph: it must give what the model gave."""
    names = [node.name for node in graph.of_kind("Input")]
    arrays = {name: item.to(torch.float32).numpy() for name, item in zip(names, inputs, strict=True)}
    outputs = FloatExecutor(graph).run(arrays).outputs.values()
    if not _close([torch.from_numpy(output) for output in outputs], expected, graph.timesteps is not None):
        raise refuse(
            "E0103",
            f"the captured graph does not compute what the model {graph.name!r} computes",
            suggestion="please report this; threads and code outside PyTorch are the usual suspects",
        )


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


def _results(result: Any) -> Tensors:
    return [result] if isinstance(result, torch.Tensor) else list(result)


def _close(a: Tensors, b: Tensors, spiking: bool = False) -> bool:
    """Whether outputs agree up to rounding; with spikes, whether most of them do."""
    for x, y in zip(a, b, strict=True):
        if x.shape != y.shape:
            return False
        coarse = torch.finfo(y.dtype).eps > 1e-6 if y.is_floating_point() else False
        rtol = 0.1 if coarse else 1e-3
        x, y = x.to(torch.float64), y.to(torch.float64)
        atol = rtol * float(y[y.isfinite()].abs().max()) if y.isfinite().any() else 0.0
        equal = torch.isclose(x, y, rtol=rtol, atol=max(atol, 1e-6), equal_nan=True)
        if equal.double().mean() < (0.5 if spiking else 1.0):
            return False
    return True
