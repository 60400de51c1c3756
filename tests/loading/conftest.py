"""A module of the user, for the tests of loading."""

from __future__ import annotations

import hashlib
import importlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from loading_cases import SOURCE


@pytest.fixture
def user(tmp_path: Path) -> Iterator[types.ModuleType]:
    """A module of the user beside the model file, imported here to save models of it."""
    name = "user_models_" + hashlib.md5(str(tmp_path).encode()).hexdigest()
    (tmp_path / f"{name}.py").write_text(SOURCE)
    sys.path.append(str(tmp_path))
    module = importlib.import_module(name)
    sys.path.remove(str(tmp_path))
    yield module
    sys.modules.pop(name, None)
