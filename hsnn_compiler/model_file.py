"""Open a model file, recognise its format, and list what its pickles name.

Nothing of the file is executed here. Two formats are what ``torch.save`` writes: a zip
archive with a record ``data.pkl`` (since torch 1.6), and the legacy one, five pickles in
a row (a magic number, a protocol, system information, the object, the storage keys)
followed by raw storages. Everything else is refused by the name people know it by.
"""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hsnn_compiler.diagnostics import HsnnError, Source, refuse
from hsnn_compiler.pickle_scan import Scan, scan_pickle

_LEGACY_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
_LEGACY_PICKLES = 5
_SUPPORTED = "files written by torch.save (a whole module, a state_dict, a checkpoint) or by torch.export.save"

_SIGNATURES: list[tuple[bytes, str, str]] = [
    (b"\x89PNG", "a PNG image", "Give the path of the model file."),
    (b"\xff\xd8\xff", "a JPEG image", "Give the path of the model file."),
    (
        b"\x89HDF\r\n\x1a\n",
        "an HDF5 file (Keras, NIR or lava-dl)",
        "Give the PyTorch model it came from, saved with torch.save.",
    ),
    (b"\x93NUMPY", "a NumPy array", "Arrays are calibration or test data, not a model."),
    (b"\x1f\x8b", "a gzip archive", "Unpack it first."),
    (b"GGUF", "a GGUF file", "Save the PyTorch model with torch.save."),
]


@dataclass(frozen=True)
class Contents:
    """What a model file is and what its pickles name; ``kind`` is zip, legacy, pickle or program (torch.export)."""

    kind: str
    scan: Scan


def source_of(path: Path) -> Source:
    """The file as the place of a finding."""
    return Source(file=str(path))


@contextmanager
def open_input(path: Path) -> Iterator[BinaryIO]:
    """Open a regular, non-empty file for reading; every way this fails is E0301."""
    try:
        if not path.exists():
            raise refuse("E0301", f"no such file: {path}", suggestion="Check the path and the working directory.")
        if path.is_dir():
            raise refuse(
                "E0301",
                f"{path} is a directory, not a file",
                suggestion="Give the file that torch.save wrote.",
            )
        if not path.is_file():
            raise refuse("E0301", f"{path} is not a regular file", suggestion="Save to an ordinary file first.")
        stream = path.open("rb")
    except PermissionError as error:
        raise refuse("E0301", f"no permission to read {path}", suggestion=f"chmod u+r {path}") from error
    except OSError as error:
        raise refuse("E0301", f"{path} cannot be read: {error.strerror or error}") from error
    with stream:
        if not stream.read(1):
            raise refuse(
                "E0301",
                f"{path} is empty (0 bytes)",
                suggestion="Save or download it again; it was cut short.",
            )
        stream.seek(0)
        yield stream


def sha256_of(stream: BinaryIO) -> str:
    """SHA-256 of the whole stream as hex digits; rewinds it."""
    digest = hashlib.sha256()
    stream.seek(0)
    while block := stream.read(1 << 20):
        digest.update(block)
    stream.seek(0)
    return digest.hexdigest()


def examine(stream: BinaryIO, path: Path) -> Contents:
    """Recognise the format and scan its pickles, or refuse it (E0307, E0309); rewinds."""
    head = stream.read(512)
    stream.seek(0)
    try:
        if head.startswith(b"PK\x03\x04"):
            return _examine_zip(stream, path)
        for signature, name, suggestion in _SIGNATURES:
            if head.startswith(signature):
                raise not_torch(path, name, suggestion)
        if head[257:262] == b"ustar" or tarfile.is_tarfile(stream):
            raise not_torch(
                path,
                "a tar archive (torch.save before torch 0.1.10 wrote those)",
                "Unpack it, or load it in the version of torch that wrote it and save it again.",
            )
        stream.seek(0)
        return _examine_pickles(stream, path, head)
    finally:
        stream.seek(0)


def not_torch(path: Path, what: str, suggestion: str) -> HsnnError:
    """Refusal of a file that ``torch.save`` did not write."""
    return refuse("E0307", f"this is {what}", source=source_of(path), supported=_SUPPORTED, suggestion=suggestion)


