"""A training under way, as a file: whole or not there, and read back to the same bits."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from hsnn_compiler.diagnostics import HsnnError, refuse

FORMAT = 1


def save(path: Path, run: str, content: dict[str, Any]) -> None:
    """Write a checkpoint beside its place and rename it, so that a kill at any time leaves the old or the new one.

    Args:
        path: of the file; its folder is made.
        run: what the training is, see `fingerprint` in `fit`.
        content: tensors, numbers, texts, lists and dicts.

    Raises:
        HsnnError: E0552 if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                torch.save({"format": FORMAT, "run": run, **content}, stream)
                stream.flush()
                os.fsync(stream.fileno())
            Path(aside).replace(path)
        finally:
            Path(aside).unlink(missing_ok=True)
    except OSError as error:
        raise _unusable(path, f"cannot be written ({error.strerror})", "another place for checkpoints") from error


def load(path: Path, run: str, device: torch.device) -> dict[str, Any] | None:
    """What `save` wrote; None if there is no file. E0552 if it is damaged, or of another training."""
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        known = content["format"] == FORMAT
        same = content["run"] == run
    except Exception as error:  # torch.load raises whatever a damaged file leads it to
        raise _unusable(path, f"cannot be read ({type(error).__name__})", "remove it to begin again") from error
    if not known or not same:
        raise _unusable(path, "belongs to a training of another network, data or settings", "remove it to begin again")
    return content


def _unusable(path: Path, what: str, suggestion: str) -> HsnnError:
    return refuse("E0552", f"checkpoint {path.name} {what}", suggestion=suggestion)
