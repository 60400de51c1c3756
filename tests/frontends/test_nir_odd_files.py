"""Files as old or careless tools write them: what is assumed is said, what cannot be is refused, all at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.frontends.nir import read, settle
from hsnn_compiler.frontends.nir.fields import DEFAULTS, REQUIRED
from hsnn_compiler.reference.float_executor import FloatExecutor

one = np.ones(3, np.float32)
OPS: dict[str, Any] = {
    "Affine": nir.Affine(np.eye(3, dtype=np.float32), one),
    "Linear": nir.Linear(np.eye(3, dtype=np.float32)),
    "Scale": nir.Scale(one),
    "Delay": nir.Delay(one),
    "Threshold": nir.Threshold(one),
    "I": nir.I(one),
    "LI": nir.LI(2 * one, one, 0 * one),
    "IF": nir.IF(one, one, 0 * one),
    "LIF": nir.LIF(2 * one, one, 0 * one, one, 0 * one),
    "CubaLI": nir.CubaLI(2 * one, 2 * one, one, 0 * one, one),
    "CubaLIF": nir.CubaLIF(2 * one, 2 * one, one, 0 * one, one, 0 * one, one),
}
SPATIAL: dict[str, Any] = {
    "Conv1d": nir.Conv1d(6, np.ones((2, 2, 3), np.float32), 1, 0, 1, 1, np.ones(2, np.float32)),
    "Conv2d": nir.Conv2d((6, 6), np.ones((2, 2, 3, 3), np.float32), 1, 0, 1, 1, np.ones(2, np.float32)),
    "SumPool2d": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
    "AvgPool2d": nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
    "Flatten": nir.Flatten({"input": np.array([2, 6, 6])}, 0, -1),
}


def file_of(path: Path, op: Any, change: Callable[[h5py.File], None] = lambda file: None) -> Path:
    """Input, the op as node ``n``, output; then changed."""
    shape = (3,) if type(op).__name__ in OPS else (2, 6) if isinstance(op, nir.Conv1d) else (2, 6, 6)
    nodes = {"input": nir.Input(np.array(shape)), "n": op, "output": nir.Output(np.array([1]))}
    nir.write(path, nir.NIRGraph(nodes, [("input", "n"), ("n", "output")], type_check=False))
    with h5py.File(path, "a") as file:
        change(file)
    return path


def refusals(path: Path) -> list[Finding]:
    with pytest.raises(HsnnError) as error:
        read(path)
    return list(error.value.findings)


@pytest.mark.parametrize("kind", [*OPS, *SPATIAL])
def test_every_missing_field(kind: str, tmp_path: Path) -> None:
    """Refused (E0323) if nothing can stand in for it, else assumed, and said unless nothing depends on it."""
    op = (OPS | SPATIAL)[kind]
    fields = [key for key, value in op.to_dict().items() if key not in ("type", "metadata") and value is not None]
    assert fields
    assert set(REQUIRED[kind]) <= set(fields)
    for field in fields:
        path = file_of(tmp_path / "a.nir", op, lambda file, field=field: file.pop(f"node/nodes/n/{field}"))
        if field in REQUIRED[kind]:
            found = refusals(path)
            assert [(f.code, f.node) for f in found] == [("E0323", "n")]
            assert field in found[0].message
            continue
        graph, findings = read(path)
        if field in ("v_reset", "input_shape", "input_type"):
            assert findings == []
        else:
            assert [(f.code, f.node) for f in findings] == [("I0461", "n")]
            assert f"{field} = " in findings[0].message
        value = getattr(graph["n"].op, field) if field != "input_type" else None
        if field in ("r", "w_in"):
            np.testing.assert_array_equal(value, np.ones(3))
        elif field in ("v_leak", "v_reset", "bias"):
            np.testing.assert_array_equal(value, np.zeros_like(getattr(op, field)))
            assert value.dtype == np.float32
        elif field == "stride" and kind.endswith("Pool2d"):
            assert list(value) == [2, 2]
        elif field in ("stride", "dilation", "groups", "padding"):
            assert set(np.ravel(value)) == {DEFAULTS[kind][field]}


def test_scalars_among_arrays_take_the_shape_of_the_others(tmp_path: Path) -> None:
    def scalars(file: h5py.File) -> None:
        for key, value in (("r", 2.0), ("tau", 4), ("v_reset", np.float32(0.5))):
            del file[f"node/nodes/n/{key}"]
            file[f"node/nodes/n/{key}"] = value

    graph, findings = read(file_of(tmp_path / "a.nir", OPS["LIF"], scalars))
    assert findings == []
    op = graph["n"].op
    for key, value in (("r", 2), ("tau", 4), ("v_reset", 0.5), ("v_threshold", 1)):
        np.testing.assert_array_equal(getattr(op, key), np.full(3, value))
        assert getattr(op, key).dtype.kind == "f"
    settled, _ = settle(graph)
    FloatExecutor(settled).run(np.ones((1, 4, 3), np.float32))


def edges(file: h5py.File, *pairs: tuple[str, str]) -> None:
    del file["node/edges"]
    file["node"].create_dataset("edges", data=np.array(pairs, dtype=object), dtype=h5py.string_dtype())


def test_edges_to_nowhere_and_edges_given_twice_are_left_out(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        edges(file, ("input", "n"), ("n", "output"), ("n", "ghost"), ("ghost.2", "n"), ("input", "n"))

    graph, findings = read(file_of(tmp_path / "a.nir", OPS["IF"], change))
    assert [(f.code, f.node) for f in findings] == [("W0462", "ghost"), ("W0462", "ghost.2"), ("W0462", "n")]
    assert "twice" in findings[2].message
    assert [edge[:2] for edge in graph.edges_as_added()] == [("input", "n"), ("n", "output")]


def test_nodes_that_no_input_reaches_are_left_out(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        file.copy("node/nodes/n", "node/nodes/alone")

    graph, findings = read(file_of(tmp_path / "a.nir", OPS["IF"], change))
    assert [(f.code, f.node) for f in findings] == [("W0462", "alone")]
    assert "alone" not in graph


def test_names_with_slashes(tmp_path: Path) -> None:
    """HDF5 makes groups of them; edges name them with the slash."""

    def change(file: h5py.File) -> None:
        file["node/nodes"].move("n", "net/0/lif")
        edges(file, ("input", "net/0/lif"), ("net/0/lif", "output"))

    graph, findings = read(file_of(tmp_path / "a.nir", OPS["LIF"], change))
    assert findings == []
    assert graph["net/0/lif"].kind == "LIF"
    assert [edge[:2] for edge in graph.edges_as_added()] == [("input", "net/0/lif"), ("net/0/lif", "output")]


def test_without_output(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        del file["node/nodes/output"]
        edges(file, ("input", "n"))

    graph, findings = read(file_of(tmp_path / "a.nir", OPS["IF"], change))
    assert [(f.code, f.node) for f in findings] == [("I0461", "n")]
    (output,) = graph.of_kind("Output")
    assert [edge.src for edge in graph.in_edges(output.name)] == ["n"]
    assert output.shape == (3,)


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        del file["node/nodes/input"]
        file.copy("node/nodes/n", "node/nodes/odd")
        file["node/nodes/odd/type"][()] = "Wormhole"
        del file["node/nodes/n/v_threshold"]
        edges(file, ("input", "n"), ("n", "odd"), ("odd", "output"))

    found = refusals(file_of(tmp_path / "a.nir", OPS["LIF"], change))
    errors = [(f.code, f.node) for f in found if f.is_error]
    assert errors == [("E0323", "n"), ("E0323", "odd"), ("E0323", "")]
    assert "Wormhole" in str(found[[f.node for f in found].index("odd")])
    assert "no Input" in found[-1].message
    assert all("a.nir" in f.source.file for f in found if f.node in ("n", "odd") and f.is_error)


def test_shapes_that_do_not_fit(tmp_path: Path) -> None:
    def narrow(file: h5py.File) -> None:
        file["node/nodes/input/shape"][()] = [4]

    found = refusals(file_of(tmp_path / "a.nir", OPS["Affine"], narrow))
    assert [(f.code, f.node) for f in found] == [("E0421", "n")]

    def ragged(file: h5py.File) -> None:
        del file["node/nodes/n/r"]
        file["node/nodes/n/r"] = np.ones(2, np.float32)

    found = refusals(file_of(tmp_path / "a.nir", OPS["LIF"], ragged))
    assert [(f.code, f.node) for f in found] == [("E0323", "n")]

    def words(file: h5py.File) -> None:
        del file["node/nodes/n/weight"]
        file["node/nodes/n/weight"] = ["no", "numbers"]

    found = refusals(file_of(tmp_path / "a.nir", OPS["Linear"], words))
    assert [(f.code, f.node) for f in found] == [("E0323", "n")]


def test_two_nodes_of_one_name_once_flat(tmp_path: Path) -> None:
    inner = nir.NIRGraph.from_list(nir.Input(np.array([3])), OPS["Linear"], nir.Output(np.array([3])))
    nodes = {"input": nir.Input(np.array([3])), "a": inner, "a.linear": OPS["Linear"], "o": nir.Output(np.array([3]))}
    nir.write(tmp_path / "a.nir", nir.NIRGraph(nodes, [("input", "a"), ("a", "a.linear"), ("a.linear", "o")]))
    assert [(f.code, f.node) for f in refusals(tmp_path / "a.nir")] == [("E0323", "a.linear")]


def test_damaged_files_end_in_a_refusal(tmp_path: Path) -> None:
    """Cut off, overwritten, with parts missing: never anything but a typed error, or a graph."""
    path = file_of(tmp_path / "a.nir", OPS["CubaLIF"])
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(80):
        content = bytearray(whole)
        if trial % 2:
            content = content[: int(rng.integers(1, len(whole)))]
        else:
            at = int(rng.integers(0, len(whole) - 64))
            content[at : at + 64] = rng.bytes(64)
        path.write_bytes(bytes(content))
        try:
            read(path)
        except HsnnError as error:
            codes = {f.code for f in error.findings}
            refused += bool(codes & {"E0322", "E0323", "E0421", "E0301"})
    assert refused >= 40
    for content in (b"", b"no HDF5", whole[:8]):
        path.write_bytes(content)
        assert [f.code for f in refusals(path)] == ["E0322"]
    assert [f.code for f in refusals(tmp_path / "nothing.nir")] == ["E0301"]
    with h5py.File(path, "w") as file:
        file["something"] = 1
    assert [f.code for f in refusals(path)] == ["E0322"]
