"""Small operations on signals, [time, batch, ...]."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def add(parts: list[Tensor]) -> Tensor:
    """Everything that arrives at a port, added up; spikes kept as bytes become integers of 32 bits."""
    total = parts[0]
    for part in parts[1:]:
        total = total.to(torch.int32) + part if total.dtype in (torch.int8, torch.uint8) else total + part
    return total


def count_spikes(value: Tensor) -> float:
    """Sum of all spikes."""
    return count_events(value) if value.dtype is torch.uint8 else float(value.detach().sum(dtype=torch.float64))


def count_events(value: Tensor) -> int:
    """How many elements are not zero; bytes are counted as they lie in memory, which torch is slow at."""
    if value.dtype is not torch.uint8:
        return int(value.count_nonzero())
    array = value.numpy()
    return int(np.count_nonzero(array.transpose(np.argsort(array.strides)[::-1])))
