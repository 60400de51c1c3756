"""For all tests: property tests are repeatable, and helper modules in this folder can be imported."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from hsnn_compiler.backends.lava.presence import lava_version

settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("repeatable")


@pytest.fixture
def lava() -> None:
    """Skip the test where Lava is not installed (and only there)."""
    if lava_version() is None:
        pytest.skip("lava-nc is not installed")
