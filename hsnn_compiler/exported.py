"""Read what ``torch.export.save`` wrote (``.pt2``) without torch's own reader, which may unpickle and evaluate.

The archive holds the program as JSON and its tensors as raw bytes. The program is a list of calls of
``aten`` operators; each name is looked up in a table here, and run with the tensors so far.
"""

from __future__ import annotations

import json
import operator
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.model_file import damaged, not_torch, source_of

_DTYPES = {1: torch.uint8, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32, 8: torch.float64,
           12: torch.bool, 13: torch.bfloat16}  # fmt: skip
"""By the numbers of torch's export schema."""

_TORCH = """
abs add addmm amax amin baddbmm bmm cat chunk clamp clone cos cumsum detach div einsum exp flatten flip log log_softmax
logsumexp lstm gru matmul max maximum mean min minimum mm mul narrow neg norm permute pixel_shuffle pow prelu prod
reciprocal relu roll rsqrt rsub select sigmoid sin softmax split sqrt square squeeze stack std sub sum tanh transpose
tril triu unbind unflatten unsqueeze var where zeros_like ones_like movedim topk gather index_select masked_fill
ones zeros full arange rnn_tanh rnn_relu t mv vdot
"""
_NN = """
adaptive_avg_pool1d adaptive_avg_pool2d avg_pool1d avg_pool2d conv1d conv2d conv3d conv_transpose1d conv_transpose2d elu
gelu glu hardsigmoid hardswish hardtanh leaky_relu linear max_pool1d max_pool2d mish pad relu6
scaled_dot_product_attention selu silu softplus dropout
"""
_METHODS = "contiguous expand repeat reshape view add_ mul_ sub_ div_ relu_ clamp_ type_as"

_SPECIAL: dict[str, Callable[..., Any]] = {
    "batch_norm": lambda x, weight, bias, mean, var, training, momentum, eps, cudnn: F.batch_norm(
        x, mean, var, weight, bias, training, momentum, eps
    ),
    "layer_norm": lambda x, shape, weight=None, bias=None, eps=1e-5, cudnn=True: F.layer_norm(
        x, shape, weight, bias, eps
    ),
    "group_norm": lambda x, groups, weight=None, bias=None, eps=1e-5, cudnn=True: F.group_norm(
        x, groups, weight, bias, eps
    ),
    "embedding": lambda weight, x, *more: F.embedding(x, weight),
    "slice": lambda x, dim=0, start=None, end=None, step=1: x[(slice(None),) * dim + (slice(start, end, step),)],
    "sym_size": lambda x, dim: x.size(dim),
    "lift_fresh_copy": lambda x: x,
    "detach_": lambda x: x.detach(),
    "_weight_norm": torch._weight_norm,
    "hardtanh_": F.hardtanh_,
    "hardsigmoid_": lambda x: F.hardsigmoid(x, inplace=True),
    "silu_": lambda x: F.silu(x, inplace=True),
    "hardswish_": lambda x: F.hardswish(x, inplace=True),
    "_assert_tensor_metadata": lambda *args, **kwargs: None,
    **{f"_operator.{name}": getattr(operator, name) for name in ("add", "sub", "mul", "floordiv")},  # of sizes
}

TABLE: dict[str, Callable[..., Any]] = {
    **{name: getattr(torch, name) for name in _TORCH.split()},
    **{name: getattr(F, name) for name in _NN.split()},
    **{name: getattr(Tensor, name) for name in _METHODS.split()},
    **_SPECIAL,
}
"""What an operator of ``aten`` is in Python, by its name without overload."""


