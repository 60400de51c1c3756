"""NEST, really run, against the float64 definition of a netlist."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
from netlists import Net, everything, random_net, union

from hsnn_compiler.backends.spinnaker import nest_child, nest_run
from hsnn_compiler.backends.spinnaker.board_run import run_board
from hsnn_compiler.backends.spinnaker.execute import TurnResult
from hsnn_compiler.backends.spinnaker.float_run import run_float
from hsnn_compiler.diagnostics import HsnnError

T = 24


@pytest.fixture(scope="module")
def nets() -> Net:
    """Twelve random networks beside each other: NEST takes seconds to start."""
    return union([random_net(np.random.default_rng(seed), 3, T, f"{seed}.") for seed in range(12)])


@pytest.fixture(scope="module")
def exact(nets: Net) -> TurnResult:
    return run_float(nets[0], T, nets[1], everything(nets[0]))


def test_every_spike_of_random_networks(nest: None, nets: Net, exact: TurnResult) -> None:
    turn, given = nets
    found = nest_run.run_nest(turn, T, given, everything(turn))
    fired = 0
    for population in turn.populations.values():
        if population.kind == "neurons":
            np.testing.assert_array_equal(found.spikes[population.name], exact.spikes[population.name])
            fired += int(exact.spikes[population.name].sum())
    assert fired > 10_000
    for name, potential in exact.potential.items():
        np.testing.assert_allclose(found.potential[name], potential, rtol=0, atol=1e-12)


def test_rounds_and_copies_change_nothing(nest: None) -> None:
    turn, given = random_net(np.random.default_rng(3), 5, T)
    record = [("last", "s"), ("out", "v"), ("in", "s"), ("direct", "v")]
    synapses = sum(len(projection.pre) for projection in turn.projections.values())
    assert nest_child.side_by_side(turn, 200_000) > 5
    assert nest_child.side_by_side(turn, 2 * synapses) == 2
    at_once = nest_run.run_nest(turn, T, given, record)
    seen: list[tuple[int, int]] = []
    in_rounds = nest_run.run_nest(turn, T, given, record, lambda *done: seen.append(done), most_synapses=2 * synapses)
    assert seen[-1] == (5, 5)
    for name in ("last", "in"):
        np.testing.assert_array_equal(at_once.spikes[name], in_rounds.spikes[name])
    for name in ("out", "direct"):
        np.testing.assert_array_equal(at_once.potential[name], in_rounds.potential[name])


def test_ties_at_the_threshold(nest: None) -> None:
    """Weights on a grid reach thresholds exactly, and decays are right to the last bit: these fall as they should."""
    turn, given = union([random_net(np.random.default_rng(seed), 3, T, f"{seed}.", grid=0.125) for seed in range(12)])
    exact = run_float(turn, T, given, everything(turn))
    found = nest_run.run_nest(turn, T, given, everything(turn))
    above = {
        name: p if p.threshold is None else replace(p, threshold=np.nextafter(p.threshold, np.inf))
        for name, p in turn.populations.items()
    }
    tied = run_float(replace(turn, populations=above), T, given, everything(turn))
    ties = sum(int((tied.spikes[name] < exact.spikes[name]).sum()) for name in exact.spikes)
    moved = sum(int((exact.spikes[name] != found.spikes[name]).sum()) for name in exact.spikes)
    assert ties > 100
    assert moved == 0


def test_the_emitted_script_does_the_same(nest: None) -> None:
    turn, given = random_net(np.random.default_rng(11), 2, 12)
    record = [("first" if "first" in turn.populations else "conv", "s"), ("direct", "s"), ("last", "s"), ("out", "v")]
    exact = run_float(turn, 12, given, record)
    found = run_board(turn, 12, given, record, simulator="nest")
    for name in exact.spikes:
        np.testing.assert_array_equal(found.spikes[name], exact.spikes[name])
    np.testing.assert_allclose(found.potential["out"][:, -1], exact.potential["out"][:, -1], rtol=0, atol=1e-12)
    assert np.isnan(found.potential["out"][:, :-1]).all()


def test_missing_nest_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(nest_run, "version", version)
    turn, given = random_net(np.random.default_rng(0), 1, 4)
    with pytest.raises(HsnnError, match="nest-simulator and PyNN and scipy, which are not installed") as caught:
        nest_run.run_nest(turn, 4, given, [])
    assert caught.value.exit_code == 7
    assert caught.value.findings[0].suggestion == "hsnn-compile doctor --install spinnaker"


def test_a_deadline_ends_it_and_leaves_nothing(nest: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    turn, given = random_net(np.random.default_rng(0), 1, 4)
    start = time.monotonic()
    with pytest.raises(HsnnError, match=r"E0802 NEST did not finish within 0\.3 s"):
        nest_run.run_nest(turn, 4, given, [], deadline_s=0.3)
    assert time.monotonic() - start < 10
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_what_nest_refuses_is_an_error_with_its_words(nest: None) -> None:
    turn, given = random_net(np.random.default_rng(0), 1, 4)
    turn.populations["last"].threshold[:] = -1.0  # below the reset potential  # type: ignore[index]
    with pytest.raises(HsnnError, match="E0115 NEST could not run the network: "):
        nest_run.run_nest(turn, 4, given, [])