def damaged(path: Path, detail: object) -> HsnnError:
    """Refusal of a file that starts like a model and does not go on like one."""
    return refuse(
        "E0309",
        f"the file is truncated or damaged: {detail}",
        source=source_of(path),
        suggestion="Save or download it again and compare its size or checksum with the original.",
    )


def _examine_zip(stream: BinaryIO, path: Path) -> Contents:
    try:
        with zipfile.ZipFile(stream) as archive:
            names = {_bare(entry.filename) for entry in archive.infolist()}
            is_program = "models/model.json" in names
            if not is_program:
                _refuse_other_archives(names, path)
            scan = Scan()
            # All that are called so, lest a second one be loaded and another one looked at.
            for entry in archive.infolist():
                if _bare(entry.filename) == "data.pkl":
                    with archive.open(entry) as pickle:
                        scan_pickle(pickle, scan)
            # torch does not look at the checksums, and flipped bits in weights are silent.
            if broken := archive.testzip():
                raise damaged(path, f"record {broken} does not match its checksum")
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
        raise damaged(path, error) from error
    return Contents("program" if is_program else "zip", scan)


def _bare(name: str) -> str:
    """A record's name without the archive's own folder: ``model/data.pkl`` is ``data.pkl``."""
    return name.partition("/")[2] or name


def _refuse_other_archives(names: set[str], path: Path) -> None:
    """Tell apart the zip archives that are not ``torch.save``'s."""
    if "constants.pkl" in names:
        raise not_torch(
            path,
            "a TorchScript archive (torch.jit.save)",
            "It keeps no Python modules. Save the original one: torch.save(model.eval(), 'model.pt').",
        )
    if "serialized_exported_program.json" in names or any(
        name == "archive_format" or name.startswith("models/") for name in names
    ):
        raise not_torch(
            path,
            "a torch.export archive (.pt2) as older versions of PyTorch wrote it",
            "Export it again with a newer PyTorch, or torch.save(model.eval(), 'model.pt').",
        )
    if names and all(name.endswith(".npy") for name in names):
        raise not_torch(path, "a NumPy archive (.npz)", "Arrays are calibration or test data, not a model.")
    if "data.pkl" not in names:
        raise not_torch(
            path,
            f"a zip archive without data.pkl (it holds {', '.join(sorted(names)[:4]) or 'nothing'})",
            "Save the module with torch.save(model.eval(), 'model.pt').",
        )


def _examine_pickles(stream: BinaryIO, path: Path, head: bytes) -> Contents:
    scan = Scan()
    legacy = head[:1] == b"\x80" and _LEGACY_MAGIC in head[:32]
    try:
        for _ in range(_LEGACY_PICKLES if legacy else 1):
            scan_pickle(stream, scan)
    except ValueError as error:
        if legacy or head[:1] == b"\x80":
            raise damaged(path, error) from error
        raise _unknown(head, path) from error
    if legacy:
        return Contents("legacy", scan)
    if head[:1] == b"\x80" or scan.named:
        return Contents("pickle", scan)
    raise _unknown(head, path)  # text can be a valid protocol 0 pickle of a number by chance


def _unknown(head: bytes, path: Path) -> HsnnError:
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return not_torch(
            path,
            "a safetensors file",
            "Save it as a state_dict: torch.save(safetensors.torch.load_file(f), 'model.pt'), and name the"
            " function that builds the model with --model my_models:build.",
        )
    if head[:1] == b"\x08" and b"\x12" in head[:4]:
        return not_torch(path, "an ONNX file", "Give the PyTorch model it was exported from.")
    if _is_text(head):
        first = head.decode(errors="replace").splitlines()[0][:40]
        return not_torch(path, f"a text file that begins {first!r}", "Give the file that torch.save wrote.")
    return not_torch(path, f"no format we know (first bytes {head[:8]!r})", "Save the model with torch.save.")


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not merely a character cut at the end of the head
            return False
        text = head[: error.start].decode()
    return bool(text.strip()) and all(c.isprintable() or c in "\t\r\n" for c in text)
