"""Tables of what capture understands: leaf module classes and functions, each with its handler.

A handler is called after the module or function has run; it gets a `Call`, then exactly the
arguments of the call, and returns the name of the node that stands for the result. Other
frontends add their own neurons here with the same decorators:

    @module(snntorch.Leaky)
    def leaky(call, module, x): ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

Handler = Callable[..., "str | None"]


class Unsupported(Exception):  # noqa: N818 - not an error yet: capture turns it into a finding and goes on
    """Raised by a handler: the call is known, but not in this form."""

    def __init__(self, message: str, supported: str = "", suggestion: str = "", code: str = "E0402") -> None:
        super().__init__(message)
        self.code, self.message, self.supported, self.suggestion = code, message, supported, suggestion


class Entry(NamedTuple):
    """One row of a table.

    `stem` names nodes of a function; `drives` marks a module whose handler runs it by itself.
    """

    handler: Handler
    stem: str = ""
    drives: bool = False


MODULES: dict[type[nn.Module], Entry] = {}
FUNCTIONS: dict[Any, Entry] = {}

CONTAINERS: tuple[type[nn.Module], ...] = (nn.Module, nn.Sequential, nn.DataParallel)
"""Classes of torch whose forward is looked into, as if the user had written it."""


def module(*classes: type[nn.Module], drives: bool = False) -> Callable[[Handler], Handler]:
    """Register a handler ``(call, module, *args, **kwargs)`` for leaf modules of exactly these classes."""

    def register(handler: Handler) -> Handler:
        MODULES.update((cls, Entry(handler, drives=drives)) for cls in classes)
        return handler

    return register


def function(stem: str, *names: str) -> Callable[[Handler], Handler]:
    """Register a handler ``(call, *args, **kwargs)`` for functions, given as ``torch.add``,
    ``F.relu`` or ``Tensor.add``; nodes are named after `stem`.

    Names that this version of torch does not have are left out.
    """

    def register(handler: Handler) -> Handler:
        for name in names:
            space, attribute = name.split(".")
            owner = {"torch": torch, "F": nn.functional, "Tensor": torch.Tensor}[space]
            if hasattr(owner, attribute):
                FUNCTIONS[getattr(owner, attribute)] = Entry(handler, stem)
        return handler

    return register


def leaf_entry(mod: nn.Module, patched: bool) -> Entry | None:
    """The row for a module, or None if it is to be looked into.

    Only exact classes count (a subclass may compute anything), with one exception: torch's
    parametrizations subclass the module's class without changing what it computes.
    `patched` says that the user replaced this instance's ``forward``.
    """
    if patched:
        return None
    cls = type(mod)
    if nn.utils.parametrize.is_parametrized(mod):
        cls = cls.__mro__[1]
    return MODULES.get(cls)


def is_foreign_leaf(mod: nn.Module, patched: bool) -> bool:
    """Whether a module is torch's own (not the user's code) and nothing here knows it."""
    if patched:
        return False
    owner = next((cls for cls in type(mod).__mro__ if "forward" in vars(cls)), nn.Module)
    if owner in MODULES or owner in CONTAINERS or owner.__name__ in ("OptimizedModule", "ParametrizationList"):
        return False
    return owner.__module__.partition(".")[0] == "torch"


SUPPORTED = (
    "convolutions, linear layers, batch and layer normalisation, 2-d pooling, activations, dropout, flatten, mean, "
    "cat, x + y, x * constant (the whole list: hsnn-compile explain {code})"
)

HINTS = {
    "sum": "x.mean(axes) * size, if the axes are not the batch",
    "permute": "order the axes as PyTorch's layers want them before the model",
    "transpose": "order the axes as PyTorch's layers want them before the model",
    "__getitem__": "cut the input before the model, or use layers with fewer outputs",
    "chunk": "one layer per part instead of one layer that is split",
    "split": "one layer per part instead of one layer that is split",
    "stack": "torch.cat along an axis that exists",
    "pow": "ReLU-like activations; products of computed values cannot be mapped",
    "silu": "nn.ReLU, and train again",
    "elu": "nn.ReLU, and train again",
    "argmax": "take the argmax outside the model",
}
"""What to try instead of an unsupported function, by its bare name."""
