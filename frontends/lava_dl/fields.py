"""The fields of one layer of a file, read with an account of what is there and what is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hsnn_compiler.diagnostics import Finding, Source, refuse

DAMAGED = (KeyError, TypeError, ValueError, AttributeError, OSError, RuntimeError, UnicodeDecodeError)
"""What h5py raises for files that are not what they seem."""
REPORT = Callable[[Finding], None]


class MissingError(Exception):
    """A field without which a layer means nothing; what is wrong was reported."""


class Fields:
    """A group of a file.

    Args:
        group: HDF5 group of a layer or of its neuron.
        node: name of the node that findings are about.
        path: the file.
        report: takes findings.
    """

    def __init__(self, group: h5py.Group, node: str, path: Path, report: REPORT) -> None:
        self.group, self.node, self.path = group, node, path
        self.source = Source(group.name.lstrip("/"), str(path))
        self._report = report
        self._asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self.group

    def sub(self, key: str) -> Fields:
        """A group within this one."""
        self._asked.add(key)
        if not isinstance(self.group.get(key), h5py.Group):
            raise self.wrong(f"{key!r} is not a group")
        return Fields(self.group[key], self.node, self.path, self._report)

    def text(self, key: str) -> str:
        """A string, however h5py or lava-dl stored it."""
        value = np.asarray(self._value(key)).reshape(-1)[0]
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)

    def integer(self, key: str, default: int | None = None) -> int:
        """A number; where it is missing and has a default, that is assumed and reported."""
        if key not in self.group and default is not None:
            self.assume(f"{key} is missing: {default} is assumed")
            return default
        values = self.integers(key).reshape(-1)
        if values.size != 1:
            raise self.wrong(f"{key} holds {values.size} numbers", supported="one")
        return int(values[0])

    def pair(self, key: str, default: int) -> tuple[int, int]:
        """One number for both axes, or (height, width)."""
        if key not in self.group:
            self.assume(f"{key} is missing: {default} is assumed")
            return default, default
        values = self.integers(key).reshape(-1).tolist()
        if len(values) not in (1, 2):
            raise self.wrong(f"{key} holds {len(values)} numbers", supported="one or two")
        return values[0], values[-1]

    def integers(self, key: str) -> np.ndarray:
        """Numbers as int64; fractions are cut off, as netx does, and reported."""
        value = np.asarray(self._value(key))
        if value.dtype.kind not in "iufb" or not np.all(np.isfinite(value)):
            raise self.wrong(f"{key} does not hold finite numbers")
        whole = value.astype(np.int64)
        if not np.array_equal(whole, value):
            self.assume(f"{np.count_nonzero(whole != value)} of {value.size} values of {key} are not integers: "
                        "what follows the point is cut off, as netx does")  # fmt: skip
        return whole

    def ignore(self, *keys: str) -> None:
        """Say that fields may be there and mean nothing here."""
        self._asked.update(keys)

    def leftovers(self) -> None:
        """Report fields that nothing asked for."""
        unread = sorted(set(self.group) - self._asked)
        if unread:
            self.assume(f"not read: {', '.join(unread)}")

    def assume(self, message: str, suggestion: str = "") -> None:
        """Report what was assumed or left out (W0250)."""
        self._report(Finding("W0250", message, node=self.node, source=self.source, suggestion=suggestion))

    def note(self, message: str, suggestion: str = "") -> None:
        """Report what a reader may want to know (I0250)."""
        self._report(Finding("I0250", message, node=self.node, source=self.source, suggestion=suggestion))

    def wrong(self, message: str, *, supported: str = "", suggestion: str = "", code: str = "E0252") -> MissingError:
        """Report what makes the layer unreadable; to be raised."""
        self._report(
            Finding(code, message, node=self.node, source=self.source, supported=supported, suggestion=suggestion)
        )
        return MissingError()

    def _value(self, key: str) -> Any:
        self._asked.add(key)
        item = self.group.get(key)
        if item is None:
            raise self.wrong(f"{key} is missing")
        if not isinstance(item, h5py.Dataset):
            hint = " (complex weights)" if key == "weight" else ""
            raise self.wrong(f"{key} is a group{hint}, not an array", supported="real numbers")
        return item[()]


def open_net(path: Path) -> h5py.File:
    """Open a file; E0250 where it is not what netx reads."""
    if not path.is_file():
        raise refuse("E0250", f"there is no file {path}")
    if not h5py.is_hdf5(path):
        raise refuse("E0250", f"{path} is not an HDF5 file", supported="files that lava-dl's export_hdf5 wrote")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise refuse("E0250", f"{path} cannot be opened: {error}", supported="complete, unchanged files") from None


def layer_groups(file: h5py.File, path: Path) -> list[h5py.Group]:
    """The groups ``layer/0``, ``layer/1``, ... of a file, all of them (E0250)."""
    layers = file.get("layer")
    names = list(layers) if isinstance(layers, h5py.Group) else []
    wanted = [str(i) for i in range(len(names))]
    if not names or sorted(names) != sorted(wanted) or not all(isinstance(layers[n], h5py.Group) for n in names):
        raise refuse(
            "E0250",
            f"{path} holds no layers 0, 1, 2, ...: {', '.join(sorted(names)) or 'nothing'} under /layer",
            supported="complete files that lava-dl's export_hdf5 wrote",
        )
    return [layers[name] for name in wanted]
