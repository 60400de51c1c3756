"""NIRData: signals beside a graph, read onto its time steps and written."""

from __future__ import annotations

from pathlib import Path

import h5py
import nir
import numpy as np
import pytest
from picks import Picks

from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.frontends.nir import Contract, read, read_data, settle, write_data
from hsnn_compiler.ir import Graph


def network(path: Path, dt: float | None = 0.1, two: bool = False) -> Graph:
    """Input [2, 2] (and perhaps another), IF, output."""
    shape = (2, 2)
    one = np.ones(shape, np.float32)
    nodes = {"input": nir.Input(np.array(shape)), "n": nir.IF(one, one, 0 * one), "out": nir.Output(np.array(shape))}
    edges = [("input", "n"), ("n", "out")]
    if two:
        nodes["other"] = nir.Input(np.array(shape))
        edges.append(("other", "n"))
    nir.write(path, nir.NIRGraph(nodes, edges))
    graph, _ = read(path)
    return settle(graph, Contract.parse("", dt))[0] if dt else graph


def save(path: Path, **nodes: object) -> Path:
    data = {name: nir.NIRNodeData(of if isinstance(of, dict) else {"spikes": of}) for name, of in nodes.items()}
    nir.write_data(path, nir.NIRGraphData(data))
    return path


def refusals(path: Path, graph: Graph, dt: float | None = None) -> list[Finding]:
    with pytest.raises(HsnnError) as error:
        read_data(path, graph, dt)
    return list(error.value.findings)


def test_round_trip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        ("input", "s"): (rng.random((3, 7, 2, 2)) < 0.3).astype(np.float32),
        ("block.n", "v"): rng.normal(size=(3, 7, 5)).astype(np.float32),
        ("block.n", "s"): rng.integers(0, 4, (3, 7, 5)).astype(np.float32),
        ("a/b", "u"): rng.normal(size=(3, 7)),
    }
    write_data(tmp_path / "d.nir", arrays, 0.1)
    theirs = nir.read_data(str(tmp_path / "d.nir"))
    assert set(theirs.nodes) == {"input", "block.n", "a.b"}
    found = theirs.nodes["input"].observables["spikes"]
    assert (found.data.dtype, found.dt, found.data.shape) == (bool, 0.1, (3, 7, 4))
    np.testing.assert_array_equal(theirs.nodes["block.n"].observables["v"].data, arrays["block.n", "v"])
    np.testing.assert_array_equal(theirs.nodes["block.n"].observables["spikes"].data, arrays["block.n", "s"])
    back = read_data(tmp_path / "d.nir", network(tmp_path / "g.nir"))
    assert set(back) == {"input"}
    assert back["input"].dtype == np.float32
    np.testing.assert_array_equal(back["input"], arrays["input", "s"])


def test_events_fall_into_the_steps_of_the_graph(tmp_path: Path) -> None:
    """Also at times k * dt, which in floating point may lie just below; several in one step count each."""
    graph = network(tmp_path / "g.nir")
    for seed in range(20):
        p = Picks.seeded(seed)
        wanted = p.rng().integers(0, 3, (2, 9, 4)) * (p.rng().random((2, 9, 4)) < 0.3)
        values = p.rng().integers(1, 9, wanted.shape) / 4
        events: list[list[tuple]] = [[], []]
        for s, t, n in np.argwhere(wanted).tolist():
            for _ in range(wanted[s, t, n]):
                events[s].append((round(t * 0.1 + p.choice([0, 0.03, 0.099]), 6), n, values[s, t, n]))
        most = max(map(len, events)) + 1
        idx, time, value = np.full((2, most), -1), np.full((2, most), np.inf), np.zeros((2, most))
        for s, of in enumerate(events):
            for i in p.rng().permutation(len(of)):
                time[s, i], idx[s, i], value[s, i] = of[i]
        path = save(tmp_path / "d.nir", input=nir.EventData(idx, time, 4, 0.9))
        np.testing.assert_array_equal(read_data(path, graph)["input"], wanted.reshape(2, 9, 2, 2))
        path = save(tmp_path / "d.nir", input=nir.ValuedEventData(idx, time, 4, 0.9, value))
        np.testing.assert_allclose(read_data(path, graph)["input"], (wanted * values).reshape(2, 9, 2, 2))