class ExportedModel(nn.Module):
    """A program of ``torch.export``, run call by call.

    Args:
        program: its ``graph_module``, as JSON has it.
        tensors: parameters, buffers and constants by their names in the source model.
    """

    def __init__(self, program: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.nodes, self.inputs, self.fixed = program["graph"]["nodes"], [], {}
        for spec in program["signature"]["input_specs"]:
            ((kind, item),) = spec.items()
            if kind == "user_input":
                self.inputs.append(_name(item["arg"]))
            else:
                name = next(str(value) for key, value in item.items() if key.endswith("_name"))
                self.fixed[item["arg"]["name"]] = name
                self.register_buffer(name.replace(".", "_"), tensors[name])
        self.outputs = [spec["user_output"]["arg"] for spec in program["signature"]["output_specs"]]

    def forward(self, *inputs: Tensor) -> Any:
        """What the program returns for these inputs."""
        known: dict[str, Any] = dict(zip(self.inputs, inputs, strict=True))
        known |= {alias: getattr(self, name.replace(".", "_")) for alias, name in self.fixed.items()}
        for node in self.nodes:
            args = [_value(item["arg"], known) for item in node["inputs"] if item.get("kind", 1) == 1]
            kwargs = {item["name"]: _value(item["arg"], known) for item in node["inputs"] if item.get("kind", 1) != 1}
            result = TABLE[_operator(node)](*args, **kwargs)
            names = [_name(item) for item in node["outputs"]]
            if len(names) == 1 and isinstance(names[0], str):
                known[names[0]] = result
            else:
                flat = [n for name in names for n in (name if isinstance(name, list) else [name])]
                known.update(zip(flat, result, strict=True))
        results = [_value(item, known) for item in self.outputs]
        return results[0] if len(results) == 1 else tuple(results)


def read_exported(stream: BinaryIO, path: Path) -> ExportedModel:
    """Read a ``.pt2`` archive. Nothing of it is unpickled or evaluated.

    Raises:
        HsnnError: E0307 for archives of older versions and with pickled parts, E0309 for damaged ones, E0402 with
            all operators that are not in the table.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            files = {name.partition("/")[2]: name for name in archive.namelist()}
            if "models/model.json" not in files:
                raise not_torch(
                    path,
                    "a torch.export archive of an older version of PyTorch",
                    "Export it again with torch 2.9 or later, or torch.save(model.eval(), 'model.pt').",
                )
            program = json.loads(archive.read(files["models/model.json"]))["graph_module"]
            tensors: dict[str, Tensor] = {}
            for part in ("weights", "constants"):
                config = json.loads(archive.read(files[f"data/{part}/model_{part}_config.json"]))["config"]
                for name, entry in config.items():
                    if entry["use_pickle"]:
                        raise not_torch(
                            path, f"a torch.export archive whose tensor {name} is pickled", "Export plain tensors."
                        )
                    tensors[name] = _tensor(
                        archive.read(files[f"data/{part}/{entry['path_name']}"]), entry["tensor_meta"]
                    )
        unknown = sorted({node["target"] for node in program["graph"]["nodes"] if _operator(node) not in TABLE})
        if unknown:
            raise HsnnError(
                [Finding("E0402", f"operation {name} is not supported", source=source_of(path)) for name in unknown]
            )
        return ExportedModel(program, tensors)
    except (KeyError, ValueError, TypeError, StopIteration, RuntimeError, AttributeError, zipfile.BadZipFile) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error


def _operator(node: dict[str, Any]) -> str:
    """``conv2d`` of ``torch.ops.aten.conv2d.default``; the whole target for others."""
    parts = str(node["target"]).split(".")
    return parts[3] if parts[:3] == ["torch", "ops", "aten"] and len(parts) == 5 else str(node["target"])


def _tensor(data: bytes, meta: dict[str, Any]) -> Tensor:
    sizes, strides = ([int(n["as_int"]) for n in meta[key]] for key in ("sizes", "strides"))
    dtype = _DTYPES[meta["dtype"]]
    flat = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.zeros(0, dtype=dtype)
    return flat.as_strided(sizes, strides, int(meta["storage_offset"]["as_int"])).clone()


def _name(item: dict[str, Any]) -> Any:
    """Name of a result; a list of names for a list of tensors."""
    ((_, content),) = item.items()
    if isinstance(content, list):
        return [part["name"] for part in content]
    return content.get("name", content.get("as_name"))


def _value(item: dict[str, Any], known: dict[str, Any]) -> Any:
    """An argument of a call."""
    ((kind, content),) = item.items()
    if kind in ("as_tensor", "as_sym_int", "as_sym_bool", "as_sym_float"):
        return content["as_int"] if "as_int" in content else known[_name(item)]
    if kind in ("as_tensors", "as_sym_ints"):
        return [_value({kind[:-1]: part}, known) for part in content]
    if kind == "as_optional_tensors":
        return [None if "as_none" in part else known[part["as_tensor"]["name"]] for part in content]
    if kind == "as_none":
        return None
    if kind in ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string"):
        return content
    if kind == "as_scalar_type":
        return _DTYPES[content]
    if kind in ("as_device", "as_layout", "as_memory_format"):
        return None
    raise ValueError(f"an argument of kind {kind}")
