"""The metadata of nodes and graphs in HDF5: nested dicts of numbers, texts and arrays, kept as they are."""

from __future__ import annotations

import json
import re
from typing import Any

import h5py
import numpy as np

NAME = "hsnn_name"
"""Where a node's name lies if HDF5 cannot hold it: in HDF5 a slash makes groups within groups."""
_OURS = re.compile(r"hsnn(_\d+|_name|_origin)?")


def read_metadata(group: h5py.Group) -> dict[str, Any]:
    """What a file says about a node or graph besides NIR; what this compiler wrote for itself is left out."""
    found = group.get("metadata")
    if not isinstance(found, h5py.Group):
        return {}
    return {key: value for key, value in read_dict(found).items() if not _OURS.fullmatch(key)}


def name_of(group: h5py.Group, key: str) -> str:
    """Name of the node that lies under a key."""
    found = group.get("metadata")
    return read_dict(found)[NAME] if isinstance(found, h5py.Group) and NAME in found else key


def read_dict(group: h5py.Group) -> dict[str, Any]:
    """Datasets by name, groups as dicts."""
    found: dict[str, Any] = {}
    for key, item in group.items():
        if isinstance(item, h5py.Group):
            found[key] = read_dict(item)
        elif isinstance(item, h5py.Dataset):
            value = item[()]
            found[key] = value.decode() if isinstance(value, bytes) else value
    return found


def write_dict(group: h5py.Group, values: dict[str, Any]) -> None:
    """The opposite of `read_dict`; None is left out, and what HDF5 has no form for becomes JSON text."""
    for key, value in values.items():
        if isinstance(value, dict):
            write_dict(group.require_group(str(key)), value)
        elif value is not None:
            try:
                put(group, str(key), value)
            except TypeError:
                put(group, str(key), json.dumps(value, default=str))


def put(group: h5py.Group, name: str, value: Any) -> None:
    """Add a dataset; large arrays are compressed."""
    if isinstance(value, str) or (isinstance(value, np.ndarray) and value.dtype.kind == "O"):
        group.create_dataset(name, data=value, dtype=h5py.string_dtype())
    elif isinstance(value, np.ndarray) and value.size > 64:
        group.create_dataset(name, data=value, compression="gzip", shuffle=True)
    else:
        empty = isinstance(value, (list, tuple)) and not value
        group.create_dataset(name, data=np.zeros(0, np.int64) if empty else value)


def keys_for(names: list[str]) -> dict[str, str]:
    """A key for every name under which HDF5 can hold it: the name itself if it may be."""
    keys = {}
    taken = set(names)
    for name in names:
        key = name
        if "/" in name or name == ".":
            key = "_" if name == "." else name.replace("/", ".")
            while key in taken or key == ".":
                key += "_"
            taken.add(key)
        keys[name] = key
    return keys
