"""A netlist is the graph: run in plain numpy it gives the reference's spikes, one for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from picks import Picks, picks
from spinnaker_graphs import compile_, random_network, reference, run_netlist
from value_graphs import outputs

from hsnn_compiler.backends.spinnaker.lower import lower
from hsnn_compiler.backends.spinnaker.netlist import Netlist


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(picks())
def test_a_netlist_gives_the_spikes_of_the_graph(p: Picks):
    agrees(p)


@pytest.mark.parametrize("seed", range(12))
def test_the_same_for_seeded_networks(seed: int):
    agrees(Picks.seeded(seed))


def agrees(p: Picks) -> None:
    source, x = random_network(p)
    graph = compile_(source)
    signals, result = reference(graph, x)
    signals["x"] = x
    found = run_netlist(lower(graph), signals)
    assert found
    for name, window in found.items():
        np.testing.assert_allclose(window, signals[name], atol=1e-12, err_msg=name)
    np.testing.assert_allclose(next(iter(result.values())), outputs(source, x), rtol=1e-9, atol=1e-9)


def test_seeded_networks_have_all_that_a_netlist_can_hold():
    netlists = [lower(compile_(random_network(Picks.seeded(seed))[0])) for seed in range(60)]
    parts = [part for netlist in netlists for part in netlist.populations.values()]
    assert {part.kind for part in parts} == {"source", "clock", "start", "neurons", "readout"}
    assert any(part.presented for part in parts)
    assert any(part.depth and np.any(part.v_init) for part in parts if part.is_neural)
    assert max(p.delay for n in netlists for turn in n.turns for p in turn.projections.values()) > 1


def test_a_netlist_is_the_same_after_a_way_through_files(tmp_path: Path):
    graph = compile_(random_network(Picks.seeded(3))[0])
    netlist = lower(graph)
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        netlist.save(folder)
    for name in ("netlist.json", "arrays.npz"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    again = Netlist.load(tmp_path / "a")
    (tmp_path / "c").mkdir()
    again.save(tmp_path / "c")
    assert (tmp_path / "c" / "arrays.npz").read_bytes() == (tmp_path / "a" / "arrays.npz").read_bytes()
    assert (tmp_path / "c" / "netlist.json").read_text() == (tmp_path / "a" / "netlist.json").read_text()
