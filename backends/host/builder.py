"""An ONNX model, node by node: names that stay unique, constants kept once, nothing that nothing needs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hsnn_compiler import __version__

OPSET, IR_VERSION = 18, 8
"""What onnxruntime takes since 1.14; nothing here needs more."""

PRODUCER = "hsnn-compiler"


@dataclass
class Op:
    """One node: its kind, names of what it reads and puts out, and its attributes (a `Block` for a body)."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Port:
    """An input or output of a model or body: its name, number type, and sizes (a text is a free axis)."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]

    def info(self) -> Any:
        """As ONNX writes it."""
        return helper.make_tensor_value_info(self.name, helper.np_dtype_to_tensor_dtype(self.dtype), self.shape)


@dataclass
class Block:
    """Nodes in the order in which they run: a model, or the body of a `Scan`."""

    ops: list[Op] = field(default_factory=list)
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    known: dict[Any, tuple[str, ...]] = field(default_factory=dict)

    def reads(self) -> set[str]:
        """Everything that is read here, in bodies too."""
        found = {port.name for port in self.outputs}
        for op in self.ops:
            found |= _reads(op)
        return found

    def needs(self, wanted: Iterable[str]) -> set[str]:
        """These values, and all others that they depend on."""
        found = set(wanted)
        for op in reversed(self.ops):
            if found & set(op.outputs):
                found |= _reads(op)
        return found

    def prune(self) -> None:
        """Leave out what no output needs."""
        found = self.needs(port.name for port in self.outputs)
        self.ops = [op for op in self.ops if found & set(op.outputs)]


def _reads(op: Op) -> set[str]:
    inside = [value.reads() for value in op.attributes.values() if isinstance(value, Block)]
    return set(op.inputs).union(*inside)


class Builder:
    """Collects nodes and constants; `model` puts them together.

    Args:
        reserved: names of the model's inputs and outputs.

    Attributes:
        at: what the next nodes and constants are named after.
    """

    def __init__(self, reserved: Sequence[str] = ()) -> None:
        self.at = ""
        self.blocks = [Block()]
        self.constants: dict[str, np.ndarray] = {}
        self._contents: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._names = set(reserved)

    def unique(self, stem: str) -> str:
        """A name that is still free."""
        name, count = stem, 1
        while name in self._names:
            count += 1
            name = f"{stem}_{count}"
        self._names.add(name)
        return name

    def constant(self, array: np.ndarray, name: str = "") -> str:
        """Name of a constant; the same numbers are kept once."""
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        key = (array.dtype.str, array.shape, hashlib.blake2b(array.tobytes(), digest_size=16).digest())
        if key not in self._contents:
            self._contents[key] = self.unique(f"{self.at}.{name or 'constant'}")
            self.constants[self._contents[key]] = array
        return self._contents[key]

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> tuple[str, ...]:
        """Add a node and return the names of its outputs; one that is there already is used again."""
        key = (kind, inputs, outputs, repr(sorted(attributes.items())))
        is_plain = not any(isinstance(value, Block) for value in attributes.values())
        for block in self.blocks if is_plain else ():
            if key in block.known:
                return block.known[key]
        names = tuple(self.unique(f"{self.at}.{kind}") for _ in range(outputs))
        self.blocks[-1].ops.append(Op(kind, inputs, names, attributes))
        if is_plain:
            self.blocks[-1].known[key] = names
        return names

    def copy_to(self, source: str, target: str) -> None:
        """Give a value the name of an output of the model."""
        self.blocks[-1].ops.append(Op("Identity", (source,), (target,), {}))

    def model(self, name: str, inputs: Sequence[Port], outputs: Sequence[Port]) -> onnx.ModelProto:
        """The model. An input that nothing reads stays an input."""
        (block,) = self.blocks
        block.inputs, block.outputs = list(inputs), list(outputs)
        block.prune()
        reads = block.reads()
        constants = [_tensor(array, key) for key, array in self.constants.items() if key in reads]
        return helper.make_model(
            _graph(block, name, constants),
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
            producer_name=PRODUCER,
            producer_version=__version__,
        )


def _tensor(array: np.ndarray, name: str) -> Any:
    return numpy_helper.from_array(array, name)


def _graph(block: Block, name: str, constants: Sequence[Any] = ()) -> Any:
    nodes = [
        helper.make_node(op.kind, op.inputs, op.outputs, name=op.outputs[0], **_attributes(op)) for op in block.ops
    ]
    ends = [[port.info() for port in ports] for ports in (block.inputs, block.outputs)]
    return helper.make_graph(nodes, name, *ends, initializer=list(constants))


def _attributes(op: Op) -> dict[str, Any]:
    return {
        key: _graph(value, op.outputs[0]) if isinstance(value, Block) else value
        for key, value in sorted(op.attributes.items())
    }
