"""Files of other formats, and damaged ones."""

from __future__ import annotations

import pickle
import types
import zipfile
from pathlib import Path

import pytest
import torch
from loading_cases import refusal, saved
from torch import nn

# Files that are no models


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"import torch\nmodel = 3\n", "text file that begins 'import torch'"),
        (b"N.", "text file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "PNG"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
        (b"\x93NUMPY\x01\x00" + bytes(50), "NumPy array"),
        ((60).to_bytes(8, "little") + b'{"weight":{"dtype":"F32"}}' + bytes(90), "safetensors"),
        (b"\x08\x09\x12\x07pytorch" + bytes(50), "ONNX"),
        (bytes(range(1, 256)), "no format we know"),
        (pickle.dumps({"a": 1}), "pickle that torch.save did not write"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_formats(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "m.safetensors"  # a suffix that torch.load itself would act on
    path.write_bytes(content)
    assert text in refusal(path, "E0307")


@pytest.mark.filterwarnings("ignore")
def test_torchscript_and_old_export_archives(tmp_path: Path) -> None:
    torch.jit.script(nn.ReLU()).save(tmp_path / "script.pt")
    text = refusal(tmp_path / "script.pt", "E0307")
    assert "TorchScript" in text
    assert "torch.save(model.eval()" in text
    with zipfile.ZipFile(tmp_path / "e.pt2", "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
    assert "torch.export archive" in refusal(tmp_path / "e.pt2", "E0307")


def test_other_archives(tmp_path: Path) -> None:
    import tarfile

    import numpy as np

    np.savez(tmp_path / "d.npz", x=np.zeros(2))
    assert ".npz" in refusal(tmp_path / "d.npz", "E0307")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "readme.txt" in refusal(tmp_path / "z.zip", "E0307")
    with tarfile.open(tmp_path / "t.pt", "w") as tar:
        tar.add(tmp_path / "d.npz", "storages")
    assert "tar archive" in refusal(tmp_path / "t.pt", "E0307")


def test_whole_module_in_the_legacy_format(tmp_path: Path, user: types.ModuleType) -> None:
    for model in (nn.Linear(2, 2), user.Net()):
        path = saved(tmp_path / "m.pt", model, _use_new_zipfile_serialization=False)
        assert "legacy format" in refusal(path, "E0307")


@pytest.mark.filterwarnings("ignore")
def test_newer_pickle_protocol(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", nn.Linear(2, 2), pickle_protocol=4)
    assert "pickle protocol 4" in refusal(path, "E0307")


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_anywhere(tmp_path: Path, zipped: bool) -> None:
    path = saved(tmp_path / "m.pt", nn.Linear(30, 30).state_dict(), _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for size in (20, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert "truncated or damaged" in refusal(path, "E0309"), size


def test_damaged_inside(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", nn.Linear(30, 30))
    whole = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        where = archive.getinfo("m/data/0").header_offset + 200
    whole[where] ^= 0xFF
    path.write_bytes(whole)
    assert "record m/data/0 does not match its checksum" in refusal(path, "E0309")


def test_module_whose_parts_are_no_modules(tmp_path: Path) -> None:
    model = nn.Sequential(nn.ReLU())
    model._modules["0"] = "not a layer"  # type: ignore[assignment]
    refusal(saved(tmp_path / "m.pt", model), "E0309")


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no such file" in refusal(tmp_path / "none.pt", "E0301")
    assert "is a directory" in refusal(tmp_path, "E0301")
    (tmp_path / "empty.pt").touch()
    assert "is empty" in refusal(tmp_path / "empty.pt", "E0301")
    assert "not a regular file" in refusal(Path("/dev/null"), "E0301")

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = saved(tmp_path / "m.pt", nn.ReLU())
    monkeypatch.setattr(Path, "open", denied)  # root may read everything, so chmod would not do
    assert "no permission" in refusal(path, "E0301")
