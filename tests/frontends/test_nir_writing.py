"""What is read is written back unchanged: names, parameters, edges, metadata, subgraphs."""

from __future__ import annotations

from pathlib import Path

import h5py
import nir
import numpy as np
import pytest
from conformance import PUBLISHED
from nir_files import convolutional, metadata, neuron, random_nir, same_file
from picks import Picks

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.frontends.nir import Contract, read, settle
from hsnn_compiler.ir import Edge, storage
from hsnn_compiler.ir.ops import NoOp
from hsnn_compiler.ir.records import graphs_equal


def back(path: Path, type_check: bool = True) -> Path:
    """The file, read, settled and written again; plain, and plain by way of an annotated file."""
    graph, _ = read(path)
    graph, _ = settle(graph)
    graph = graph.sorted().copy()
    again = path.with_suffix(".again")
    storage.write(graph, again, plain=True)
    storage.write(graph, path.with_suffix(".h5"))
    other, _ = read(path.with_suffix(".h5"))
    assert graphs_equal(other, graph)
    storage.write(other, path.with_suffix(".other"), plain=True)
    same_file(again, path.with_suffix(".other"), type_check)
    return again


def test_random_files(tmp_path: Path) -> None:
    nested = 0
    for seed in range(40):
        made = random_nir(Picks.seeded(seed))
        nested += any(isinstance(node, nir.NIRGraph) for node in made.nodes.values())
        nir.write(tmp_path / "a.nir", made)
        same_file(tmp_path / "a.nir", back(tmp_path / "a.nir"))
    assert nested > 8


def test_sizes_as_scalars_and_arrays(tmp_path: Path) -> None:
    for seed in range(15):
        p = Picks.seeded(seed)
        nir.write(tmp_path / "a.nir", convolutional(p))
        with h5py.File(tmp_path / "a.nir", "a") as file:
            for place in ("conv/stride", "conv/dilation", "conv/padding", "pool/stride", "pool/kernel_size"):
                value = file[f"node/nodes/{place}"][()]
                if (
                    isinstance(value, np.ndarray) and p.flag()
                ):  # one number for all dimensions, as nir's own users write
                    del file[f"node/nodes/{place}"]
                    file[f"node/nodes/{place}"] = value[0]
        same_file(tmp_path / "a.nir", back(tmp_path / "a.nir"))


def test_parameters_without_dimension(tmp_path: Path) -> None:
    """All of them 0-d, as a tool writes that has one value per population; nothing is expanded."""
    for seed in range(8):
        p = Picks.seeded(seed)
        nodes = {"input": nir.Input(np.array([4])), "n": neuron(p, ()), "out": nir.Output(np.array([4]))}
        path = tmp_path / "a.nir"
        nir.write(path, nir.NIRGraph(nodes, [("input", "n"), ("n", "out")], type_check=False))
        same_file(path, back(path, type_check=False), type_check=False)  # nir's own check wants [4]


@pytest.mark.skipif(not PUBLISHED.exists(), reason=f"no published data at {PUBLISHED}")
@pytest.mark.parametrize("file", ["lif/lif_norse", "braille/braille_noDelay_bias_zero", "cnn/cnn_sinabs"])
def test_published_files(file: str, tmp_path: Path) -> None:
    path = tmp_path / "a.nir"
    path.write_bytes((PUBLISHED / "nir" / f"{file}.nir").read_bytes())
    same_file(path, back(path))


def block_file(path: Path) -> Path:
    """Input, a subgraph of two affine layers, output."""

    def affine(k: float) -> nir.Affine:
        return nir.Affine(np.full((2, 2), k, np.float32), np.zeros(2, np.float32))

    inner = {"i": nir.Input(np.array([2])), "a": affine(1), "b": affine(2), "o": nir.Output(np.array([2]))}
    block = nir.NIRGraph(inner, [("i", "a"), ("a", "b"), ("b", "o")], metadata={"of": "the block"})
    inner["i"].metadata = {"of": "its input"}
    nodes = {"input": nir.Input(np.array([2])), "block": block, "output": nir.Output(np.array([2]))}
    nir.write(path, nir.NIRGraph(nodes, [("input", "block"), ("block", "output")]))
    return path


def test_a_subgraph_that_is_no_longer_one_is_written_flat(tmp_path: Path) -> None:
    graph, _ = read(block_file(tmp_path / "a.nir"))
    assert graph["block.i"].op.kind == "nir.Input"
    graph.connect(Edge("input", "block.b"))  # past the subgraph's own Input
    storage.write(graph, tmp_path / "b.nir", plain=True)
    flat = nir.read(tmp_path / "b.nir")
    assert set(flat.nodes) == {"input", "block.a", "block.b", "output"}
    assert sorted(flat.edges) == [
        ("block.a", "block.b"), ("block.b", "output"), ("input", "block.a"), ("input", "block.b"),
    ]  # fmt: skip
    graph, _ = read(block_file(tmp_path / "a.nir"))
    graph.connect(Edge("input", "block.a"))  # beside the way through the Input: what arrives counts twice
    storage.write(graph, tmp_path / "c.nir", plain=True)
    scale = nir.read(tmp_path / "c.nir").nodes["block.i"]
    np.testing.assert_array_equal(scale.scale, np.ones(2))


