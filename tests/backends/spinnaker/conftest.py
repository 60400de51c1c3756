from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest

from hsnn_compiler.targets import Target, load_target


@pytest.fixture
def spynnaker() -> None:
    """Skip the test where sPyNNaker is not installed (and only there)."""
    try:
        version("sPyNNaker")
    except PackageNotFoundError:
        pytest.skip("sPyNNaker is not installed")


@pytest.fixture
def board() -> Target:
    return load_target("spinnaker")


@pytest.fixture
def nest() -> None:
    """Skip the test where NEST is not installed (and only there)."""
    try:
        version("nest-simulator")
    except PackageNotFoundError:
        pytest.skip("NEST is not installed")
