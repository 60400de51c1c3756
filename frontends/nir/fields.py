"""The parameters of every NIR primitive: which a file must hold, and what the others default to."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from hsnn_compiler.diagnostics import Finding
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
NEURONS = ("I", "LI", "IF", "LIF", "CubaLI", "CubaLIF")
KINDS = tuple(REQUIRED)


class MissingParameterError(ValueError):
    """A parameter that nothing can stand in for."""


def build(kind: str, name: str, group: h5py.Group) -> tuple[Any, list[Finding]]:
    """The op of one node, and findings for what was assumed.

    Raises:
        MissingParameterError: a required parameter is not there.
        ValueError, TypeError, AssertionError: NIR itself refuses the parameters.
    """
    record = {key: _value(item) for key, item in group.items() if isinstance(item, h5py.Dataset) and key != "type"}
    for field in REQUIRED[kind]:
        if field not in record:
            raise MissingParameterError(f"it has no {field}")
    assumed = {}
    for field, value in DEFAULTS.get(kind, {}).items():
        if field not in record:
            record[field] = value
            assumed[field] = value
    if kind in ("Affine", "Conv1d", "Conv2d") and "bias" not in record:
        weight = np.asarray(record["weight"])
        record["bias"] = np.zeros(weight.shape[-2] if kind == "Affine" else weight.shape[0], weight.dtype)
        assumed["bias"] = 0
    if kind.endswith("Pool2d") and "stride" not in record:
        record["stride"] = assumed["stride"] = record["kernel_size"]
    known = {*REQUIRED[kind], *DEFAULTS.get(kind, {}), "bias", "stride", "padding"}
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
    op.metadata = _metadata(group)
    return op, findings


def _one_shape(record: dict[str, Any]) -> None:
    """Give all parameters of a neuron one shape: NIR wants that, old files hold scalars among arrays."""
    arrays = {key: np.asarray(value) for key, value in record.items()}
    dtype = np.result_type(*(a.dtype for a in arrays.values() if a.ndim), np.float32)
    shape = np.broadcast_shapes(*(a.shape for a in arrays.values()))
    for key, array in arrays.items():
        whole = array if array.shape == shape else np.ascontiguousarray(np.broadcast_to(array, shape))
        record[key] = whole if whole.dtype.kind == "f" and array.ndim else whole.astype(dtype)


def _value(item: h5py.Dataset) -> Any:
    value = item[()]
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.generic):
        return np.asarray(value) if value.dtype.kind == "f" else value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.ndim == 1:
        return value.tolist()
    return value


def _metadata(group: h5py.Group) -> dict[str, Any]:
    """What a file says about a node besides NIR, kept so that it can be written back."""
    if "metadata" not in group or not isinstance(group["metadata"], h5py.Group):
        return {}
    found = {}
    for key, item in group["metadata"].items():
        if isinstance(item, h5py.Dataset):
            value = item[()]
            found[key] = value.decode() if isinstance(value, bytes) else value
    return found
