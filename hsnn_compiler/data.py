"""Read calibration and test data: NumPy files, nothing in them executed."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsnn_compiler.diagnostics import HsnnError, refuse
from hsnn_compiler.model_file import open_input, source_of


@dataclass(frozen=True)
class Data:
    """Samples and, if known, their labels.

    Attributes:
        x: float32 ``[N, ...]``, finite, in the model's own units.
        y: int64 class indices ``[N]``, or None.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.x)


def digest_of(x: NDArray[Any]) -> str:
    """sha256 (hex) of samples as float32, shape included: tells whether two sets of data are the same."""
    array = np.ascontiguousarray(x, np.float32)
    return hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()


def load_arrays(path: str | Path, *, x_key: str = "x", y_key: str = "y") -> Data:
    """Read samples, and labels if there are any, from an ``.npz`` or ``.npy`` file.

    Args:
        path: an ``.npz`` with ``x_key`` and perhaps ``y_key``, an ``.npz`` with one array
            of any name, or an ``.npy`` (both: samples without labels).
        x_key: name of the samples. Integers are converted to float32 but not scaled:
            the model sees the numbers that are in the file.
        y_key: name of the labels.

    Raises:
        HsnnError: E0301 (cannot be opened), E0310 to E0315.
    """
    path = Path(path)
    arrays = read_arrays(path)
    if x_key not in arrays and len(arrays) == 1:
        x, y = next(iter(arrays.values())), None
    elif x_key not in arrays:
        raise refuse(
            "E0311",
            f"no array named {x_key!r}; the file holds {', '.join(map(repr, arrays)) or 'no arrays'}",
            source=source_of(path),
            supported=f"{x_key!r} and optionally {y_key!r}, or a single array",
            suggestion=f"np.savez({path.name!r}, {x_key}=samples, {y_key}=labels)",
        )
    else:
        x, y = arrays[x_key], arrays.get(y_key)
    samples = samples_of(x, path)
    return Data(samples, None if y is None else labels_of(y, len(samples), path))


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz`` by name; an ``.npy`` holds one, named ``""`` (E0301, E0310, E0312)."""
    with open_input(path) as stream:
        try:
            content = np.load(stream, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return {"": content}
            return {name: content[name] for name in content.files}
        except ValueError as error:
            # NumPy tells pickled objects from damage only in words. A file that is no
            # NumPy file at all looks like a pickle to it, hence the second test.
            stream.seek(0)
            if "allow_pickle" in str(error) and stream.read(2) in (b"PK", b"\x93N"):
                raise refuse(
                    "E0312",
                    "the file holds Python objects, which are not read because reading them runs code",
                    source=source_of(path),
                    supported="arrays of numbers",
                    suggestion="If the samples differ in shape, pad them to one shape.",
                ) from error
            raise _unreadable(path, error) from error
        except (OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
            raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> HsnnError:
    return refuse(
        "E0310",
        f"not a NumPy file, or a damaged one ({type(error).__name__}: {error})",
        source=source_of(path),
        supported=".npz and .npy files",
        suggestion="np.savez('data.npz', x=samples, y=labels)",
    )


def samples_of(x: NDArray[Any], path: Path) -> NDArray[np.float32]:
    """Check samples and convert them to float32 (E0312, E0313, E0314)."""
    if x.dtype.kind not in "fiub":
        raise refuse("E0312", f"samples of type {x.dtype}", source=source_of(path), supported="real numbers")
    if x.ndim < 2 or x.size == 0:
        raise refuse(
            "E0314",
            f"samples of shape {list(x.shape)}",
            source=source_of(path),
            supported="[N, ...] with at least one sample, for example [N, 1, 28, 28]",
            suggestion="For one sample, x[None]." if x.size else "",
        )
    with np.errstate(over="ignore"):
        samples = x.astype(np.float32)
    bad = ~np.isfinite(samples)
    if bad.any():
        first = [int(i) for i in np.argwhere(bad)[0]]
        raise refuse(
            "E0313",
            f"{int(bad.sum())} of {bad.size} sample values are NaN or Inf as float32, the first at {first}",
            source=source_of(path),
            suggestion="Repair or drop those samples.",
        )
    return samples


def labels_of(y: NDArray[Any], count: int, path: Path) -> NDArray[np.int64]:
    """Check labels, one per sample, and convert them to int64 (E0315)."""
    if y.shape != (count,):
        raise refuse(
            "E0315",
            f"labels of shape {list(y.shape)} for {count} samples",
            source=source_of(path),
            supported=f"[{count}], one class index per sample",
            suggestion="For one-hot labels, y.argmax(1)." if y.ndim == 2 and len(y) == count else "",
        )
    if y.dtype.kind not in "iu":
        raise refuse(
            "E0315",
            f"labels of type {y.dtype}",
            source=source_of(path),
            supported="integers",
            suggestion="y.astype(np.int64), if these are class indices.",
        )
    return y.astype(np.int64)
