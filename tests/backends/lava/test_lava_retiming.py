"""Retiming: Lava, where every synapse takes a step, computes what graphs say in which edges take none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from lava_runs import assert_raw_equal, failures
from picks import Picks
from raw_graphs import Raw, random_raw
from real_graphs import RealGraph
from test_lava_raw_checks import chain as two_layers

from hsnn_compiler.backends.lava.check_raw import check_raw
from hsnn_compiler.backends.lava.retiming import retime
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Graph
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.shapes import ShapeError
from hsnn_compiler.network import Network

SEEDS = range(20)


def hurried(seed: int) -> Raw | None:
    """A random integer graph whose edges take less time than Lava's, but for those on loops; None if refused."""
    raw = random_raw(Picks.seeded(seed))
    loop: dict[str, int] = {}
    for number, members in enumerate(nx.strongly_connected_components(raw.graph.nx)):
        loop.update(dict.fromkeys(members, number))
    raw.graph = infer_types(raw.graph.with_delays(lambda e: e.delay if loop[e.src] == loop[e.dst] else e.delay // 2))
    return None if check_raw(raw.graph, raw.reset_interval) else raw


def quantised(seed: int) -> Raw | None:
    """A random real graph in integers, and its data; None where something is refused."""
    try:
        real = RealGraph(Picks.seeded(seed), on_grid=seed % 3 == 0)
        network = Network(real.graph).quantised(real.inputs)
    except (ShapeError, HsnnError):
        return None
    assert network.to_integers is not None
    inputs = network.to_integers(real.inputs)
    assert isinstance(inputs, dict)
    assert check_raw(network.graph) == []
    return Raw(network.graph, inputs)


def chain(*delays: int, back: int | None = None) -> Graph:
    """Input, weights, neurons, weights, neurons, with these delays; and perhaps weights back to the first."""
    graph = two_layers()
    edges = [("x", "w"), ("w", "n"), ("n", "w2"), ("w2", "n2")]
    chosen = dict(zip(edges, delays, strict=True))
    graph = graph.with_delays(lambda e: chosen.get((e.src, e.dst), e.delay))
    if back is not None:
        graph.add(replace(graph["w2"], name="b"), "n2")
        graph.connect(graph.in_edges("n")[0]._replace(src="b", delay=back))
    return graph


def test_the_smallest_lags() -> None:
    assert retime(chain(1, 0, 1, 0)).lags == {"n": 0, "n2": 0}
    assert retime(chain(0, 0, 0, 0)).lags == {"n": 1, "n2": 2}
    assert retime(chain(0, 3, 0, 0)).lags == {"n": 0, "n2": 1}
    moved = retime(chain(0, 0, 2, 0, back=1))
    assert moved.lags == {"n": 1, "n2": 0}
    assert moved.longest == 1
    assert {(e.src, e.dst): e.delay for e in moved.graph.edges if e.dst.startswith("n")} == {
        ("w", "n"): 0, ("w2", "n2"): 0, ("b", "n"): 1,
    }  # fmt: skip


def test_a_loop_that_is_too_fast() -> None:
    findings = check_raw(chain(0, 0, 0, 0, back=1))
    assert [f.code for f in findings] == ["E0454"]
    assert "2 synapses with a delay of 1" in findings[0].message
    assert check_raw(chain(0, 0, 1, 0, back=1)) == []


@pytest.mark.usefixtures("lava")
@pytest.mark.parametrize("make", [hurried, quantised])
def test_one(make: Callable[[int], Raw | None]) -> None:
    """With the real child process."""
    late = (raw for raw in map(make, range(99)) if raw is not None and retime(raw.graph).longest > 1)
    assert_raw_equal(next(late))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("fast_lava")
def test_many() -> None:
    """All that fail are named: even seeds are half those of `hurried`, odd ones of `quantised`."""
    lags: list[int] = []
    reset = []

    def check(seed: int) -> None:
        raw = (quantised if seed % 2 else hurried)(seed // 2)
        if raw is None:
            return
        assert_raw_equal(raw)
        lags.append(retime(raw.graph).longest)
        reset.append(raw.reset_interval is not None)

    wrong = failures(SEEDS, check)
    assert not wrong, wrong
    assert len(lags) > 13
    assert np.count_nonzero(lags) > 7
    assert any(lag and returns for lag, returns in zip(lags, reset, strict=True))
