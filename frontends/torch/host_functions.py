"""The functions that are recorded as host calls, as objects; the names are those of `hsnn_compiler.ir.host_call`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.registry import HINTS, SUPPORTED, Entry, Unsupported
from hsnn_compiler.reference.host_calls import TABLE

IN_PLACE = {
    f"Tensor.{name}": f"Tensor.{name.strip('_').removeprefix('i').replace('truediv', 'div')}"
    for name in ("__iadd__", "__isub__", "__imul__", "__itruediv__")
} | {
    f"Tensor.{name}_": f"Tensor.{name}"
    for name in ("add", "sub", "mul", "div", "pow", "exp", "log", "sqrt", "abs", "clamp", "masked_fill")
}
"""In-place methods, and those that return what they would write."""


def _functions() -> Iterator[tuple[Any, str]]:
    owners = {"torch": torch, "Tensor": torch.Tensor, "F": nn.functional, "linalg": torch.linalg}
    for name in TABLE:
        space, attribute = name.split(".")
        found = getattr(owners[space], attribute)
        yield (found if callable(found) else found.__get__), name
    for name, pure in IN_PLACE.items():
        yield getattr(torch.Tensor, name.split(".")[1]), pure


NAMES: dict[Any, str] = dict(_functions())
WRITES = frozenset(getattr(torch.Tensor, name.split(".")[1]) for name in IN_PLACE)


COPIES = frozenset(
    [torch.clone, torch.detach, torch.dropout, nn.functional.dropout]
    + [getattr(torch.Tensor, name) for name in ("clone", "contiguous", "cpu", "detach", "float", "to")]
)
"""Functions that give back what they are given, as far as they are allowed at all."""


class NoFormError(Unsupported):
    """The call has no form of its own in the graph, whatever its arguments."""


def host_entry(func: Any) -> Entry | None:
    """The row of a function that is a host call and nothing else; None if it is not known."""
    if func not in NAMES:
        return None
    short = NAMES[func].split(".")[1]
    hint = HINTS.get(short if short == "__getitem__" else short.strip("_"), "rewrite it with supported operations")

    def handler(call: Call, *args: Any, **kwargs: Any) -> str:
        message = f"operation {NAMES[func]} is not supported in this form"
        raise NoFormError(message, SUPPORTED.format(code="E0402"), hint)

    return Entry(handler, short.strip("_"))


def as_it_is_meant(func: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, dict[str, Any]]:
    """The arguments without ``inplace=True``, and without keywords that say nothing."""
    if not inspect.isfunction(func) or not NAMES[func].startswith("F."):
        return args, kwargs
    signature = inspect.signature(func)
    bound = signature.bind(*args, **kwargs)
    if bound.arguments.get("inplace"):
        bound.arguments["inplace"] = False
        args, kwargs = bound.args, bound.kwargs
    defaults = {key: parameter.default for key, parameter in signature.parameters.items()}
    return args, {key: item for key, item in kwargs.items() if not _says_nothing(item, defaults.get(key))}


def _says_nothing(item: Any, default: Any) -> bool:
    return item is default and (item is None or item is False)
