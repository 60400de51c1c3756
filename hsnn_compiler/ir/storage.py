"""Graphs as HDF5 files in NIR's own layout.

A graph of plain NIR nodes is a ``.nir`` file that any NIR tool reads. Extension ops lie in
the same layout under ``type = "hsnn.<Op>"``; annotations lie in each node's ``metadata``
as one JSON string (``hsnn``) with its arrays beside it (``hsnn_0``, ``hsnn_1``, ...), and
what belongs to the whole graph (order, ports, delays, time steps) in the graph's metadata.
Same graph, same bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

from hsnn_compiler.diagnostics import HsnnError, refuse
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.metadata import NAME, keys_for, put, read_dict, read_metadata, write_dict
from hsnn_compiler.ir.nesting import Level, is_marker, nest
from hsnn_compiler.ir.ops import EXTENSION_OPS, OPS, is_nir
from hsnn_compiler.ir.origin import Form, Origin, as_it_lay
from hsnn_compiler.ir.records import NODE_FIELDS, from_record, to_record

FORMAT = 1
_EXTENSION = "hsnn."
EXTENSIONS = frozenset(cls.__name__ for cls in EXTENSION_OPS)


def write(graph: Graph, path: str | Path, *, plain: bool = False) -> None:
    """Write a graph. With `plain`, annotations are left out, so that the file holds nothing but NIR; every op
    must then be a NIR primitive (else E0321). What came from a file looks as it did there: subgraphs
    are nested, parameters have their dtype and shape; others are written in the shape of the population.
    """
    if plain:
        foreign = [node.name for node in graph if not is_nir(node.op) and not is_marker(node)]
        if foreign:
            raise refuse("E0321", f"not NIR primitives: {', '.join(foreign)}", supported="NIR primitives only")
        whole = nest(graph)
    with h5py.File(path, "w") as file:
        file.create_dataset("version", data=nir.version, dtype=h5py.string_dtype())
        group = file.create_group("node")
        if plain:
            _write_level(group, whole, graph.origin or Origin())
        else:
            _write_annotated(group, graph)


def _write_level(group: h5py.Group, level: Level, origin: Origin, name: str = "") -> None:
    """One plain graph or subgraph, with those inside it."""
    put(group, "type", "NIRGraph")
    nodes = group.create_group("nodes")
    keys = keys_for([*level.nodes, *level.inner])
    for key, node in level.nodes.items():
        place = nodes.create_group(keys[key])
        _write_op(place, node, origin.forms.get(node.name, {}))
        _write_metadata(place, node.op.metadata, key if key != keys[key] else "")
    for key, inner in level.inner.items():
        _write_level(nodes.create_group(keys[key]), inner, origin, key if key != keys[key] else "")
    _write_edges(group, [(keys[src], keys[dst]) for src, dst in level.edges])
    _write_metadata(group, origin.metadata.get(level.path, {}), name)


def _write_annotated(group: h5py.Group, graph: Graph) -> None:
    put(group, "type", "NIRGraph")
    nodes = group.create_group("nodes")
    keys = keys_for([node.name for node in graph])
    for node in graph:
        place = nodes.create_group(keys[node.name])
        compact = _write_op(place, node, {})
        _write_annotations(place, node, compact)
        write_dict(place["metadata"], getattr(node.op, "metadata", {}))
    edges = graph.edges_as_added()
    _write_edges(group, [(keys[edge.src], keys[edge.dst]) for edge in edges])
    header = {
        "format": FORMAT,
        "name": graph.name,
        "timesteps": graph.timesteps,
        "order": [node.name for node in graph],
        "edges": [list(edge) for edge in edges],
    }
    renamed = {name: key for name, key in keys.items() if name != key}
    if renamed:
        header["keys"] = renamed
    metadata = group.create_group("metadata")
    if graph.origin:
        header["origin"] = [graph.origin.subgraphs, graph.origin.forms, list(graph.origin.metadata)]
        for i, values in enumerate(graph.origin.metadata.values()):
            write_dict(metadata.create_group(f"hsnn_origin/{i}"), values)
    put(metadata, "hsnn", json.dumps(header))


def _write_metadata(group: h5py.Group, values: dict[str, Any], name: str) -> None:
    if name:
        values = {**values, NAME: name}
    if values:
        write_dict(group.create_group("metadata"), values)


def _write_edges(group: h5py.Group, pairs: list[tuple[str, str]]) -> None:
    group.create_dataset("edges", data=np.array(pairs, dtype=object).reshape(-1, 2), dtype=h5py.string_dtype())


def read(path: str | Path) -> Graph:
    """Read a graph that `write` wrote, or a plain NIR file (nodes then come in HDF5's order)."""
    if not h5py.is_hdf5(path):
        raise refuse("E0322", f"{path} is not an HDF5 file", supported=".nir files and graphs of this compiler")
    try:
        with h5py.File(path, "r") as file:
            return _read_graph(file, Path(path).stem)
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise refuse("E0322", f"{path} cannot be read: {error}", supported="complete, unchanged files") from None


def _read_graph(file: h5py.File, name: str) -> Graph:
    if "node" not in file or "nodes" not in file["node"]:
        raise refuse("E0322", f"{name} holds no NIR graph", supported=".nir files")
    group = file["node"]
    header = _header(group)
    graph = Graph(header.get("name", name), header.get("timesteps"), _origin(group, header))
    keys = header.get("keys", {})
    for node in header.get("order", list(group["nodes"])):
        graph.add(_read_node(node, group["nodes"][keys.get(node, node)]))
    pairs = [(a.decode(), b.decode()) for a, b in group["edges"][()]]
    for edge in header.get("edges", pairs):
        try:
            graph.connect(Edge(*edge))
        except HsnnError as error:
            raise refuse("E0322", error.findings[0].message) from None
    return graph


def _origin(group: h5py.Group, header: dict[str, Any]) -> Origin | None:
    if "origin" not in header:
        return None
    subgraphs, forms, named = header["origin"]
    metadata = {name: read_dict(group[f"metadata/hsnn_origin/{i}"]) for i, name in enumerate(named)}
    forms = {node: {key: Form(d, tuple(shape)) for key, (d, shape) in of.items()} for node, of in forms.items()}
    return Origin(subgraphs, metadata, forms)


def _write_op(group: h5py.Group, node: Node, forms: dict[str, Form]) -> dict[str, list[int]]:
    """Type and parameters; returns the shapes of those written in the shape of the population."""
    name, record = to_record(node.op)
    compact: dict[str, list[int]] = {}
    put(group, "type", name if is_nir(node.op) else _EXTENSION + name)
    for key, value in record.items():
        if value is None:
            continue
        form = forms.get(key)
        if form is not None and (not node.is_neuron or np.shape(value) == form.shape):
            value = as_it_lay(value, form)
        elif _is_per_neuron(node, value):
            # NIR wants one value per neuron; ours may be one per channel, and is again when read back.
            compact[key] = list(value.shape)
            value = np.ascontiguousarray(np.broadcast_to(value, node.shape))
        put(group, key, value)
    return compact


def _is_per_neuron(node: Node, value: Any) -> bool:
    """Whether a parameter stands for one value per neuron but is given per channel or the like."""
    if not (isinstance(value, np.ndarray) and (node.is_neuron or node.kind == "Scale") and node.type is not None):
        return False
    try:
        return value.ndim > 0 and np.broadcast_shapes(value.shape, node.shape) == node.shape != value.shape
    except ValueError:  # it does not fit, which is for `infer_types` to say
        return False


def _write_annotations(group: h5py.Group, node: Node, compact: dict[str, list[int]]) -> None:
    arrays: list[np.ndarray] = []
    notes: dict[str, Any] = {"compact": compact} if compact else {}
    for field in NODE_FIELDS:
        value = getattr(node, field)
        if value is not None:
            name, record = to_record(value)
            notes[field] = [name, {key: _json(item, arrays) for key, item in record.items()}]
    metadata = group.create_group("metadata")
    put(metadata, "hsnn", json.dumps(notes))
    for i, array in enumerate(arrays):
        put(metadata, f"hsnn_{i}", array)


def _read_node(name: str, group: h5py.Group) -> Node:
    kind = group["type"][()].decode().removeprefix(_EXTENSION)
    if kind not in OPS:
        raise refuse("E0322", f"node {name} has the unknown type {kind}", supported=", ".join(OPS))
    record = {}
    is_primitive = kind not in EXTENSIONS  # which hold arrays only, also of no dimension
    for key, item in group.items():
        if key in ("type", "metadata"):
            continue
        value = item[()]
        if isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, np.generic):
            value = np.asarray(value) if value.dtype.kind == "f" and is_primitive else value.item()
        elif value.dtype.kind in "iu" and value.ndim == 1:
            value = value.tolist()
        record[key] = value
    notes = _notes(group)
    for key, shape in notes.pop("compact", {}).items():
        value = np.asarray(record[key])
        index = tuple(slice(0, size) for size in (*[1] * (value.ndim - len(shape)), *shape))
        record[key] = value[index].reshape(shape)
    if kind.startswith("Conv"):
        record.setdefault("input_shape", None)  # None has no form in HDF5 and is left out
    try:
        op = from_record(kind, record)
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise refuse("E0322", f"node {name} ({kind}) cannot be read: {error}", node=name) from None
    annotations = {
        field: from_record(kind, {key: _unjson(item, group["metadata"]) for key, item in annotation.items()})
        for field, (kind, annotation) in notes.items()
    }
    if is_nir(op):
        op.metadata = read_metadata(group)
    return Node(name, op, **annotations)


def _notes(group: h5py.Group) -> dict[str, Any]:
    """What `_write_annotations` wrote, or nothing."""
    if "metadata" not in group or "hsnn" not in group["metadata"]:
        return {}
    notes: dict[str, Any] = json.loads(group["metadata"]["hsnn"][()])
    return notes


def _header(group: h5py.Group) -> dict[str, Any]:
    header = _notes(group)
    if header.get("format", 0) > FORMAT:
        raise refuse("E0322", f"written by a newer compiler (format {header['format']})", suggestion="upgrade")
    return header


def _json(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    return value


def _unjson(value: Any, metadata: h5py.Group) -> Any:
    if isinstance(value, dict):
        return metadata[f"hsnn_{value['array']}"][()]
    return value
