"""One generic view of everything a node carries: class name and fields.

Text and HDF5 storage are both written in terms of this view, so an op or annotation that
is added to the tables below prints, parses and stores without further code.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import nir
import numpy as np

from hsnn_compiler.diagnostics import Source
from hsnn_compiler.ir.dynamics import Dynamics
from hsnn_compiler.ir.host_call import CONSTANT
from hsnn_compiler.ir.ops import OPS
from hsnn_compiler.ir.quant import (
    CollectQuant,
    CurrentQuant,
    FirstSpikeQuant,
    NeuronQuant,
    Schedule,
    SigmaDeltaQuant,
    WeightQuant,
)
from hsnn_compiler.ir.types import Coding, Placement, TensorType

ANNOTATIONS: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        TensorType,
        Dynamics,
        Placement,
        WeightQuant,
        NeuronQuant,
        SigmaDeltaQuant,
        CurrentQuant,
        CollectQuant,
        FirstSpikeQuant,
        Schedule,
        Source,
    )
}

NODE_FIELDS = ("type", "dynamics", "was", "placement", "quant", "schedule", "source")
"""What a node carries besides its name and op, in the order of printing."""

_SHAPED = {"Input": "input_type", "Output": "output_type"}


def to_record(value: Any) -> tuple[str, dict[str, Any]]:
    """Class name and fields of an op or annotation. Fields that hold None by default are left out
    when they do, and so are quiet ones that hold their default.
    """
    name = type(value).__name__
    if name in _SHAPED:
        return name, {"shape": _plain(next(iter(getattr(value, _SHAPED[name]).values())))}
    record = {}
    for field in fields(value):
        if field.name in ("input_type", "output_type", "metadata"):
            continue
        item = getattr(value, field.name)
        if item is None and not isinstance(value, nir.NIRNode):
            continue
        if field.metadata.get("quiet") and item == field.default:
            continue
        record[field.name] = _plain(item) if isinstance(value, nir.NIRNode) else item
    if name == "HostCall":
        record.update(record.pop("constants"))
    if name == "Flatten":
        shape = value.input_type["input"]
        record["input_type"] = None if shape is None else _plain(shape)
    return name, record


def from_record(name: str, record: dict[str, Any]) -> Any:
    """Rebuild what `to_record` took apart. Unknown names and fields raise KeyError or TypeError."""
    record = dict(record)
    if name in _SHAPED:
        return OPS[name](np.asarray(record["shape"], np.int64))
    if name == "TensorType":
        return TensorType(tuple(int(n) for n in record["shape"]), Coding(record["coding"]))
    if name == "Flatten":
        shape = record.get("input_type")
        record["input_type"] = {"input": None if shape is None else np.asarray(shape, np.int64)}
    if name == "HostCall":
        constants = [key for key in record if CONSTANT.fullmatch(key)]
        record["constants"] = {key: np.asarray(record.pop(key)) for key in constants}
    cls = ANNOTATIONS.get(name) or OPS[name]
    for key, item in record.items():
        if isinstance(item, list) and not issubclass(cls, nir.NIRNode):
            record[key] = tuple(item)
    return cls(**record)


def equal(a: Any, b: Any) -> bool:
    """Whether two ops or annotations carry the same class and values (arrays: dtype, shape, bits)."""
    if a is None or b is None:
        return a is b
    (name_a, record_a), (name_b, record_b) = to_record(a), to_record(b)
    if name_a != name_b or record_a.keys() != record_b.keys():
        return False
    return all(_same(record_a[key], record_b[key]) for key in record_a)


def graphs_equal(a: Any, b: Any) -> bool:
    """Whether two graphs have the same nodes, in the same order, the same edges and annotations."""
    if (a.name, a.timesteps) != (b.name, b.timesteps) or [n.name for n in a] != [n.name for n in b]:
        return False
    if sorted(a.edges) != sorted(b.edges):
        return False
    return all(
        equal(x.op, y.op) and all(equal(getattr(x, field), getattr(y, field)) for field in NODE_FIELDS)
        for x, y in zip(a, b, strict=True)
    )


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return list(a) == list(b)
    return bool(a == b)


def _plain(value: Any) -> Any:
    """Small integer arrays (shapes, strides) as lists; numpy scalars as Python numbers."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.ndim <= 1:
        return value.tolist()
    return value
