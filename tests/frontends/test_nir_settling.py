"""What is chosen where NIR says nothing, what is said about it, and two meanings compared in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.frontends.nir import Contract, compare, read, settle
from hsnn_compiler.ir import Graph

one = np.ones(2)


def network(path: Path, **changes: Any) -> Graph:
    """Weights, a LIF population with recurrent weights, an IF population that the input reaches as well."""
    lif = {"tau": np.array([2e-3, 4e-3]), "r": 2 * one, "v_leak": one / 4, "v_threshold": one, "v_reset": one / 8}
    nodes = {
        "input": nir.Input(np.array([2])),
        "fc": nir.Linear(np.eye(2)),
        "lif": nir.LIF(**(lif | changes)),
        "rec": nir.Affine(np.eye(2), one),
        "if": nir.IF(r=one, v_threshold=one, v_reset=0 * one),
        "output": nir.Output(np.array([2])),
    }
    edges = ["input fc", "fc lif", "lif rec", "rec lif", "lif if", "input if", "if output"]
    nir.write(path, nir.NIRGraph(nodes, [tuple(edge.split()) for edge in edges]))
    return read(path)[0]


GOLDEN = {
    ("norse", "spikingjelly"): """\
lif: gain is 0.25 .. 0.5, 0.5 .. 1 in the second
lif: v_init is 0.25, 0.125 in the second
lif: reset is zero, value in the second
lif, if: threshold_test is >, >= in the second
if: gain is 1, 0.001 in the second""",
    ("norse", "snntorch"): """\
lif: gain is 0.25 .. 0.5, 0.5 in the second
lif: leak is 0.0625 .. 0.125, 0 in the second
lif: v_init is 0.25, 0 in the second
lif -> rec: at once, 1 step later in the second
rec -> lif: 1 step later, at once in the second""",
    ("norse", "sinabs"): """\
lif: decay is 0.5 .. 0.75, 0.6065 .. 0.7788 in the second
lif: gain is 0.25 .. 0.5, 1 in the second
lif: leak is 0.0625 .. 0.125, 0 in the second
lif: v_init is 0.25, 0 in the second
lif, if: reset is zero, subtract in the second
lif, if: threshold_test is >, >= in the second
lif, if: max_spikes is 1, 0 in the second
if: v_min is not set, -1 in the second""",
    ("snntorch", "lava"): """\
lif: gain is 0.5, 0.25 .. 0.5 in the second
input -> fc: at once, 1 step later in the second""",
    ("spyx", "norse"): """\
lif: gain is 1, 0.25 .. 0.5 in the second
lif: leak is 0, 0.0625 .. 0.125 in the second
lif: v_init is 0, 0.25 in the second
lif, if: reset is subtract, zero in the second
lif, if: reset_at is after, spike in the second
input -> if: 1 step later, at once in the second
fc -> lif: 1 step later, at once in the second
lif -> if: 1 step later, at once in the second""",
}


@pytest.mark.parametrize(("first", "second"), GOLDEN)
def test_two_presets_in_words(first: str, second: str, tmp_path: Path) -> None:
    graph = network(tmp_path / "a.nir")
    settled = [settle(graph, Contract.parse(f"preset={name}", 1e-3))[0] for name in (first, second)]
    assert "\n".join(compare(*settled)) == GOLDEN[first, second]
    assert compare(settled[0], settled[0]) == []


def test_equal_meanings_written_in_two_ways_do_not_differ(tmp_path: Path) -> None:
    graph = network(tmp_path / "a.nir", r=one, v_leak=0 * one, v_reset=0 * one)
    euler, _ = settle(graph, Contract.parse("reset=zero,if_rate=step", 1e-3))
    norse, _ = settle(graph, Contract.parse("preset=norse", 1e-3))
    assert compare(euler, norse) == []
    other, _ = settle(graph, Contract.parse("preset=norse,refractory=1", 1e-3))
    assert compare(euler, other) == ["lif, if: refractory is 0, 1 in the second"]


def test_what_was_chosen_is_said(tmp_path: Path) -> None:
    _, findings = settle(network(tmp_path / "a.nir"))
    assert [f.code for f in findings] == ["I0463"] * 3
    assert "taken for seconds, dt = 0.0001 s" in findings[0].message
    assert "each step adds r * input" in findings[1].message
    assert "reset=value, threshold_test=>, integrator=euler" in findings[2].message
    settled, findings = settle(network(tmp_path / "a.nir", tau=10 * one))
    assert "taken for milliseconds" in findings[0].message
    assert settled["lif"].dynamics.dt == 1.0
    contract = Contract.parse("reset=zero,threshold_test=>,integrator=euler,if_rate=step", 1e-4)
    assert settle(network(tmp_path / "a.nir"), contract)[1] == []


def test_what_a_platform_cannot_import_is_said(tmp_path: Path) -> None:
    _, findings = settle(network(tmp_path / "a.nir"), Contract.parse("preset=snntorch"))
    assert [(f.code, f.node) for f in findings] == [("I0463", ""), ("W0464", "if")]
    _, findings = settle(network(tmp_path / "a.nir"), Contract.parse("preset=sinabs", 1.0))
    assert [(f.code, f.node) for f in findings] == [("W0464", "fc")]


def test_unknown_parts_of_a_contract_are_refused_together() -> None:
    with pytest.raises(HsnnError) as error:
        Contract.parse("preset=nengo,reset=soft,refractory=-1,current_first=maybe,colour=red,dt=x,reset=zero")
    assert [f.code for f in error.value.findings] == ["E0223"] * 6
    assert Contract.parse("reset=subtract, dt=0.5,late=queue,unit=ms").neurons == {"reset": "subtract"}
