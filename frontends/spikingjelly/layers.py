"""Layers of SpikingJelly: PyTorch's own, for one step ([B, ...]) or for a series ([T, B, ...])."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import torch
from spikingjelly.activation_based import layer
from torch import nn

from hsnn_compiler.frontends.torch import lowering
from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.registry import MODULES, Unsupported, module
from hsnn_compiler.ir.ops import NoOp

Tensor = torch.Tensor

SAME = (
    "Conv1d",
    "Conv2d",
    "Linear",
    "BatchNorm1d",
    "BatchNorm2d",
    "MaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "Flatten",
)
"""Layers that compute what the layer of that name in ``torch.nn`` computes, for each step."""


def _per_step(known: Callable[..., str | None]) -> Callable[..., str | None]:
    def handler(call: Call, mod: Any, x: Tensor) -> str | None:
        _check_mode(call, mod, x)
        return known(call, mod, x)

    return handler


def _check_mode(call: Call, mod: Any, x: Tensor) -> None:
    if mod.step_mode == "m" and call.axes_of(x).count != 2:
        raise Unsupported(
            f"layer.{type(mod).__name__} in multi-step mode gets a tensor without time",
            "[T, B, ...] in multi-step mode, [B, ...] in single-step mode",
            "repeat the input, x.unsqueeze(0).repeat(T, 1, ...), or give an example with time (axes='TB')",
            "E0407",
        )


for _name in SAME:
    if (_entry := MODULES.get(getattr(nn, _name))) is not None:
        module(getattr(layer, _name))(_per_step(_entry.handler))


@module(layer.ThresholdDependentBatchNorm1d, layer.ThresholdDependentBatchNorm2d)
def _threshold_dependent(call: Call, mod: Any, x_seq: Tensor) -> str:
    """A BatchNorm whose factor starts at ``alpha * v_th``."""
    _check_mode(call, mod, x_seq)
    return lowering.batch_norm(call, x_seq, mod.running_mean, mod.running_var, mod.weight, mod.bias, mod.eps)


@module(layer.Dropout, layer.Dropout2d)
def _dropout(call: Call, mod: Any, x: Tensor) -> str:
    return call.emit(NoOp(type(mod).__name__), x)


@module(layer.VotingLayer)
def _voting(call: Call, mod: Any, x: Tensor) -> str:
    """The mean of every `voting_size` neighbours; a rest at the end is left out."""
    _check_mode(call, mod, x)
    (size,) = lowering.need_rank(call, x, 1)
    votes = size // mod.voting_size
    weight = np.zeros((votes, size), np.float32)
    for vote in range(votes):
        weight[vote, vote * mod.voting_size : (vote + 1) * mod.voting_size] = 1 / mod.voting_size
    return call.emit(nir.Linear(weight), x)
