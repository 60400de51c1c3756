"""Small operations on signals, [time, batch, ...]."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.ir.graph import Node


def add(parts: list[Tensor]) -> Tensor:
    """Everything that arrives at a port, added up."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def count_spikes(value: Tensor) -> float:
    """Number of spikes; those of bytes are all 0 or 1, and counted as they lie in memory."""
    if value.dtype is torch.uint8:
        array = value.numpy()
        order = np.argsort(array.strides)[::-1]
        return float(np.count_nonzero(array.transpose(order).view(np.bool_)))
    return float(value.detach().sum(dtype=torch.float64))


def decode(node: Node, value: Tensor) -> Tensor:
    """[time, batch, ...] to [batch, ...]."""
    kind = node.op.kind
    out = value[-1] if kind == "last" else value.sum(0) if kind == "sum" else value.mean(0)
    return out if node.op.gain == 1 else out * node.op.gain
