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


@pytest.hookimpl(tryfirst=True)  # before that of xdist, which reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where workers share the tests: each file stays in one, and so does all that runs Lava, which takes every core."""
    for item in items:
        runs_lava = "lava" in getattr(item, "fixturenames", ()) or "backends/lava" in item.path.as_posix()
        item.add_marker(pytest.mark.xdist_group("lava" if runs_lava else item.path.as_posix()))


@pytest.fixture
def lava() -> None:
    """Skip the test where Lava is not installed (and only there)."""
    if lava_version() is None:
        pytest.skip("lava-nc is not installed")
