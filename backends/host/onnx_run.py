"""Runs the host's part of a network with onnxruntime.

This file stands alone: it needs numpy and onnxruntime, and nothing else of this package. A bundle may carry a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class SessionError(Exception):
    """What keeps a model from running.

    Attributes:
        code: stable code, as the compiler's own errors have one.
        supported: what would have been accepted.
        suggestion: what to try.
    """

    def __init__(self, code: str, message: str, supported: str = "", suggestion: str = "") -> None:
        super().__init__(message)
        self.code, self.supported, self.suggestion = code, supported, suggestion

    @property
    def exit_code(self) -> int:
        """Exit status of the command line, taken from the code."""
        return int(self.code[1:3])


class Session:
    """A model, ready to run: on one thread, so that the same input gives the same bits.

    Args:
        model: its bytes, or the path of its file.

    Attributes:
        inputs, outputs: names and shapes; a text is a free axis, the number of samples.

    Raises:
        SessionError: E0704 without onnxruntime, E0705 if it does not take the model.
    """

    def __init__(self, model: bytes | str | Path) -> None:
        runtime = _runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 4  # what is wrong is raised
        try:
            given = model if isinstance(model, bytes) else Path(model).read_bytes()
            self._session: Any = runtime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        except OSError as error:
            raise SessionError("E0705", f"{model!s} cannot be read: {error.strerror or error}") from error
        except Exception as error:  # onnxruntime has a type of its own for every reason
            raise SessionError("E0705", f"onnxruntime does not take the model: {_first_line(error)}") from error
        self.inputs = {item.name: tuple(item.shape) for item in self._session.get_inputs()}
        self.outputs = {item.name: tuple(item.shape) for item in self._session.get_outputs()}

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Outputs by name, float32.

        Args:
            inputs: by name, [samples, ...], or [samples, time, ...] where the model has time; any numbers.

        Raises:
            SessionError: E0330 for other names or shapes, E0705 if onnxruntime fails.
        """
        arrays = self._checked(inputs)
        try:
            found = self._session.run(list(self.outputs), arrays)
        except Exception as error:
            raise SessionError("E0705", f"onnxruntime cannot run the model: {_first_line(error)}") from error
        return dict(zip(self.outputs, found, strict=True))

    def _checked(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        if set(inputs) != set(self.inputs):
            raise SessionError("E0330", f"inputs {sorted(inputs)} given", f"inputs {sorted(self.inputs)}")
        arrays = {name: np.asarray(array) for name, array in inputs.items()}
        for name, wanted in self.inputs.items():
            given = arrays[name]
            fits = given.ndim == len(wanted) and given.dtype.kind in "buif"
            if not fits or any(n != size for n, size in zip(given.shape, wanted, strict=True) if isinstance(size, int)):
                raise SessionError(
                    "E0330",
                    f"{given.dtype} data of shape {list(given.shape)} for input {name!r}",
                    f"numbers [{', '.join(map(str, wanted))}]",
                    "reshape the data to what the model takes",
                )
        counts = sorted({len(array) for array in arrays.values()})
        if counts[:1] == [0] or len(counts) > 1:
            raise SessionError(
                "E0330", f"inputs with {', '.join(map(str, counts))} samples", "the same number for all, at least 1"
            )
        return {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise SessionError(
            "E0704",
            f"the host's part runs on onnxruntime, which is not installed or does not import: {_first_line(error)}",
            suggestion="pip install onnxruntime",
        ) from error
    return onnxruntime


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
