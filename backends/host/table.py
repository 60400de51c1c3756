"""The table of ATen's operations that have a form in ONNX, filled by the files ``aten_*.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class NoFormError(Exception):
    """What cannot be written as ONNX nodes, in words."""


Emitter = Callable[..., Any]
"""Called with the `Trace`, the operation's result without data, and all its arguments in the order of its schema.

Returns the name of the value, or one per result (None: this one cannot be had).
"""

EMITTERS: dict[str, Emitter] = {}
"""By name and overload, ``add.Tensor``."""

PREPARED: dict[str, Callable[..., tuple[Any, ...]]] = {}
"""Functions of an operation's arguments that give those it is called with, where others tell more."""


def emits(*keys: str) -> Callable[[Emitter], Emitter]:
    """Enter a function for these operations; a name without overload means ``default``."""

    def register(function: Emitter) -> Emitter:
        for key in keys:
            EMITTERS[key if "." in key else f"{key}.default"] = function
        return function

    return register


def prepares(*keys: str) -> Callable[[Emitter], Emitter]:
    """Enter a function that makes the arguments of these operations."""

    def register(function: Emitter) -> Emitter:
        PREPARED.update(dict.fromkeys(keys, function))
        return function

    return register
