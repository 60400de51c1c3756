"""Read a ``.nir`` file tolerantly: what is missing and can be assumed is assumed, and said.

Nested subgraphs are laid flat: node ``conv`` of subgraph ``block`` becomes ``block.conv``, and the
subgraph's own Input and Output stay as NoOps, so that `hsnn_compiler.ir.storage` can nest them again.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import nir
import numpy as np

from hsnn_compiler.diagnostics import Finding, HsnnError, Source, refuse
from hsnn_compiler.frontends.nir.fields import KINDS, MissingParameterError, build
from hsnn_compiler.frontends.nir.late import in_loops
from hsnn_compiler.ir import storage
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.metadata import name_of, read_metadata
from hsnn_compiler.ir.ops import NoOp
from hsnn_compiler.ir.origin import Origin
from hsnn_compiler.ir.types import Coding, TensorType


def read(path: str | Path) -> tuple[Graph, list[Finding]]:
    """Read a graph; neurons of a foreign file have no dynamics yet, see `settle`.

    Raises:
        HsnnError: E0322 not a NIR file, E0323 nodes that cannot be read, E0421 shapes that do not fit.
            All findings at once.
    """
    path = Path(path)
    if not path.exists():
        raise refuse("E0301", f"no such file: {path}", suggestion="check the path and the working directory")
    if not h5py.is_hdf5(path):
        raise refuse("E0322", f"{path} is not an HDF5 file", supported=".nir files")
    try:
        with h5py.File(path, "r") as file:
            group = file.get("node", file)
            if "nodes" not in group:
                raise refuse("E0322", f"{path} holds no NIR graph", supported=".nir files")
            if "metadata" in group and "hsnn" in group["metadata"]:
                return storage.read(path), []
            reader = _Reader(path)
            reader.subgraph(group, "")
    except (OSError, KeyError, RuntimeError, UnicodeDecodeError) as error:
        raise refuse("E0322", f"{path} is damaged: {error}", supported="complete, unchanged files") from None
    return reader.finish()


class _Reader:
    """Collects nodes, edges and findings."""

    def __init__(self, path: Path) -> None:
        self.graph = Graph(path.stem, origin=Origin())
        self.origin = self.graph.origin or Origin()
        self.file = str(path)
        self.findings: list[Finding] = []
        self.ports: dict[str, tuple[list[str], list[str]]] = {}  # of each subgraph: its inputs and outputs

    def subgraph(self, group: h5py.Group, prefix: str) -> None:
        """Add the nodes and edges of one (sub)graph, their names behind a prefix."""
        inputs: list[str] = []
        outputs: list[str] = []
        self.origin.metadata[prefix[:-1]] = read_metadata(group)
        names = {}
        for key, node in _nodes(group["nodes"]):
            names[key] = name = name_of(node, key)
            kind = _text(node["type"][()])
            if kind == "NIRGraph":
                self.origin.subgraphs.append(prefix + name)
                self.subgraph(node, f"{prefix}{name}.")
                continue
            added = self._node(prefix + name, kind, node, nested=bool(prefix))
            if kind == "Input" and added:
                inputs.append(prefix + name)
            if kind == "Output" and added:
                outputs.append(prefix + name)
        if prefix:
            self.ports[prefix[:-1]] = inputs, outputs
        for src, dst in group["edges"][()].reshape(-1, 2) if "edges" in group else ():
            src, dst = (names.get(key, key) for key in (_text(src), _text(dst)))
            self._edge(prefix + src, prefix + dst)

    def _node(self, name: str, kind: str, group: h5py.Group, nested: bool) -> bool:
        if kind not in KINDS:
            self._wrong(name, f"{kind} is not a primitive of NIR", supported=", ".join(KINDS))
            return False
        try:
            op, findings, self.origin.forms[name] = build(kind, name, group)
        except (MissingParameterError, ValueError, TypeError, AssertionError) as error:
            self._wrong(name, f"{kind} cannot be read: {error or 'its parameters do not fit together'}")
            return False
        self.findings += findings
        tensor = None
        if kind == "Input" and not nested:
            tensor = TensorType(tuple(int(n) for n in op.input_type["input"]), Coding.CURRENT)
        if kind in ("Input", "Output") and nested:
            self.origin.metadata[name] = op.metadata
            op = NoOp(f"nir.{kind}")
        if name in self.graph:
            self._wrong(name, "two nodes have this name, once the subgraphs are laid flat")
            return False
        self.graph.add(Node(name, op, tensor, source=Source(module=name)))
        return True

    def _wrong(self, name: str, message: str, supported: str = "") -> None:
        place = Source(module=name, file=self.file)
        self.findings.append(Finding("E0323", message, node=name, source=place, supported=supported))

    def _edge(self, src: str, dst: str) -> None:
        """Connect; an end that is a subgraph is the one Output (or Input) inside it."""
        ends = []
        for name, side, what in ((src, 1, "outputs"), (dst, 0, "inputs")):
            ports = self.ports.get(name, ([], []))[side] if name in self.ports else [name]
            slashed = name.replace("/", ".")
            if ports == [name] and name not in self.graph and slashed in self.graph:
                ports = [slashed]
            if len(ports) > 1:
                self._wrong(name, f"a subgraph with {len(ports)} {what}, of which an edge does not say which it means")
                return
            ends += ports
        if len(ends) < 2 or ends[0] not in self.graph or ends[1] not in self.graph:
            lost = src if not ends or ends[0] not in self.graph else dst
            if any(f.code == "E0323" and f.node == lost for f in self.findings):
                return
            self.findings.append(
                Finding("W0462", f"an edge {src} -> {dst} names no node of the file and is left out", node=lost)
            )
            return
        edge = Edge(ends[0], ends[1])
        if edge in self.graph.in_edges(edge.dst):
            self.findings.append(Finding("W0462", f"the edge {src} -> {dst} is there twice; it counts once", node=dst))
        else:
            self.graph.connect(edge)

    def finish(self) -> tuple[Graph, list[Finding]]:
        """Complete the graph and infer its types; refuse with everything that is wrong."""
        graph = self.graph
        if not graph.of_kind("Input"):
            self.findings.append(Finding("E0323", "the file has no Input", supported="at least one Input node"))
        if any(f.is_error for f in self.findings):
            raise HsnnError(self.findings)
        if not graph.of_kind("Output"):
            self._add_outputs()
        graph = self._reachable(graph)
        loops = in_loops(graph)  # types need an order; which edges are late is for `settle` to say
        try:
            typed = infer_types(graph.with_delays(lambda edge: int(edge in loops)))
        except HsnnError as error:
            raise HsnnError([*self.findings, *error.findings]) from None
        return typed.with_delays(lambda edge: 0), self.findings

    def _add_outputs(self) -> None:
        for node in [n for n in self.graph if not self.graph.out_edges(n.name) and n.kind != "Input"]:
            name = self.graph.unique("output")
            self.graph.add(Node(name, nir.Output(np.array([0]))), node.name)
            self.findings.append(
                Finding("I0461", f"the file has no Output; {name!r} is put behind {node.name}", node=node.name)
            )

    def _reachable(self, graph: Graph) -> Graph:
        """Leave out what no input reaches: it has no shape and no effect that NIR defines."""
        reached: set[str] = set()
        for node in graph.of_kind("Input"):
            reached |= {node.name} | graph.descendants(node.name)
        lost = [node.name for node in graph if node.name not in reached]
        for name in lost:
            self.findings.append(Finding("W0462", "no input leads here; the node is left out", node=name))
            graph.remove(name)
        return graph


def _nodes(group: h5py.Group, prefix: str = "") -> list[tuple[str, h5py.Group]]:
    """Nodes by name; HDF5 makes groups within groups of a name with a slash."""
    found = []
    for key, item in group.items():
        if isinstance(item, h5py.Group) and "type" in item:
            found.append((prefix + key, item))
        elif isinstance(item, h5py.Group):
            found += _nodes(item, f"{prefix}{key}/")
    return sorted(found, key=lambda pair: (len(pair[0]), pair[0]) if pair[0].isdigit() else (1000, pair[0]))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
