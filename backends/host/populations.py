"""A population as an ONNX `Scan` over time: the step of the float executor, followed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.backends.host.builder import Block, Port
from hsnn_compiler.backends.host.tracing import Trace
from hsnn_compiler.ir.graph import Node
from hsnn_compiler.reference.float_neuron import FloatNeuron, FloatSigmaDelta


def population(t: Trace, node: Node, current: str, steps: int, parameter: Callable[[str, np.ndarray], Tensor]) -> str:
    """Name of what a population puts out, [batch, time, ...].

    Args:
        t: takes the nodes.
        node: neurons with dynamics, or sigma-delta neurons.
        current: name of what arrives, [batch, time, ...].
        steps: T, per sample.
        parameter: makes the tensor of a parameter from its name and values.
    """
    make = FloatNeuron if node.is_neuron else FloatSigmaDelta
    rule = make(node, torch.float32, parameter)
    shape = (t.batch, *node.shape)
    t.input(current, (t.batch, steps, *node.shape))  # its length is the number of samples
    state = t.call(rule.start, shape)
    if isinstance(rule, FloatNeuron) and rule.step_rule.reset_to_current:
        state.onward = state.v  # what the first step begins with
    names = [item.name for item in fields(state) if getattr(state, item.name) is not None]
    before = [t.name(getattr(state, name)) for name in names]

    block = Block()
    t.builder.blocks.append(block)
    inside = {name: t.builder.unique(f"{node.name}.{name}") for name in names}
    arriving = t.builder.unique(f"{node.name}.i")
    state = replace(state, **{name: t.input(text, shape) for name, text in inside.items()})
    sent = t.name(t.call(rule.step, t.input(arriving, shape), state))
    after = {name: getattr(state, name) for name in names}
    kept = _remembered(t, block, sent, inside, after)
    sizes: tuple[int | str, ...] = ("batch", *node.shape)
    block.inputs = [Port(inside[name], np.dtype(np.float32), sizes) for name in kept]
    block.inputs.append(Port(arriving, np.dtype(np.float32), sizes))
    for name, source in [*((name, t.name(after[name])) for name in kept), ("sent", sent)]:
        target = t.builder.unique(f"{node.name}.{name}")
        t.builder.copy_to(source, target)
        block.outputs.append(Port(target, np.dtype(np.float32), sizes))
    block.prune()
    t.builder.blocks.pop()

    starts = [start for name, start in zip(names, before, strict=True) if name in kept]
    return t.ops(
        "Scan", len(kept) + 1, *starts, current, body=block, num_scan_inputs=1, scan_input_axes=[1],
        scan_output_axes=[1],
    )[-1]  # fmt: skip


def _remembered(t: Trace, block: Block, sent: str, inside: dict[str, str], after: dict[str, Any]) -> list[str]:
    """The states on which what is sent depends, in this step or a later one."""
    kept: list[str] = []
    while True:
        needed = block.needs([sent, *(t.name(after[name]) for name in kept)])
        found = [name for name, text in inside.items() if text in needed]
        if found == kept:
            return kept
        kept = found