def test_a_subgraph_without_its_markers_is_written_flat(tmp_path: Path) -> None:
    graph, _ = read(block_file(tmp_path / "a.nir"))
    graph.bypass("block.o")
    storage.write(graph, tmp_path / "b.nir", plain=True)
    assert set(nir.read(tmp_path / "b.nir").nodes) == {"input", "block.a", "block.b", "output"}


def test_names_that_hdf5_cannot_hold(tmp_path: Path) -> None:
    """A slash makes groups within groups, which nir cannot read: the file gets another name beside the node's own."""
    nir.write(tmp_path / "a.nir", random_nir(Picks.seeded(0), depth=0))
    with h5py.File(tmp_path / "a.nir", "a") as file:
        names = {key: f"net/{key}" for key in file["node/nodes"]}
        for key, name in names.items():
            file["node/nodes"].move(key, name)
        edges = [[names[end.decode()] for end in pair] for pair in file["node/edges"][()]]
        file["node/edges"][...] = edges
    graph, findings = read(tmp_path / "a.nir")
    assert {node.name for node in graph} == set(names.values())
    assert not [f for f in findings if f.code == "W0462"]
    storage.write(graph, tmp_path / "b.nir", plain=True)
    assert set(nir.read(tmp_path / "b.nir").nodes) == {name.replace("/", ".") for name in names.values()}
    again, _ = read(tmp_path / "b.nir")
    assert {node.name for node in again} == set(names.values())
    assert [edge[:2] for edge in again.edges_as_added()] == [edge[:2] for edge in graph.edges_as_added()]


def test_parameters_that_a_pass_changed_are_written_as_they_are(tmp_path: Path) -> None:
    """Other shapes, and values that the file's own dtype cannot hold."""
    graph, _ = read(block_file(tmp_path / "a.nir"))
    weight = np.array([[0.1, 0.1], [0.1, 0.1], [0.1, 0.1]])
    graph.update("block.a", op=nir.Affine(weight, np.zeros(3, np.float64)))
    graph.update("block.b", op=nir.Affine(np.ones((2, 3)), np.zeros(2)))
    storage.write(graph, tmp_path / "b.nir", plain=True)
    op = nir.read(tmp_path / "b.nir").nodes["block"].nodes["a"]
    np.testing.assert_array_equal(op.weight, weight)
    assert (op.weight.dtype, op.bias.dtype, op.bias.shape) == (np.float64, np.float32, (3,))


def test_what_a_plain_file_cannot_say_is_refused(tmp_path: Path) -> None:
    graph, _ = read(block_file(tmp_path / "a.nir"))
    graph.update("block.a", op=NoOp("Dropout"))
    with pytest.raises(HsnnError) as error:
        storage.write(graph, tmp_path / "b.nir", plain=True)
    assert [f.code for f in error.value.findings] == ["E0321"]
    graph, _ = read(block_file(tmp_path / "a.nir"))
    graph.connect(Edge("block.a", "block.b", delay=2))
    with pytest.raises(HsnnError) as error:
        storage.write(graph, tmp_path / "b.nir", plain=True)
    assert "different delays" in error.value.findings[0].message
    assert not (tmp_path / "b.nir").exists()


def test_metadata_that_is_no_metadata_of_hdf5(tmp_path: Path) -> None:
    """What a user puts on a node is written as it can be, and never stops a file from being written."""
    graph, _ = read(block_file(tmp_path / "a.nir"))
    graph["block.a"].op.metadata = {"none": None, "list": ["a", "b"], "odd": {1: object}, **metadata(Picks.seeded(3))}
    for plain in (True, False):
        storage.write(graph, tmp_path / "b.nir", plain=plain)
        other, _ = read(tmp_path / "b.nir")
        assert "none" not in other["block.a"].op.metadata
        assert list(other["block.a"].op.metadata["list"]) == [b"a", b"b"]


def test_annotated_dynamics_and_delays_stay_unless_overridden(tmp_path: Path) -> None:
    one = np.ones(2)
    nodes = {"input": nir.Input(np.array([2])), "w": nir.Linear(np.eye(2)), "output": nir.Output(np.array([2]))}
    nodes["n"] = nir.LIF(tau=4 * one, r=one, v_leak=one / 4, v_threshold=one, v_reset=0 * one)
    edges = [("input", "w"), ("w", "n"), ("n", "w"), ("n", "output")]
    nir.write(tmp_path / "a.nir", nir.NIRGraph(nodes, edges))
    plain, _ = read(tmp_path / "a.nir")
    norse, _ = settle(plain, Contract.parse("preset=norse,refractory=2,input_delay=3", dt=0.5))
    storage.write(norse, tmp_path / "b.nir")
    kept, findings = settle(read(tmp_path / "b.nir")[0])
    assert findings == []
    assert graphs_equal(kept, norse)
    changed, findings = settle(kept, Contract.parse("reset=subtract", dt=0.25))
    assert findings == []
    for node in changed:
        before = kept[node.name].dynamics
        if before is not None and node.is_neuron:
            assert (node.dynamics.reset, node.dynamics.dt, node.dynamics.refractory) == ("subtract", 0.25, 2)
            np.testing.assert_array_equal(node.dynamics.v_init, one / 4)
    assert changed.edges == kept.edges
    sinabs, findings = settle(kept, Contract.parse("preset=sinabs"))
    assert any("delays are those of the file" in f.message for f in findings)
    assert sinabs.edges == kept.edges
    assert {node.dynamics.reset for node in sinabs if node.is_spiking} == {"subtract"}
    assert {node.dynamics.dt for node in sinabs if node.is_neuron} == {0.5}
