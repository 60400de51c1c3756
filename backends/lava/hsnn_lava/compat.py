# SPDX-License-Identifier: BSD-3-Clause
"""Let lava-nc 0.10.0 run on a present-day Python and numpy, without editing it.

Lava is archived and declares Python < 3.11 and numpy < 2. Two lines stand in the way of
newer ones, and nothing else does:

* ``lava/magma/compiler/var_model.py`` uses an instance of the dataclass ``ByteEncoder``
  as a field default. Since Python 3.11 ``dataclasses`` refuses a default whose class is
  unhashable, so the module cannot be imported.
* ``ReshapePort`` (``lava/magma/core/process/ports/ports.py``), behind every ``flatten()``
  and ``reshape()`` of a port, calls ``np.reshape(newshape=...)``, a keyword numpy 2.1
  deprecated and numpy 2.4 removed.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

import numpy as np

MISSING = f"""Lava is not installed for {sys.executable}. To install it there:
    python -m pip install asteval networkx numpy scikit-learn scipy
    python -m pip install --no-deps --ignore-requires-python lava-nc==0.10.0"""
_VAR_MODEL = "lava.magma.compiler.var_model"
_UNHASHABLE = b"@dataclass\nclass ByteEncoder:"
_HASHABLE = b"@dataclass(unsafe_hash=True)\nclass ByteEncoder:"


class _VarModelLoader(SourceFileLoader):
    """Compiles ``var_model.py`` with a hashable ``ByteEncoder``."""

    def get_code(self, fullname: str) -> CodeType:
        # Not super().get_code(): pip leaves a byte-compiled copy of the original beside
        # the source, and that would be used instead.
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path).replace(_UNHASHABLE, _HASHABLE), path)


class _VarModelFinder(MetaPathFinder):
    """Finds ``var_model`` (and nothing else) and gives it our loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _VAR_MODEL:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _VarModelLoader(fullname, spec.origin)
        return spec


def _fix_var_model() -> None:
    if sys.version_info < (3, 11) or _VAR_MODEL in sys.modules:
        return
    finder = _VarModelFinder()
    sys.meta_path.insert(0, finder)
    try:
        __import__(_VAR_MODEL)
    finally:
        sys.meta_path.remove(finder)


def _reshape(array: Any, shape: tuple[int, ...]) -> Any:
    return np.reshape(array, shape)


def _fix_reshape() -> None:
    if np.lib.NumpyVersion(np.__version__) < "2.1.0":
        return
    from lava.magma.core.process.ports.ports import ReshapePort

    def forward(self: Any) -> functools.partial[Any]:
        return functools.partial(_reshape, shape=self.shape)

    def backward(self: Any) -> functools.partial[Any]:
        return functools.partial(_reshape, shape=self.old_shape)

    ReshapePort.get_transform_func_fwd = forward
    ReshapePort.get_transform_func_bwd = backward


def apply() -> None:
    """Make ``import lava`` and its reshaped connections work here.

    Does nothing where nothing is needed (Python 3.10 with numpy 1.x); may be called any
    number of times, but must come before the first import of lava's compiler.

    Raises:
        ModuleNotFoundError: lava-nc is not installed; the message says how to get it.
    """
    if importlib.util.find_spec("lava") is None:
        raise ModuleNotFoundError(MISSING, name="lava")
    _fix_var_model()
    _fix_reshape()
