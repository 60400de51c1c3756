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


def as_it_lay(value: Any, form: Form) -> Any:
    """A parameter in the dtype it had in the file, unless its value would then differ; sizes that were given as
    one number for all dimensions as one number.
    """
    array = np.asarray(value)
    if form.shape == () and array.dtype.kind in "iu" and array.ndim == 1 and np.unique(array).size == 1:
        array = array[0]
    if array.dtype.str == form.dtype:
        return array
    with np.errstate(all="ignore"):
        cast = array.astype(form.dtype)
    return cast if np.array_equal(cast, array, equal_nan=cast.dtype.kind == array.dtype.kind == "f") else array
