"""`hsnn_compiler.nn.TimeLoop`: its body is captured on one step, between what makes the steps and what reads them.

Layer by layer over all steps (``layerwise=True``) it computes the same in evaluation mode, so it is captured alike.
"""

from __future__ import annotations

import torch
from torch import nn

from hsnn_compiler.frontends.torch.axes import SAMPLES, Axes
from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.crossings import agree_on_steps
from hsnn_compiler.frontends.torch.registry import Unsupported, module
from hsnn_compiler.frontends.torch.stateful import RESETS
from hsnn_compiler.frontends.torch.tracer import Tracer, Value
from hsnn_compiler.ir.types import Coding
from hsnn_compiler.nn import TimeLoop, reset_states

Tensor = torch.Tensor

ENCODERS = "the encoders of hsnn_compiler.nn, and code that repeats values along a new first axis"
DECODERS = "the decoders of hsnn_compiler.nn, and code that takes the mean, the sum or the last of the steps"


@module(TimeLoop, drives=True)
def _time_loop(call: Call, mod: TimeLoop, x: Tensor) -> str | None:
    """Encode, the body with fresh state, decode."""
    tracer = call.tracer
    if tracer.loop is not None:
        raise Unsupported("a TimeLoop inside a TimeLoop", "one loop over time", code="E0407")
    if mod.layerwise:
        _need_own_neurons(mod.body)
    call.ignore(x)
    step = _first_step(call, mod.encoder, x)
    tracer.loop = f"{tracer.path}.body" if tracer.path else "body"
    try:
        result = mod.body(step)
    finally:
        tracer.loop = None
        reset_states(mod.body)
    if not isinstance(result, torch.Tensor) or not tracer.is_traced(result):
        raise Unsupported(
            "the body of a TimeLoop gives something other than one tensor computed from its input",
            "bodies that return one tensor",
            code="E0407",
        )
    (value,) = tracer.traced_in(result)
    call.taint.update(value.taint)
    return _read(call, mod.decoder, result, value)


def _first_step(call: Call, encoder: nn.Module, x: Tensor) -> Tensor:
    """What the body sees in one step, tracked as all steps of what the encoder makes."""
    tracer = call.tracer
    steps = encoder(x)
    value = _value(tracer, steps)
    if value is not None:
        call.taint.update(value.taint)
    if value is not None and value.axes.order == "TB" and _per_step(tracer, value):
        agree_on_steps(call, value.axes.steps)
        node = value.node
    elif value is not None and value.taint:
        node = None  # what is wrong was said
    else:
        call.complain(
            Unsupported(f"what {type(encoder).__name__} makes is no series of T steps", ENCODERS, code="E0407")
        )
        node = None
    with tracer.silence():
        reset = x.clone() if node is None else steps[0].clone()
    if node is None:  # go on with the values themselves, to see what else there is to find
        tracer.track_unknown(reset, frozenset(call.taint), per_step=True)
    else:
        tracer.track(reset, node, frozenset(call.taint))
    return reset


def _read(call: Call, decoder: nn.Module, result: Tensor, value: Value) -> str | None:
    """The node of what the decoder makes of the body's results, and that as the result of the call."""
    tracer = call.tracer
    steps = tracer.graph.timesteps or 1
    with tracer.silence():
        series = result.unsqueeze(0).expand(steps, *result.shape).clone()
    tracer.track(series, value.node, frozenset(call.taint), Axes("TB", steps))
    out = decoder(series)
    found = _value(tracer, out)
    if found is not None:
        call.taint.update(found.taint)
    wrong = found is None or found.axes != SAMPLES or (found.node is not None and _per_step(tracer, found))
    if wrong and (found is None or not found.taint):
        call.complain(
            Unsupported(f"what {type(decoder).__name__} gives are no values, one per sample", DECODERS, code="E0407")
        )
    with tracer.silence():
        call.out = result.clone() if wrong else out.clone()
    return None if wrong or found is None else found.node


def _value(tracer: Tracer, item: object) -> Value | None:
    if not isinstance(item, torch.Tensor) or not tracer.is_traced(item):
        return None
    (value,) = tracer.traced_in(item)
    return value


def _per_step(tracer: Tracer, value: Value) -> bool:
    kind = None if value.node is None else tracer.graph[value.node].type
    return kind is not None and kind.coding is not Coding.VALUE


def _need_own_neurons(body: nn.Module) -> None:
    """Layer by layer, a neuron that has no ``reset_state()`` would see all steps as one batch."""
    foreign = [
        type(part).__name__
        for part in body.modules()
        if any(cls in RESETS for cls in type(part).__mro__) and not hasattr(part, "reset_state")
    ]
    if foreign:
        raise Unsupported(
            f"{foreign[0]} in a TimeLoop that runs layer by layer, which takes it for a layer without state",
            "neurons of hsnn_compiler.nn where layerwise=True",
            "TimeLoop(..., layerwise=False)",
            "E0407",
        )
