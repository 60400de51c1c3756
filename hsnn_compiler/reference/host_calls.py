"""Execution of `HostCall`: the table of functions, and how their arguments are put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.host_call import BATCH, FUNCTIONS, HostCall, Reference, parse_arguments, replace_leaves

HostFunction = Callable[..., Tensor]

_OWNERS: dict[str, Any] = {"torch": torch, "Tensor": Tensor, "F": F, "linalg": torch.linalg}
_LAYOUT_FREE = {"Tensor.view": "Tensor.reshape", "Tensor.view_as": "Tensor.reshape_as"}
"""What lies in memory how is no part of a graph, so a view may have to copy."""


def _table() -> dict[str, Callable[..., Any]]:
    found = {}
    for name in sorted(FUNCTIONS):  # a closed list: no name from a file comes here
        space, attribute = _LAYOUT_FREE.get(name, name).split(".")
        if hasattr(_OWNERS[space], attribute):
            found[name] = getattr(_OWNERS[space], attribute)
            if not callable(found[name]):  # x.T
                found[name] = found[name].__get__
    return found


TABLE = _table()
"""Every function that may be called, by name, as far as this version of torch has it."""


def bind_call(op: HostCall, dtype: torch.dtype, parameter: Callable[[str, np.ndarray], Tensor]) -> HostFunction:
    """The call as a function of what arrives at its ports, each [batch, ...].

    Args:
        op: the call.
        dtype: floating-point type of the result.
        parameter: makes the tensor of a floating-point constant from its name and values.

    Raises:
        HsnnError: E0105, here if this version of torch lacks the function; when called, if the
            inputs do not fit it or the result has not the shape that the op says.
    """
    function = TABLE.get(op.function)
    if function is None:
        raise refuse("E0105", f"this version of PyTorch ({torch.__version__}) has no {op.function}")
    constants = {
        name: parameter(name, array) if array.dtype.kind == "f" else torch.from_numpy(np.ascontiguousarray(array))
        for name, array in op.constants.items()
    }

    args, kwargs = parse_arguments(op.arguments)

    def run(*parts: Tensor) -> Tensor:
        if len(parts) != op.ports:
            raise refuse("E0105", f"{op.function} gets {len(parts)} inputs and has {op.ports} ports")
        batch = len(parts[0])

        def resolve(leaf: Any) -> Any:
            if leaf is BATCH:
                return batch
            return _port(leaf, parts) if leaf.kind == "x" else _constant(leaf, constants, batch)

        try:
            out = function(*replace_leaves(args, resolve), **{k: replace_leaves(v, resolve) for k, v in kwargs.items()})
            out = out if op.result is None else out[op.result]
            out = out.movedim(op.axis, 0).to(dtype)
        except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, AssertionError) as error:
            raise refuse("E0105", f"{op.function}({op.arguments}) cannot be computed: {error}") from error
        if tuple(out.shape) != (batch, *op.shape):
            raise refuse("E0105", f"{op.function} gives {list(out.shape[1:])} per sample, not {list(op.shape)}")
        return out

    return run


def run_call(function: HostFunction, parts: Sequence[Tensor], has_time: bool) -> Tensor:
    """Call for [batch, ...], or step by step for [time, batch, ...]."""
    return torch.stack([function(*step) for step in zip(*parts, strict=True)]) if has_time else function(*parts)


def _port(leaf: Reference, parts: Sequence[Tensor]) -> Tensor:
    value = parts[leaf.index]
    if leaf.convert:
        value = value.to(torch.int64 if leaf.convert == "int" else torch.bool)
    return value.movedim(0, leaf.axis or 0)


def _constant(leaf: Reference, constants: dict[str, Tensor], batch: int) -> Tensor:
    value = constants[f"c{leaf.index}"]
    if leaf.convert:
        return value.reshape(())
    if leaf.axis is None:
        return value
    sizes = [-1] * value.dim()
    sizes[leaf.axis] = batch
    return value.expand(sizes)
