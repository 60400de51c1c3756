"""`Session` with the compiler's own errors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hsnn_compiler.backends.host.onnx_run import Session, SessionError
from hsnn_compiler.diagnostics import HsnnError, refuse


class HostSession(Session):
    """A `Session` whose refusals are findings: HsnnError with E0330, E0704 or E0705."""

    def __init__(self, model: bytes | str | Path) -> None:
        try:
            super().__init__(model)
        except SessionError as error:
            raise _refused(error) from error

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """See `Session.run`."""
        try:
            return super().run(inputs)
        except SessionError as error:
            raise _refused(error) from error


def _refused(error: SessionError) -> HsnnError:
    return refuse(error.code, str(error), supported=error.supported, suggestion=error.suggestion)
