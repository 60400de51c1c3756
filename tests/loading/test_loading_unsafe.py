"""Malicious files: nothing in them runs."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from loading_cases import refusal, saved
from torch import nn

# Malicious files. Each would create the file "witness" when unpickled.


class Call:
    """Pickles as a call of ``function(*arguments)``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments


def attacks(witness: Path) -> dict[str, object]:
    code = f"open({str(witness)!r}, 'w')"
    return {
        f"{os.system.__module__}.system": Call(os.system, f"touch {witness}"),
        "builtins.eval": Call(eval, code),
        "builtins.exec": Call(exec, code),
        "pathlib.Path.touch": Call(Path.touch, witness),
        "torch.hub.load": Call(torch.hub.load, str(witness.parent), "build"),
        "torch._tensor._rebuild_from_type_v2": Call(
            torch._tensor._rebuild_from_type_v2, nn.Linear, nn.Linear, (2, 2), {}
        ),
        "torch.nn.modules.linear.Linear": Call(nn.Linear, 2, 2),
    }


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("place", ["alone", "in a model", "in a state_dict"])
@pytest.mark.parametrize("attack", list(attacks(Path("witness"))))
def test_nothing_of_a_malicious_file_runs(
    tmp_path: Path, attack: str, place: str, form: str, user: types.ModuleType
) -> None:
    witness = tmp_path / "witness"
    content = attacks(witness)[attack]
    if place == "in a model":
        model = nn.Linear(2, 2)
        model.extra = content  # type: ignore[assignment]
        content = model
    elif place == "in a state_dict":
        content = {"weight": torch.zeros(2, 2), "extra": content}
    path = tmp_path / "m.pt"
    if form == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=4))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    # A method is written as getattr(class, name) up to protocol 3, by its dotted name from 4 on.
    names = [attack, "builtins.getattr"] if attack == "pathlib.Path.touch" else [attack]
    for options in ({}, {"modules": (user.__name__,)}, {"factory": f"{user.__name__}:build"}):
        text = refusal(path, "E0303", **options)
        assert any(f"would call {name}" in text for name in names)
    assert not witness.exists()


def test_the_attacks_would_work(tmp_path: Path) -> None:
    """Guards the tests above: unpickled carelessly, these do leave a trace."""
    witness = tmp_path / "witness"
    for name in (f"{os.system.__module__}.system", "builtins.eval", "builtins.exec", "pathlib.Path.touch"):
        pickle.loads(pickle.dumps(attacks(witness)[name]))
        assert witness.exists(), name
        witness.unlink()


def replaced(path: Path, program: bytes, zipped: bool) -> Path:
    """A file of ``torch.save`` whose object is the given pickle program."""
    torch.save({"a": 1}, path, _use_new_zipfile_serialization=zipped)
    if not zipped:
        whole = io.BytesIO(path.read_bytes())
        for _ in range(3):
            pickle.load(whole)
        head = whole.getvalue()[: whole.tell()]
        pickle.load(whole)
        path.write_bytes(head + program + whole.read())
        return path
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records.items():
            archive.writestr(name, program if name.endswith("data.pkl") else data)
    return path


def call_program(module: str, name: str, argument: str) -> bytes:
    text = argument.encode()
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"X" + len(text).to_bytes(4, "little") + text + b"\x85R."


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("USER", "os.system"),
        ("USER", "os"),
        ("USER", "Net.__init__.__globals__"),
        ("torch.nn.modules.module", "torch.os.system"),
        ("torch.nn.modules", "module.warnings.sys.modules"),
        ("torch.nn", "functional.torch.os.system"),
        ("__builtin__", "eval"),  # Python 2 names, which unpicklers translate
        ("__main__", "os.system"),
    ],
)
def test_attribute_traversal_is_no_way_in(
    tmp_path: Path, user: types.ModuleType, module: str, name: str, zipped: bool
) -> None:
    witness = tmp_path / "witness"
    module = module.replace("USER", user.__name__)
    program = call_program(module, name, f"touch {witness}")
    path = replaced(tmp_path / "m.pt", program, zipped)
    text = refusal(path, "E0303", modules=(user.__name__,))
    assert f"would call {module.replace('__builtin__', 'builtins')}.{name}" in text
    assert not witness.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_layers_are_never_called(tmp_path: Path, user: types.ModuleType, zipped: bool) -> None:
    path = replaced(tmp_path / "m.pt", call_program(user.__name__, "Block", "3"), zipped)
    assert f"would call {user.__name__}.Block" in refusal(path, "E0303", modules=(user.__name__,))


@pytest.mark.parametrize("index", [0, 1, 2, 4])
def test_every_pickle_of_the_legacy_format_is_scanned(tmp_path: Path, index: int) -> None:
    path = saved(tmp_path / "m.pt", nn.Linear(2, 2), _use_new_zipfile_serialization=False)
    whole = io.BytesIO(path.read_bytes())
    parts, start = [], 0
    for _ in range(5):
        list(pickletools.genops(whole))
        parts.append(whole.getvalue()[start : whole.tell()])
        start = whole.tell()
    evil = call_program("os", "system", f"touch {tmp_path / 'witness'}")
    # The magic number must stay where the format is recognised by it.
    parts[index] = parts[0][:-1] + b"0" + evil[2:] if index == 0 else evil
    path.write_bytes(b"".join(parts) + whole.read())
    assert "os.system" in refusal(path, "E0303")
    assert not (tmp_path / "witness").exists()


def test_second_data_pkl_is_scanned(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", nn.ReLU())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("m/data.pkl", call_program("os", "system", "true"))
    assert "os.system" in refusal(path, "E0303")


def test_protocol_0_text_is_scanned(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(f"cos\nsystem\n(S'touch {tmp_path / 'witness'}'\ntR.".encode())
    assert "would call os.system" in refusal(path, "E0303")
    path.write_bytes(f"(S'touch {tmp_path / 'witness'}'\nios\nsystem\n.".encode())
    assert "would call os.system" in refusal(path, "E0303")
