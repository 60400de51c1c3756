"""Where in the user's code a call was made."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType

import torch

import hsnn_compiler
import hsnn_compiler.frontends

_NOT_USER = tuple(
    str(Path(str(package.__file__)).resolve().parent) + "/"
    for package in (torch, hsnn_compiler, hsnn_compiler.frontends)
)

Place = tuple[str, int]


def caller(stop: FrameType | None) -> Place:
    """File and line of the innermost frame outside torch and this compiler.

    The search ends at `stop`, the frame that runs the model: what called the compiler is
    not part of the model. ``("", 0)`` if there is no such frame (``nn.Sequential``).
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame is not stop:
        if _is_user(frame.f_code.co_filename):
            return display(frame.f_code.co_filename), frame.f_lineno
        frame = frame.f_back
    return "", 0


def custom_function(stop: FrameType | None) -> str:
    """Name of the innermost ``torch.autograd.Function`` that runs, or an empty string."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame is not stop:
        context = frame.f_locals.get("ctx")
        if isinstance(context, torch.autograd.function.FunctionCtx):
            return type(context).__name__.removesuffix("Backward")
        frame = frame.f_back
    return ""


def raised(error: BaseException, stop: FrameType | None) -> Place:
    """File and line of the user's code in which an exception came up (innermost such frame)."""
    place: Place = ("", 0)
    inside = stop is None
    for frame, line in _frames(error.__traceback__):
        if inside and _is_user(frame.f_code.co_filename):
            place = display(frame.f_code.co_filename), line
        inside = inside or frame is stop
    return place


def display(filename: str) -> str:
    """A path as it may be shown: relative to the working directory if inside it, else the file's name."""
    if filename.startswith("<"):
        return filename
    path = Path(filename).resolve()
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.name


def _is_user(filename: str) -> bool:
    return not str(Path(filename).resolve()).startswith(_NOT_USER) and not filename.startswith("<frozen")


def _frames(traceback: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while traceback is not None:
        yield traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next