def test_the_step_comes_from_the_call_the_graph_or_the_file(tmp_path: Path) -> None:
    graph = network(tmp_path / "g.nir", dt=None)
    gridded = nir.TimeGriddedData(np.ones((1, 4, 4)), 0.3)
    assert read_data(save(tmp_path / "d.nir", input=gridded), graph)["input"].shape == (1, 4, 2, 2)
    events = nir.EventData(np.zeros((1, 1), int), np.zeros((1, 1)), 4, 1.0)
    path = save(tmp_path / "e.nir", input=events)
    assert [f.code for f in refusals(path, graph)] == ["E0330"]
    assert read_data(path, graph, dt=0.25)["input"].shape == (1, 4, 2, 2)
    assert read_data(path, network(tmp_path / "g.nir", dt=0.125))["input"].shape == (1, 8, 2, 2)


def test_recordings_of_subgraphs_lie_beside(tmp_path: Path) -> None:
    """Nir 1.0.8 reads nested recordings but cannot write them."""
    gridded = nir.TimeGriddedData(np.ones((1, 4, 4)), 0.1)
    with h5py.File(save(tmp_path / "d.nir", input=gridded, inner=gridded), "a") as file:
        block = file["nodes"].create_group("input.block")
        block.attrs["__type__"] = "NIRGraphData"
        file.move("nodes/inner", "nodes/input.block/nodes/inner")
    assert list(read_data(tmp_path / "d.nir", network(tmp_path / "g.nir"))) == ["input"]


def test_which_observable_goes_in(tmp_path: Path) -> None:
    graph = network(tmp_path / "g.nir")
    v, s = (nir.TimeGriddedData(np.full((1, 2, 4), k), 0.1) for k in (5.0, 1.0))
    assert read_data(save(tmp_path / "d.nir", input={"v": v, "spikes": s}), graph)["input"].max() == 1
    assert read_data(save(tmp_path / "d.nir", input={"current": v}), graph)["input"].max() == 5
    found = refusals(save(tmp_path / "d.nir", input={"v": v, "w": s}), graph)
    assert [(f.code, f.node) for f in found] == [("E0330", "input")]


def test_what_does_not_fit_is_refused_all_at_once(tmp_path: Path) -> None:
    graph = network(tmp_path / "g.nir", two=True)
    ok = nir.TimeGriddedData(np.zeros((1, 3, 4)), 0.1)
    nan = np.full((1, 3, 4), np.nan)
    late, soon = np.array([[0.5]]), np.array([[-0.1]])
    zero = np.zeros((1, 1), int)
    wrong = {
        "3 neurons": nir.TimeGriddedData(np.zeros((1, 3, 3)), 0.1),
        "its step is 0.2": nir.TimeGriddedData(np.zeros((1, 3, 4)), 0.2),
        "not finite": nir.TimeGriddedData(nan, 0.1),
        "events from 0.5": nir.EventData(zero, late, 4, 0.3),
        "events from -0.1": nir.EventData(zero, soon, 4, 0.3),
        "an event of neuron 7": nir.EventData(zero + 7, 0 * late, 4, 0.3),
        "without a time": nir.EventData(zero, late + np.inf, 4, 0.3),
        "last until": nir.EventData(zero, 0 * late, 4, 0.0),
        "differ in samples": nir.TimeGriddedData(np.zeros((1, 5, 4)), 0.1),
    }
    for words, data in wrong.items():
        found = refusals(save(tmp_path / "d.nir", input=data, other=ok), graph)
        assert [f.code for f in found] == ["E0330"], words
        assert words in found[0].message
    found = refusals(save(tmp_path / "d.nir", input=wrong["3 neurons"]), graph)
    assert [(f.code, f.node) for f in found] == [("E0330", "input"), ("E0330", "other")]
    assert [f.code for f in refusals(tmp_path / "g.nir", graph)] == ["E0310"]
    (tmp_path / "x").write_bytes(b"no data")
    assert [f.code for f in refusals(tmp_path / "x", graph)] == ["E0310"]
    assert [f.code for f in refusals(tmp_path / "none", graph)] == ["E0301"]
    with pytest.raises(HsnnError):
        write_data(tmp_path / "d.nir", {("n", "v"): np.zeros(3)}, 0.1)
