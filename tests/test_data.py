"""Reading calibration and test data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hsnn_compiler.data import load_arrays
from hsnn_compiler.diagnostics import HsnnError

X = np.arange(24, dtype=np.float64).reshape(4, 2, 3)
Y = np.array([0, 1, 2, 1], np.uint8)


def refusal(path: Path, **options: str) -> HsnnError:
    with pytest.raises(HsnnError) as caught:
        load_arrays(path, **options)
    assert caught.value.exit_code == 3
    return caught.value


def test_samples_and_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y, more=X)
    data = load_arrays(tmp_path / "d.npz")
    assert (data.x.dtype, data.y is not None and data.y.dtype, len(data)) == (np.float32, np.int64, 4)
    np.testing.assert_array_equal(data.x, X)
    np.testing.assert_array_equal(data.y, Y)


def test_labels_are_optional_and_keys_can_be_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=X, labels=Y)
    data = load_arrays(tmp_path / "d.npz", x_key="images", y_key="labels")
    np.testing.assert_array_equal(data.y, Y)
    assert load_arrays(tmp_path / "d.npz", x_key="images").y is None


@pytest.mark.parametrize("name", ["d.npz", "d.npy", "data"])
def test_a_single_array_needs_no_name(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        if name == "d.npz":
            np.savez(file, whatever=X)
        else:
            np.save(file, X)  # recognised by content: "data" has no suffix
    data = load_arrays(tmp_path / name)
    np.testing.assert_array_equal(data.x, X)
    assert data.y is None


def test_integers_are_not_scaled(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.full((2, 2), 255, np.uint8))
    assert load_arrays(tmp_path / "d.npy").x.max() == 255.0


def test_missing_key(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", a=X, b=Y)
    error = refusal(tmp_path / "d.npz")
    assert error.findings[0].code == "E0311"
    assert "'a', 'b'" in str(error)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    witness = tmp_path / "witness"

    class Evil:
        def __reduce__(self) -> tuple:
            return witness.touch, ()

    evil = np.array([Evil(), Evil()], dtype=object)
    np.save(tmp_path / "d.npy", evil, allow_pickle=True)
    np.savez(tmp_path / "d.npz", x=evil)
    for name in ("d.npy", "d.npz"):
        assert refusal(tmp_path / name).findings[0].code == "E0312"
    assert not witness.exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300], ids=str)
def test_not_finite_in_float32(tmp_path: Path, value: float) -> None:
    x = X.copy()
    x[2, 1, 0] = value
    np.save(tmp_path / "d.npy", x)
    error = refusal(tmp_path / "d.npy")
    assert error.findings[0].code == "E0313"
    assert "1 of 24" in str(error)
    assert "[2, 1, 0]" in str(error)


@pytest.mark.parametrize(
    ("x", "code"),
    [
        (np.zeros((0, 3)), "E0314"),
        (np.zeros((3, 0)), "E0314"),
        (np.zeros(3), "E0314"),
        (np.float32(3), "E0314"),
        (np.array([["a"]]), "E0312"),
        (np.zeros((2, 2), complex), "E0312"),
        (np.zeros((2, 2), "M8[s]"), "E0312"),
    ],
    ids=str,
)
def test_samples_that_are_none(tmp_path: Path, x: np.ndarray, code: str) -> None:
    np.save(tmp_path / "d.npy", x)
    assert refusal(tmp_path / "d.npy").findings[0].code == code


@pytest.mark.parametrize("y", [Y[:3], Y[:, None], np.eye(4, dtype=int), Y.astype(float), Y > 1], ids=str)
def test_labels_that_do_not_fit(tmp_path: Path, y: np.ndarray) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=y)
    assert refusal(tmp_path / "d.npz").findings[0].code == "E0315"


@pytest.mark.parametrize("content", [b"hello", b"PK\x03\x04rest", b"\x93NUMPY\x01\x00", b"\x80\x04N."], ids=repr)
def test_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.npz").write_bytes(content)
    assert refusal(tmp_path / "d.npz").findings[0].code == "E0310"


@pytest.mark.parametrize("name", ["d.npz", "d.npy"])
def test_truncated(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        np.save(file, X) if name == "d.npy" else np.savez(file, x=X)
    whole = (tmp_path / name).read_bytes()
    for size in (7, len(whole) // 2, len(whole) - 1):
        (tmp_path / name).write_bytes(whole[:size])
        assert refusal(tmp_path / name).findings[0].code == "E0310"


def test_unreadable(tmp_path: Path) -> None:
    (tmp_path / "empty.npz").touch()
    for path in (tmp_path / "none.npz", tmp_path, tmp_path / "empty.npz"):
        assert refusal(path).findings[0].code == "E0301"
