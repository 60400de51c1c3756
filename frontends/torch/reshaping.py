"""Reshapes: those that change nothing, and those that are a Flatten within one sample."""
# ruff: noqa: A002 - the parameters have torch's own names, so that they bind as torch's do

from __future__ import annotations

import math
from typing import Any

import nir
import numpy as np
import torch

from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.lowering import sample_axis
from hsnn_compiler.frontends.torch.registry import Unsupported, function
from hsnn_compiler.frontends.torch.tracer import Shape
from hsnn_compiler.ir.ops import Concat

Tensor = torch.Tensor


def reshaped(call: Call, x: Tensor) -> str:
    """The node for ``call.out``, which holds the elements of `x`, in order, in another shape."""
    batch, before, result = call.tracer.batch, call.shape(x), tuple(call.out.shape)
    axes = call.axes_of(x).reordered(result, batch)
    if axes is None:
        raise Unsupported(
            f"a reshape from {_names(before)} to {list(result)} mixes the batch axis with others "
            f"(captured with a batch of {batch})",
            "reshapes that keep the batch axis first, for any batch size",
            "write x.flatten(1) or x.view(x.size(0), -1)",
            "E0406",
        )
    call.axes, after = axes, result[axes.count :]
    if after == before:
        return call.node(x)
    merged = merged_axes(before, after)
    if merged is None:
        raise Unsupported(
            f"a reshape from {_names(before)} to {_names(after)}",
            "reshapes that merge neighbouring axes of a sample (Flatten)",
            "use x.flatten(1)",
        )
    shape = {"input": np.array(before, np.int64)}
    return call.emit(nir.Flatten(shape, start_dim=merged[0], end_dim=merged[1]), x)


def merged_axes(before: Shape, after: Shape) -> tuple[int, int] | None:
    """First and last of the neighbouring axes whose merging makes `after` of `before`, or None."""
    width = len(before) - len(after) + 1
    if width < 2:
        return None
    for start in range(len(after)):
        end = start + width
        if after == (*before[:start], math.prod(before[start:end]), *before[end:]):
            return start, end - 1
    return None


@function("flatten", "torch.flatten", "Tensor.flatten")
@function("reshape", "torch.reshape", "Tensor.reshape")
@function("view", "Tensor.view")
@function("squeeze", "torch.squeeze", "Tensor.squeeze")
@function("unsqueeze", "torch.unsqueeze", "Tensor.unsqueeze")
@function("reshape", "Tensor.view_as", "Tensor.reshape_as", "torch.ravel", "Tensor.ravel", "Tensor.unflatten")
def _reshape(call: Call, input: Tensor, *args: Any, **kwargs: Any) -> str:
    call.ignore(*args, *kwargs.values())
    return reshaped(call, input)


@function("", "torch.clone", "Tensor.clone", "torch.detach", "Tensor.detach", "Tensor.contiguous", "Tensor.cpu")
@function("", "Tensor.to", "Tensor.type", "Tensor.type_as", "Tensor.float", "Tensor.double", "Tensor.half")
@function("", "Tensor.requires_grad_", "Tensor.expand", "Tensor.expand_as", "torch.positive", "Tensor.positive")
@function("", "Tensor.bfloat16", "torch.broadcast_to", "Tensor.broadcast_to", "Tensor.__pos__")
def _same(call: Call, input: Tensor, *args: Any, **kwargs: Any) -> str:
    """Values and shape stay: no node."""
    call.ignore(*args, *kwargs.values())
    if call.out.shape != input.shape:
        raise Unsupported("an expand that changes the shape", "values of one shape")
    return call.node(input)


@function("cat", "torch.cat", "torch.concat", "torch.concatenate")
def _cat(call: Call, tensors: Any, dim: int = 0, *, out: None = None) -> str:
    if not all(call.is_traced(tensor) for tensor in tensors):
        raise Unsupported("a concatenation with a constant", "concatenation of computed tensors")
    return call.emit(Concat(sample_axis(call, tensors[0], dim)), *tensors, ports=True)


def _names(shape: Shape) -> str:
    return f"[{', '.join(['batch', *map(str, shape)])}]"
