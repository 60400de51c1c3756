"""Import what the user named on the command line: a module, or the function in it.

This is the one place where code of the user runs, and only code the user named.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from hsnn_compiler.diagnostics import HsnnError, Source, refuse

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")


@contextmanager
def import_path(model_file: Path) -> Iterator[None]:
    """Make modules in the working directory and beside the model file importable.

    The working directory goes first, as for ``python -m``. The model's directory goes
    last: a file that came with a downloaded model must not stand in for a library.
    """
    first, last = str(Path.cwd()), str(model_file.resolve().parent)
    sys.path.insert(0, first)
    sys.path.append(last)
    try:
        yield
    finally:
        # What the user's code did to sys.path in the meantime stays.
        if first in sys.path:
            sys.path.remove(first)
        if last in sys.path:
            sys.path.reverse()
            sys.path.remove(last)
            sys.path.reverse()


def import_named(name: str, model_file: Path) -> ModuleType:
    """Import one named module (within `import_path`), or refuse with E0308."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise refuse(
                "E0308",
                f"there is no module {name}",
                supported=f"modules in {Path.cwd()}, in {model_file.resolve().parent}, or installed",
                suggestion="Name it as in an import statement: my_models for my_models.py.",
            ) from error
        raise _failed(f"importing {name}", error) from error
    except (Exception, SystemExit) as error:
        raise _failed(f"importing {name}", error) from error


def build(factory: str, model_file: Path) -> nn.Module:
    """Call ``module:function`` without arguments; it must return a ``torch.nn.Module``."""
    from torch import nn

    module_name, separator, function_name = factory.partition(":")
    if not (module_name and separator and function_name.isidentifier()):
        raise refuse(
            "E0308",
            f"{factory!r} names no function",
            supported="module:function",
            suggestion="my_models:build",
        )
    with import_path(model_file):
        module = import_named(module_name, model_file)
        function = getattr(module, function_name, None)
        if not callable(function):
            raise refuse(
                "E0308",
                f"module {module_name} has no function {function_name}",
                source=Source(file=getattr(module, "__file__", None) or module_name),
                suggestion=_alternatives(module),
            )
        model = _call(function, factory)
    if not isinstance(model, nn.Module):
        raise refuse(
            "E0308",
            f"{factory} returned {type(model).__name__}, not a model",
            supported="a function without arguments that returns a torch.nn.Module",
        )
    return model


def _call(function: Callable[[], T], factory: str) -> T:
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise _failed(f"calling {factory}()", error) from error


def _alternatives(module: ModuleType) -> str:
    names: Sequence[str] = [
        name
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", "") == module.__name__
    ]
    return f"It has {', '.join(names[:6])}." if names else ""


def _failed(doing: str, error: BaseException) -> HsnnError:
    """The user's own exception, with the innermost line of it outside the import system."""
    frames: list[Any] = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    source = Source(file=frames[-1].filename, line=frames[-1].lineno or 0) if len(frames) > 1 else Source()
    return refuse("E0308", f"{doing} failed: {type(error).__name__}: {error}", source=source)
