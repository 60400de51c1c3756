"""Combinations that the contract does not have, and what its rare parts are called."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.frontends.nir import compare
from hsnn_compiler.ir import Dynamics, Graph, Node, discretize
from hsnn_compiler.report.steps import describe_step

ONE = np.ones(1)
CUBA = nir.CubaLIF(tau_syn=ONE, tau_mem=ONE, r=ONE, v_leak=0 * ONE, v_threshold=2 * ONE, w_in=ONE)
LIF = nir.LIF(tau=ONE, r=ONE, v_leak=0 * ONE, v_threshold=ONE)
CUBALI = nir.CubaLI(tau_syn=ONE, tau_mem=ONE, r=ONE, v_leak=0 * ONE, w_in=ONE)
ALPHA: dict[str, Any] = {
    "integrator": "none", "decay": 0.5, "gain": 0.25, "leak": 0.0, "current_decay": 0.75, "current_gain": 4.0,
    "current_first": False, "reset": "subtract", "reset_at": "after", "reset_to_current": True,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"dt": 0.0},
        {"reset": "soft"},
        {"reset_at": "crossing"},
        {"reset_at": "undelayed", "v_min": 0.0, "reset_to_current": False},
        {"reset_current": True},
        {"reset": "zero"},
        {"reset_at": "spike"},
        {"reset_at": "undelayed"},
        {"max_spikes": 2},
        {"refractory": 1},
        {"v_min": -1.0},
    ],
)
def test_refused(change: dict[str, Any]) -> None:
    with pytest.raises(HsnnError) as error:
        Dynamics(**{**ALPHA, **change})
    assert [finding.code for finding in error.value.findings] == ["E0210"]


@pytest.mark.parametrize(("op", "change"), [(LIF, {}), (CUBA, {"current_gain": 0.0})])
def test_a_reset_to_the_current_needs_a_current(op: Any, change: dict[str, Any]) -> None:
    with pytest.raises(HsnnError, match="E0210"):
        discretize(op, Dynamics(**{**ALPHA, **change}))
    assert not discretize(CUBALI, Dynamics(**ALPHA)).reset_to_current


def test_a_reset_to_the_current_is_not_for_the_fast_kernels() -> None:
    assert discretize(CUBA, Dynamics(integrator="none", reset="subtract")).is_basic
    assert not discretize(CUBA, Dynamics(**ALPHA)).is_basic


def graph_of(dynamics: Dynamics) -> Graph:
    graph = Graph()
    graph.add(Node("n", CUBA, dynamics=dynamics))
    return graph


def test_words() -> None:
    alpha, other = graph_of(Dynamics(**ALPHA)), graph_of(Dynamics(**{**ALPHA, "reset_to_current": False}))
    assert describe_step(alpha["n"]) == (
        "u = 0.75 u + 4 I; v = 0.5 v + 0.25 u of the step before; "
        "v > 2: u -= 8, v = u, once tested with (v - u)/4 more, at the end of the next step"
    )
    assert compare(alpha, other) == ["n: reset_to_current is True, False in the second"]
