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
FAMILIES: dict[type[nn.Module], Entry] = {}
FUNCTIONS: dict[Any, Entry] = {}

CONTAINERS: tuple[type[nn.Module], ...] = (nn.Module, nn.Sequential, nn.DataParallel)
"""Classes of torch whose forward is looked into, as if the user had written it."""


def family(*classes: type[nn.Module]) -> Callable[[Handler], Handler]:
    """Register a handler for leaf modules of these classes and of all subclasses that have none of their own."""

    def register(handler: Handler) -> Handler:
        FAMILIES.update((cls, Entry(handler)) for cls in classes)
        return handler

    return register


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
        FUNCTIONS.update((found, Entry(handler, stem)) for name in names if (found := function_named(name)) is not None)
        return handler

    return register


def function_named(name: str) -> Any:
    """The function that ``torch.add``, ``F.relu`` or ``Tensor.add`` names; None if this version of torch has none."""
    space, attribute = name.split(".")
    return getattr({"torch": torch, "F": nn.functional, "Tensor": torch.Tensor}[space], attribute, None)


def leaf_entry(mod: nn.Module, patched: bool) -> Entry | None:
    """The row for a module, or None if it is to be looked into.

    A subclass may compute anything: it counts as its base only where it has nothing but a constructor of
    its own, or where it is made by torch's parametrizations, which do not change what a module computes.
    `patched` says that the user replaced this instance's ``forward``.
    """
    if patched:
        return None
    cls = type(mod)
    if nn.utils.parametrize.is_parametrized(mod):
        cls = cls.__mro__[1]
    while cls not in MODULES and len(cls.__bases__) == 1 and set(vars(cls)) <= _CONSTRUCTOR:
        cls = cls.__bases__[0]
    return MODULES.get(cls) or next((FAMILIES[base] for base in cls.__mro__ if base in FAMILIES), None)


_CONSTRUCTOR = frozenset({
    "__init__", "extra_repr", "__doc__", "__module__", "__qualname__", "__annotations__", "__firstlineno__",
    "__static_attributes__", "__parameters__", "__annotate__", "__annotate_func__", "__annotations_cache__",
})  # fmt: skip
"""What a class may hold that only sets options of its base."""


def is_foreign_leaf(mod: nn.Module, patched: bool) -> bool:
    """Whether a module is torch's own (not the user's code) and nothing here knows it."""
    if patched:
        return False
    owner = next((cls for cls in type(mod).__mro__ if "forward" in vars(cls)), nn.Module)
    if owner in MODULES or owner in CONTAINERS or owner.__name__ in ("OptimizedModule", "ParametrizationList"):
        return False
    return owner.__module__.partition(".")[0] == "torch"


SUPPORTED = (
    "PyTorch's own layers and functions whose result depends on one sample alone (the list: "
    "hsnn-compile explain {code})"
)

HINTS = {"argmax": "take the argmax outside the model"}
"""What to try instead of an unsupported function, by its bare name."""
