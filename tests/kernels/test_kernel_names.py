"""Compiled functions are told apart by name, whichever processes compiled them, see `accumulate._compiled`."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter

from numba.core.dispatcher import Dispatcher

from hsnn_compiler import kernels


def test_no_two_compiled_functions_have_the_same_name() -> None:
    found = {}
    for module in pkgutil.iter_modules(kernels.__path__, kernels.__name__ + "."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Dispatcher):
                found[id(value.py_func)] = (value.py_func.__module__, value.py_func.__qualname__)
    assert len(found) > 30
    assert [name for name, times in Counter(found.values()).items() if times > 1] == []
