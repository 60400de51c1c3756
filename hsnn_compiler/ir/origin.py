"""What the file of a graph said besides what the graph means, kept so that it can be written back unchanged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class Form(NamedTuple):
    """How a parameter lay in the file: numpy dtype (``"<f4"``) and shape."""

    dtype: str
    shape: tuple[int, ...]


@dataclass
class Origin:
    """Belongs to a graph, is shared by its copies and never changed once the graph is read.

    Attributes:
        subgraphs: names of nested subgraphs, inner ones with their path: ``block``, ``block.inner``.
        metadata: by name, the metadata of subgraphs, of their inner Inputs and Outputs, and (``""``)
            of the graph itself. Those of other nodes are in ``op.metadata``.
        forms: by node and parameter, how it lay in the file.
    """

    subgraphs: list[str] = field(default_factory=list)
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    forms: dict[str, dict[str, Form]] = field(default_factory=dict)


def as_it_lay(value: Any, form: Form, reshape: bool) -> Any:
    """A parameter in the dtype (and shape, with `reshape`) it had in the file, unless its value would then differ."""
    array = np.asarray(value)
    if reshape and len(form.shape) <= array.ndim and array.shape != form.shape:
        full = (*[1] * (array.ndim - len(form.shape)), *form.shape)
        one = array[tuple(slice(0, size) for size in full)]
        if one.shape == full and _equal(np.broadcast_to(one, array.shape), array):
            array = one.reshape(form.shape)
    if array.dtype.str == form.dtype:
        return array
    with np.errstate(all="ignore"):
        cast = array.astype(form.dtype)
    return cast if _equal(cast, array) else array


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    try:
        return np.array_equal(a, b, equal_nan=a.dtype.kind == b.dtype.kind == "f")
    except ValueError:  # shapes that do not broadcast
        return False
