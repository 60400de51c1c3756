"""What the first step of a loop gets in the place of the step before: it has to be what zeros give.

An edge with a delay of one step delivers zeros in the first step. Python code starts from a constant instead,
so a sum of the first step holds ``W 0 + b`` as a constant, or a term less where that is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.frontends.torch.loop_steps import Steps, unlike
from hsnn_compiler.ir.graph import Node
from hsnn_compiler.reference.torch_ops import bind

RTOL = 1e-5
"""Constants are computed by torch in float32, here and in the model."""


def wrong_starts(loop: Steps, may_start: Callable[[int], bool]) -> Iterator[Finding]:
    """Findings for sums whose first step gets something else than zeros from before the loop.

    Args:
        loop: the steps.
        may_start: whether the sum at an offset may start from a constant, because all it does is add up.
    """
    for offset, name in enumerate(loop.body):
        node = loop.graph[name]
        if node.kind != "Add" or (own := _constant(loop, offset, node)) is None:
            continue
        wanted = _at_zero(loop, offset)
        scale = max(1.0, float(np.abs(own).max(initial=0.0)))
        if wanted is None or np.allclose(own, wanted, rtol=RTOL, atol=RTOL * scale) or may_start(offset):
            continue
        first = loop.graph[loop.first[offset]] if offset in loop.first else node
        yield unlike(
            first,
            f"the first step gets a constant other than zero for what {name} gets from the step before",
            "torch.zeros in the place of what the step before computes",
        )


def _constant(loop: Steps, offset: int, node: Node) -> np.ndarray | None:
    """What the first step adds instead of terms it does not have; None where it has all of them."""
    if offset not in loop.first:
        missing = [f for f in loop.feeds(loop.body[offset]) if not (f.lag == 0 and f.offset in loop.first)]
        present = len(loop.feeds(loop.body[offset])) - len(missing)
        return np.zeros(node.shape) if missing and present else None
    first = loop.graph[loop.first[offset]]
    if first.kind != "BatchNorm":
        return None
    bias = np.asarray(first.op.bias, np.float64)
    return np.broadcast_to(bias.reshape(-1, *[1] * (len(node.shape) - 1)), node.shape)


def _at_zero(loop: Steps, offset: int) -> np.ndarray | None:
    """What the terms of a sum add up to that the first step does not have, if the step before gave zeros."""
    total = np.zeros(loop.graph[loop.body[offset]].shape)
    for feed in loop.feeds(loop.body[offset]):
        if feed.lag == 0 and feed.offset not in loop.first:
            term = _value(loop, feed.offset)
            if term is None:
                return None
            total = total + term[0].numpy()
    return total


def _value(loop: Steps, offset: int) -> torch.Tensor | None:
    """A node's output [1, ...] if the step before gave zeros; None if it depends on more than that step."""
    inputs = []
    node = loop.graph[loop.body[offset]]
    for feed in loop.feeds(node.name):
        if feed.lag == 1:
            inputs.append(torch.zeros(1, *loop.graph[loop.body[feed.offset]].shape))
        elif feed.lag == 0 and feed.offset not in loop.first and (part := _value(loop, feed.offset)) is not None:
            inputs.append(part)
        else:
            return None
    if node.is_neuron or not inputs:
        return None
    with torch.no_grad():
        value: torch.Tensor = bind(node.op, torch.float32)(*inputs)
    return value
