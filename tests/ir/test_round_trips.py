"""Text and files give back exactly what was written: every op, annotation, edge and bit."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest
from any_graphs import random_graph, random_op
from chip_graphs import random_network
from hypothesis import given, settings
from picks import Picks, picks

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Coding, Graph, Node, TensorType, storage
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import OPS, is_nir
from hsnn_compiler.ir.records import equal, graphs_equal, to_record
from hsnn_compiler.ir.text import arrays_of, parse, to_text

GOLDEN = Path(__file__).parents[1] / "golden"


def check_text(graph: Graph) -> None:
    whole = to_text(graph, whole=True)
    assert graphs_equal(parse(whole), graph)
    assert to_text(parse(whole), whole=True) == whole
    short = to_text(graph)
    assert graphs_equal(parse(short, arrays_of(graph)), graph)


def check_file(graph: Graph, twice: bool = True) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path, again = Path(folder) / "graph.h5", Path(folder) / "again.h5"
        storage.write(graph, path)
        back = storage.read(path)
        assert graphs_equal(back, graph)
        if twice:
            assert to_text(back) == to_text(graph)
            storage.write(back, again)
            assert path.read_bytes() == again.read_bytes()
        return path.read_bytes()


@settings(max_examples=60)
@given(picks())
def test_text(p: Picks) -> None:
    check_text(random_graph(p))


@settings(max_examples=30)
@given(picks())
def test_file(p: Picks) -> None:
    check_file(random_graph(p))


@pytest.mark.parametrize("kind", OPS)
def test_every_op(kind: str) -> None:
    for seed in range(4):
        graph = Graph("g", 3)
        graph.add(Node("n", random_op(Picks.seeded(seed), kind)))
        check_text(graph)
        check_file(graph)


def test_seeded_graphs() -> None:
    """Wider than what hypothesis likes to draw."""
    for seed in range(500):
        graph = random_graph(Picks.seeded(seed))
        check_text(graph)
        check_file(graph, twice=seed < 50)


def test_quantised_networks() -> None:
    for seed in range(5):
        graph, _ = random_network(Picks.seeded(seed))
        check_text(graph)
        assert check_file(graph) == check_file(graph)


def test_equality_sees_every_field() -> None:
    for seed in range(40):
        graph = random_graph(Picks.seeded(seed))
        other = graph.copy()
        other.name += "x"
        assert not graphs_equal(graph, other)
        node = next(iter(graph))
        other = graph.copy()
        other.update(node.name, source=node.source.__class__("elsewhere", "", 1))
        assert not graphs_equal(graph, other)
        for edge in graph.edges[:1]:
            other = graph.copy()
            other.disconnect(edge)
            other.connect(edge._replace(delay=7))
            assert not graphs_equal(graph, other)
    assert not equal(nir.Linear(np.zeros((1, 1))), nir.Linear(np.array([[-0.0]])))
    assert not equal(nir.Linear(np.zeros((1, 1))), nir.Linear(np.zeros((1, 1), np.float32)))


def plain_network() -> Graph:
    rng = np.random.default_rng(0)
    graph = Graph("plain", 4)
    graph.add(Node("input", nir.Input(np.array([2, 6, 6])), type=TensorType((2, 6, 6), Coding.SPIKES)))
    weight, bias = rng.normal(size=(4, 1, 3, 2)), rng.normal(size=4)
    graph.add(Node("conv", nir.Conv2d((6, 6), weight, (2, 1), (1, 0), (1, 2), 2, bias)), "input")
    lif = nir.LIF(*(rng.uniform(1, 2, (4, 1, 1)) for _ in range(4)), v_reset=np.zeros((4, 1, 1)))
    graph.add(Node("lif", lif, dynamics=None), "conv")
    graph.add(Node("pool", nir.AvgPool2d(np.array([3, 2]), np.array([1, 2]), np.array([0, 0]))), "lif")
    graph.add(Node("flatten", nir.Flatten({"input": np.array([4, 1, 2])}, 0, -1)), "pool")
    graph.add(Node("fc", nir.Affine(rng.normal(size=(3, 8)), rng.normal(size=3))), "flatten")
    graph.add(Node("output", nir.Output(np.array([3]))), "fc")
    return infer_types(graph)


def test_a_plain_file_is_a_nir_file(tmp_path: Path) -> None:
    graph = plain_network()
    storage.write(graph, tmp_path / "plain.nir", plain=True)
    theirs = nir.read(tmp_path / "plain.nir", type_check=False)
    assert set(theirs.nodes) == {node.name for node in graph}
    assert sorted(theirs.edges) == sorted((edge.src, edge.dst) for edge in graph.edges)
    for node in graph:
        other = theirs.nodes[node.name]
        assert type(other) is type(node.op)
        for key, value in to_record(node.op)[1].items():
            mine, its = value, to_record(other)[1][key]
            if node.is_neuron:
                mine = np.broadcast_to(mine, node.shape)
            np.testing.assert_array_equal(np.asarray(its), np.asarray(mine), err_msg=f"{node.name}.{key}")
    back = storage.read(tmp_path / "plain.nir")
    assert {node.name for node in back} == {node.name for node in graph}
    np.testing.assert_array_equal(back["conv"].op.weight, graph["conv"].op.weight)


def test_files_that_nir_wrote_are_read(tmp_path: Path) -> None:
    graph = plain_network()
    nodes = {node.name: node.op for node in graph}
    nir.write(tmp_path / "theirs.nir", nir.NIRGraph(nodes, [(e.src, e.dst) for e in graph.edges], type_check=False))
    back = storage.read(tmp_path / "theirs.nir")
    back.update("input", type=graph["input"].type)
    back = infer_types(back)
    for node in graph:
        assert equal(back[node.name].op, node.op), node.name
        assert back[node.name].type == node.type


def test_what_plain_nir_cannot_say_is_refused(tmp_path: Path) -> None:
    graph = Graph("g")
    graph.add(Node("relu", random_op(Picks.seeded(0), "ReLU")))
    with pytest.raises(HsnnError) as error:
        storage.write(graph, tmp_path / "x.nir", plain=True)
    assert error.value.findings[0].code == "E0321"
    assert not is_nir(graph["relu"].op)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    def broken(change: object) -> Path:
        path = tmp_path / "graph.h5"
        storage.write(plain_network(), path)
        with h5py.File(path, "a") as file:
            change(file)  # type: ignore[operator]
        return path

    def other_type(file: h5py.File) -> None:
        file["node/nodes/fc/type"][()] = "Wormhole"

    def without_weight(file: h5py.File) -> None:
        del file["node/nodes/fc/weight"]

    def newer(file: h5py.File) -> None:
        file["node/metadata/hsnn"][()] = '{"format": 99}'

    def no_nodes(file: h5py.File) -> None:
        del file["node/nodes"]

    def no_edges(file: h5py.File) -> None:
        del file["node/edges"]

    def no_type(file: h5py.File) -> None:
        del file["node/nodes/fc/type"]

    def edge_to_nowhere(file: h5py.File) -> None:
        del file["node/metadata"]
        file["node/edges"][0] = ["fc", "nowhere"]

    def torn(file: h5py.File) -> None:
        file["node/nodes/fc/metadata/hsnn"][()] = '{"type": ["TensorType", {'

    changes = (other_type, without_weight, newer, no_nodes, no_edges, no_type, edge_to_nowhere, torn)
    for change in changes:
        with pytest.raises(HsnnError) as error:
            storage.read(broken(change))
        assert error.value.findings[0].code == "E0322", change.__name__
    for content in (b"", b"not hdf5", io.BytesIO(b"\x89HDF\r\n\x1a\n" + 50 * b"\0").getvalue()):
        (tmp_path / "junk").write_bytes(content)
        with pytest.raises(HsnnError) as error:
            storage.read(tmp_path / "junk")
        assert error.value.findings[0].code == "E0322"


def test_golden_text() -> None:
    """The form of the text is part of the interface: a change shows here."""
    golden = GOLDEN / "ir_text.txt"
    text = to_text(plain_network())
    assert text == golden.read_text(encoding="utf-8")


BROKEN = {
    "": 1,
    "graph": 1,
    'graph "g" {\n  a = Nothing() \n}': 2,
    'graph "g" {\n  a = ReLU()\n  b = ReLU() <- c\n}': 3,
    'graph "g" {\n  a = ReLU(\n}': 3,
    'graph "g" {\n  a = Clip(low=0.0)\n}': 2,
    'graph "g" {\n  a = Clip(low=0.0, high=§)\n}': 2,
    'graph "g" timesteps=x {\n}': 1,
    'graph "g" timesteps=1.5 {\n}': 1,
    'graph "g" {\n  a : pulses[3] = ReLU()\n}': 2,
    'graph "g" {\n  a : value[3] = ReLU()\n    type = 5\n': 3,
    'graph "g" {\n  a = Linear(weight=f32[2,2]#x0123abcd)\n}': 2,
    'graph "g" {\n  a = Linear(weight=f32[2,2]{1, 2, 3})\n}': 2,
    'graph "g" {\n  a = Linear(weight=f32[2,2]"AAAA")\n}': 2,
    'graph "g" {\n  a = Linear(weight=f32[2,2]"*")\n}': 2,
    'graph "g" {\n  a = ReLU()\n  a = ReLU()\n}': 3,
    'graph "g" {\n  a = ReLU() <- a+x\n}': 2,
    'graph "g" {\n  a = 5\n}': 2,
    'graph "g" {\n  a = ReLU()\n    dynamics = Dynamics(reset="never")\n}': None,
    'graph "g" {\n  a = ReLU()\n    schedule = 3\n}': 3,
    'graph "g" {\n}\nmore': 3,
}


@pytest.mark.parametrize("text", BROKEN)
def test_broken_text_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(HsnnError) as error:
        parse(text)
    line = BROKEN[text]
    finding = error.value.findings[0]
    if line is not None:
        assert finding.code == "E0320"
        assert finding.message.startswith(f"line {line}:"), finding.message


@settings(max_examples=100)
@given(picks())
def test_torn_text_never_ends_in_anything_but_a_refusal(p: Picks) -> None:
    text = to_text(random_graph(p), whole=True)
    start = p.integer(0, len(text))
    torn = text[:start] + p.choice(["", "]", "{", '"', "=", "5", "graph", "<-"]) + text[start + p.integer(0, 8) :]
    with contextlib.suppress(HsnnError):
        parse(torn)
