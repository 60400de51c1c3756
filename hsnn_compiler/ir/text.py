"""Graphs as text: stable, diffable, and parsed back.

    graph "digits" timesteps=16 {
      conv1 : current[16,8,8] = Conv2d(weight=f32[16,1,3,3]#2f6c0a91, ...) <- input
        source = Source(module="conv1", file="", line=0)
    }

Arrays of up to `SMALL` elements are written out; larger ones are named by the first eight
hex digits of their SHA-256, and looked up when parsing (`arrays_of` gives the table), or
written whole in base64 with ``to_text(graph, whole=True)``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from hsnn_compiler.diagnostics import HsnnError, Source, refuse
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.ops import OPS
from hsnn_compiler.ir.records import ANNOTATIONS, NODE_FIELDS, from_record, to_record

SMALL = 6
_DTYPES = {
    "f4": "f32",
    "f8": "f64",
    "i4": "i32",
    "i8": "i64",
    "i2": "i16",
    "i1": "i8",
    "u1": "u8",
    "b1": "b1",
}
_DTYPES_BACK = {name: code for code, name in _DTYPES.items()}
_TOKEN = re.compile(
    r'\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<name>[A-Za-z_][\w.\-]*)'
    r"|(?P<number>[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|inf|nan)(?![\w.]))|(?P<arrow><-)|(?P<sign>[{}()\[\]=,:#+]))"
)
_NAME = re.compile(r"[A-Za-z_][\w.\-]*")
_FIELD = re.compile(r"\s*=\s*(\w+)\(")


def to_text(graph: Graph, *, whole: bool = False) -> str:
    """Print a graph. With `whole`, the text holds everything; without, large arrays are named by hash."""
    steps = "" if graph.timesteps is None else f" timesteps={graph.timesteps}"
    lines = [f"graph {json.dumps(graph.name)}{steps} {{"]
    for node in graph:
        kind = "" if node.type is None else f" : {node.type}"
        feeds = ", ".join(_edge_text(edge) for edge in graph.in_edges(node.name))
        lines.append(
            f"  {_name_text(node.name)}{kind} = {_record_text(node.op, whole)}" + (f" <- {feeds}" if feeds else "")
        )
        for field in NODE_FIELDS[1:]:
            value = getattr(node, field)
            if value is not None and value != Source():
                lines.append(f"    {field} = {_record_text(value, whole)}")
    return "\n".join([*lines, "}"]) + "\n"


def arrays_of(graph: Graph) -> dict[str, np.ndarray]:
    """All large arrays of a graph by the hash that `to_text` prints."""
    found: dict[str, np.ndarray] = {}
    for node in graph:
        for item in (node.op, *(getattr(node, field) for field in NODE_FIELDS)):
            if item is not None:
                for value in to_record(item)[1].values():
                    if isinstance(value, np.ndarray) and value.size > SMALL:
                        found[_digest(value)] = value
    return found


def parse(text: str, arrays: dict[str, np.ndarray] | None = None) -> Graph:
    """Read a graph back from text. Errors (E0320) name the line and what was expected."""
    parser = _Parser(text, arrays or {})
    try:
        return parser.graph()
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise parser.error(str(error)) from None


def _name_text(name: str) -> str:
    """A name as it is, or quoted if it would not be read back as one (``0``, ``a/b``)."""
    return name if _NAME.fullmatch(name) else json.dumps(name)


def _edge_text(edge: Edge) -> str:
    port = "" if edge.port == "input" else f":{edge.port}"
    return f"{_name_text(edge.src)}{port}" + (f"+{edge.delay}" if edge.delay else "")


def _record_text(value: Any, whole: bool) -> str:
    name, record = to_record(value)
    return f"{name}({', '.join(f'{key}={_value_text(item, whole)}' for key, item in record.items())})"


def _value_text(value: Any, whole: bool) -> str:
    if isinstance(value, np.ndarray):
        kind = _DTYPES[value.dtype.str[1:]]
        head = f"{kind}[{','.join(map(str, value.shape))}]"
        if value.size <= SMALL:
            return f"{head}{{{', '.join(repr(item) for item in value.ravel().tolist())}}}"
        if whole:
            return f'{head}"{base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()}"'
        return f"{head}#x{_digest(value)}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value_text(item, whole) for item in value)}]"
    if isinstance(value, str):
        return json.dumps(str(value.value) if hasattr(value, "value") else value)
    if isinstance(value, np.generic):
        value = value.item()
    return repr(value)


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:8]


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str, arrays: dict[str, np.ndarray]) -> None:
        self.text, self.arrays, self.position = text, arrays, 0
        self.kind, self.token = "", ""
        self.start = self.previous = 0  # where the current token begins, and the one before it

    def graph(self) -> Graph:
        self._advance()
        self._expect("graph")
        graph = Graph(json.loads(self._take("string")))
        if self.token == "timesteps":
            self._advance()
            self._expect("=")
            graph.timesteps = int(self._take("number"))
        self._expect("{")
        edges: list[tuple[Edge, int]] = []
        while not self._accept("}"):
            at = self.start
            edges += [(edge, at) for edge in self._node(graph)]
        if self.kind != "end":
            raise self.error(f"{self.token!r} behind the end of the graph")
        for edge, at in edges:
            self._change(graph.connect, edge, at)
        return graph

    def _node(self, graph: Graph) -> list[Edge]:
        at = self.start
        name = self._name()
        fields: dict[str, Any] = {}
        if self._accept(":"):
            coding = self._take("name")
            fields["type"] = from_record("TensorType", {"coding": coding, "shape": self._value()})
        self._expect("=")
        fields["op"] = self._value()
        if type(fields["op"]).__name__ not in OPS:
            raise self.error("an op is expected", self.previous)
        edges = []
        if self._accept("<-"):
            edges.append(self._edge(name))
            while self._accept(","):
                edges.append(self._edge(name))
        while self.kind == "name" and self.token in NODE_FIELDS[1:] and self._is_annotation():
            field = self._take("name")
            self._expect("=")
            fields[field] = self._value()
        self._change(graph.add, Node(name, **fields), at)
        return edges

    def _name(self) -> str:
        if self.kind == "string":
            name: str = json.loads(self._advance())
            return name
        return self._take("name")

    def _change(self, change: Callable[[Any], Any], what: Node | Edge, at: int) -> None:
        """Add to the graph; what it refuses is said with the line."""
        try:
            change(what)
        except HsnnError as error:
            raise self.error(error.findings[0].message, at) from None

    def _edge(self, dst: str) -> Edge:
        src, port, delay = self._name(), "input", 0
        if self._accept(":"):
            port = self._advance()
        if self._accept("+") or (self.kind == "number" and self.token.startswith("+")):
            delay = int(self._take("number"))
        return Edge(src, dst, port, delay)

    def _value(self) -> Any:
        if self.kind == "string":
            return json.loads(self._advance())
        if self.kind == "number":
            token = self._advance()
            return int(token) if re.fullmatch(r"[-+]?\d+", token) else float(token)
        if self._accept("["):
            items = []
            while not self._accept("]"):
                items.append(self._value())
                self._accept(",")
            return items
        name = self._take("name")
        if name in ("True", "False", "None"):
            return {"True": True, "False": False, "None": None}[name]
        if name in ("inf", "nan"):
            return float(name)
        if name in _DTYPES_BACK and self.token == "[":
            return self._array(np.dtype(_DTYPES_BACK[name]))
        return self._record(name)

    def _array(self, dtype: np.dtype) -> np.ndarray:
        shape = tuple(self._value())
        if self._accept("#"):
            digest = self._take("name")[1:]
            if digest not in self.arrays:
                raise self.error(f"no array with hash {digest} was given")
            return np.frombuffer(self.arrays[digest].tobytes(), dtype).reshape(shape).copy()
        if self.kind == "string":
            return np.frombuffer(base64.b64decode(json.loads(self._advance())), dtype).reshape(shape).copy()
        self._expect("{")
        items = []
        while not self._accept("}"):
            items.append(self._value())
            self._accept(",")
        return np.array(items, dtype).reshape(shape)

    def _record(self, name: str) -> Any:
        at = self.previous
        self._expect("(")
        record = {}
        while not self._accept(")"):
            key = self._take("name")
            self._expect("=")
            record[key] = self._value()
            self._accept(",")
        try:
            return from_record(name, record)
        except HsnnError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise self.error(f"{name}(...) cannot be built: {error}", at) from None

    # -- tokens ---------------------------------------------------------------------------

    def _advance(self) -> str:
        """Return the current token and read the next."""
        current, self.previous = self.token, self.start
        match = _TOKEN.match(self.text, self.position)
        if match is None:
            if self.text[self.position :].strip():
                rest = self.text[self.position :]
                raise self.error("not a token", self.position + len(rest) - len(rest.lstrip()))
            self.kind, self.token, self.start = "end", "", len(self.text)
        else:
            self.position = match.end()
            self.kind = match.lastgroup or ""
            self.token, self.start = match.group(self.kind), match.start(self.kind)
        return current

    def _take(self, kind: str) -> str:
        if self.kind != kind:
            raise self.error(f"expected a {kind}, found {self.token!r}")
        return self._advance()

    def _expect(self, token: str) -> None:
        if self.token != token:
            raise self.error(f"expected {token!r}, found {self.token!r}")
        self._advance()

    def _accept(self, token: str) -> bool:
        if self.token == token and self.kind != "string":
            self._advance()
            return True
        return False

    def _is_annotation(self) -> bool:
        """Whether an annotation follows, and not a node that has the name of one."""
        match = _FIELD.match(self.text, self.position)
        if match is None:
            return False
        # `was = ReLU()` reads like a node of that name: there the indentation decides.
        indent = self.start - self.text.rfind("\n", 0, self.start) - 1
        return match.group(1) in ANNOTATIONS or (self.token == "was" and match.group(1) in OPS and indent >= 4)

    def error(self, message: str, at: int | None = None) -> HsnnError:
        """An error at a position, by default at the current token."""
        line = self.text.count("\n", 0, self.start if at is None else at) + 1
        return refuse("E0320", f"line {line}: {message}", supported="text printed by this compiler")
