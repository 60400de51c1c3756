"""The parameters of every NIR primitive: which a file must hold, and what the others default to."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.metadata import read_metadata
from hsnn_compiler.ir.origin import Form
from hsnn_compiler.ir.records import from_record

_CONV = {"input_shape": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
REQUIRED: dict[str, tuple[str, ...]] = {
    "Input": ("shape",),
    "Output": ("shape",),
    "Affine": ("weight",),
    "Linear": ("weight",),
    "Scale": ("scale",),
    "Conv1d": ("weight",),
    "Conv2d": ("weight",),
    "Flatten": (),
    "SumPool2d": ("kernel_size",),
    "AvgPool2d": ("kernel_size",),
    "Delay": ("delay",),
    "Threshold": ("threshold",),
    "I": (),
    "LI": ("tau",),
    "IF": ("v_threshold",),
    "LIF": ("tau", "v_threshold"),
    "CubaLI": ("tau_syn", "tau_mem"),
    "CubaLIF": ("tau_syn", "tau_mem", "v_threshold"),
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "Conv1d": _CONV,
    "Conv2d": _CONV,
    "Flatten": {"input_type": None, "start_dim": 1, "end_dim": -1},
    "SumPool2d": {"padding": 0},
    "AvgPool2d": {"padding": 0},
    "I": {"r": 1.0},
    "LI": {"r": 1.0, "v_leak": 0.0},
    "IF": {"r": 1.0, "v_reset": 0.0},
    "LIF": {"r": 1.0, "v_leak": 0.0, "v_reset": 0.0},
    "CubaLI": {"r": 1.0, "v_leak": 0.0, "w_in": 1.0},
    "CubaLIF": {"r": 1.0, "v_leak": 0.0, "v_reset": 0.0, "w_in": 1.0},
}
_QUIET = {"v_reset", "input_shape", "input_type"}
"""Fields that older versions of NIR did not have, or that nothing depends on: their absence is no finding."""
_OTHER = {
    "Affine": ("bias",),
    "Conv1d": ("bias",),
    "Conv2d": ("bias",),
    "SumPool2d": ("stride",),
    "AvgPool2d": ("stride",),
}
_WHOLE = {
    "shape", "input_shape", "input_type", "stride", "padding", "dilation", "groups",
    "kernel_size", "start_dim", "end_dim",
}  # fmt: skip
NEURONS = ("I", "LI", "IF", "LIF", "CubaLI", "CubaLIF")
KINDS = tuple(REQUIRED)


class MissingParameterError(ValueError):
    """A parameter that nothing can stand in for."""


def build(kind: str, name: str, group: h5py.Group) -> tuple[Any, list[Finding], dict[str, Form]]:
    """The op of one node, findings for what was assumed, and how the parameters lay in the file.

    Raises:
        MissingParameterError: a required parameter is not there.
        ValueError, TypeError, AssertionError: NIR itself refuses the parameters.
    """
    items = {key: item for key, item in group.items() if isinstance(item, h5py.Dataset) and key != "type"}
    record = {key: _value(key, item) for key, item in items.items()}
    forms = {key: Form(item.dtype.str, item.shape) for key, item in items.items() if item.dtype.kind in "fiub"}
    for field in REQUIRED[kind]:
        if field not in record:
            raise MissingParameterError(f"it has no {field}")
    assumed = {}
    for field, value in DEFAULTS.get(kind, {}).items():
        if field not in record:
            record[field] = assumed[field] = value
            if field == "v_reset":  # what NIR itself assumes
                record[field] = np.zeros_like(record["v_threshold"])
                forms[field] = forms["v_threshold"]
    if kind in ("Affine", "Conv1d", "Conv2d") and "bias" not in record:
        weight = np.asarray(record["weight"])
        record["bias"] = np.zeros(weight.shape[-2] if kind == "Affine" else weight.shape[0], weight.dtype)
        assumed["bias"] = 0
    if kind.endswith("Pool2d") and "stride" not in record:
        record["stride"] = assumed["stride"] = record["kernel_size"]
    known = {*REQUIRED[kind], *DEFAULTS.get(kind, {}), *_OTHER.get(kind, ())}
    foreign = sorted(set(record) - known)
    for field in foreign:
        del record[field]
    if kind in NEURONS:
        _one_shape(record)
    told = [f"{field} = {value}" for field, value in assumed.items() if field not in _QUIET]
    findings = []
    if told:
        findings.append(Finding("I0461", f"{kind} does not say {', '.join(told)}, which is assumed", node=name))
    if foreign:
        findings.append(Finding("I0461", f"{kind} has {', '.join(foreign)}, unknown to NIR and not used", node=name))
    op = from_record(kind, record)
    op.metadata = read_metadata(group)
    return op, findings, forms


def _one_shape(record: dict[str, Any]) -> None:
    """Give all parameters of a neuron one shape: NIR wants that, old files hold scalars among arrays."""
    arrays = {key: np.asarray(value) for key, value in record.items()}
    assumed = [key for key, value in record.items() if not isinstance(value, np.ndarray)]
    dtype = np.result_type(*(a.dtype for key, a in arrays.items() if key not in assumed), np.float32)
    shape = np.broadcast_shapes(*(a.shape for a in arrays.values()))
    for key, array in arrays.items():
        whole = array if array.shape == shape else np.ascontiguousarray(np.broadcast_to(array, shape))
        record[key] = whole.astype(dtype) if key in assumed else whole


def _value(key: str, item: h5py.Dataset) -> Any:
    """Text, whole numbers that count things, and arrays of floats that PyTorch knows."""
    value = item[()]
    if isinstance(value, bytes):
        return value.decode()
    if key in _WHOLE:
        return np.asarray(value).tolist()
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{key} holds no numbers")
    if array.dtype.kind == "f" and array.dtype.itemsize in (4, 8):
        return array.astype(array.dtype.newbyteorder("="))
    small = array.dtype.itemsize < 4
    return array.astype(np.float32 if small else np.float64)
