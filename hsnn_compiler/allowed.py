"""What a model file may name: the allow-list, and the verdict on everything else.

``torch.load(weights_only=True)`` looks every name of the pickle up in an allow-list and
never by attribute access; this module says what is on it. It must stay a list of
things that are harmless whatever their arguments, or that cannot be called at all:

- every layer class of ``torch.nn.modules`` and ``hsnn_compiler.nn``, and the user's from
  modules named with ``--module``. Layers are restored by ``__new__`` and their
  attributes, never by calling them, so a pickle that calls one is refused;
- activation functions of ``torch.nn.functional`` (``TransformerEncoderLayer`` stores
  one), as values, not to be called either;
- tensors, storages, dtypes, and a few immutable builtins.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

from hsnn_compiler.diagnostics import Finding, Source
from hsnn_compiler.pickle_scan import Global, Scan

# fmt: off
_ACTIVATIONS = (
    "celu", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log_softmax", "logsigmoid",
    "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softmax", "softplus", "softsign", "tanh",
    "tanhshrink",
)
# fmt: on

# What torch's own restricted unpickler admits for tensors. Two of its functions are left
# out on purpose: torch._tensor._rebuild_from_type_v2 calls whatever function it is given,
# and _rebuild_wrapper_subclass makes tensors without data.
_TENSOR_PARTS = re.compile(
    r"collections\.OrderedDict|torch\.(Size|device|Tensor|nn\.parameter\.Parameter|serialization\._get_layout)"
    r"|torch\.\w+Storage|torch\.storage\.(Typed|Untyped)Storage"
    r"|torch\._utils\._rebuild_(parameter|parameter_with_state|tensor|tensor_v2|tensor_v3|qtensor|sparse_tensor)"
    r"|torch\.per_(tensor|channel)_(affine|symmetric|affine_float_qparams)"
    r"|_codecs\.encode|builtins\.(set|bytearray|complex)"
)
_RESAVE = (
    "Save the weights alone, torch.save(model.state_dict(), 'model.pt'), and name the function"
    " that builds the model: --model my_models:build."
)
_OURS = ("torch", "hsnn_compiler", "numpy")
"""Packages of which the list above says what is allowed."""
_LIBRARIES = ("spikingjelly",)
"""Libraries of spiking neurons whose layers, all of them modules, lie in many files."""
_HINTS = {
    "builtins.getattr": "It stands for a nested class, a bound method, a hook, an uninitialised lazy layer"
    " or a function such as torch.relu kept as an attribute. " + _RESAVE,
    "torch.nn.parallel.data_parallel.DataParallel": "Save the model inside it, model.module.",
    "torch._dynamo.eval_frame.OptimizedModule": "Save the model as it was before torch.compile.",
}


def _classes(module: ModuleType) -> dict[str, type]:
    """The layer classes defined in ``module``, by the name a pickle gives them."""
    from torch import nn

    return {
        f"{module.__name__}.{value.__qualname__}": value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module.__name__
    }


def library_names() -> dict[str, Any]:
    """Layer classes and activation functions of torch and of `hsnn_compiler.nn` by name."""
    import torch.nn.functional
    import torch.nn.modules

    import hsnn_compiler.nn
    from hsnn_compiler.nn import coding

    found: dict[str, Any] = {}
    for package in (torch.nn.modules, hsnn_compiler.nn):
        for part in pkgutil.iter_modules(package.__path__):
            found |= _classes(importlib.import_module(f"{package.__name__}.{part.name}"))
    # Encoders and decoders of files saved while all of them lay in one module.
    found |= {f"hsnn_compiler.nn.coding.{name}": getattr(coding, name) for name in coding.__all__}
    for name in _ACTIVATIONS:
        function = getattr(torch.nn.functional, name)
        found[f"{function.__module__}.{function.__qualname__}"] = function
    # Constructors that only hold their arguments.
    found |= {f"builtins.{kind.__name__}": kind for kind in (slice, range, frozenset)}
    return found


def parts_named(modules: Sequence[str], scan: Scan) -> list[str]:
    """The modules the user named, and those the file needs of the packages among them."""
    inside = [
        wanted.module
        for wanted in scan.named
        if any(wanted.module.startswith(f"{name}.") and name.partition(".")[0] not in _OURS for name in modules)
    ]
    return list(dict.fromkeys([*modules, *inside]))


def user_names(modules: Iterable[ModuleType], scan: Scan) -> tuple[dict[str, Any], list[Finding]]:
    """Layer classes of the user's modules; a script's ``__main__.Net`` is looked up in them."""
    modules = list(modules)
    found: dict[str, Any] = {}
    for module in modules:
        found |= _classes(module)
    findings = []
    for wanted in scan.named:
        if wanted.module != "__main__":
            continue
        home = next((m.__name__ for m in modules if f"{m.__name__}.{wanted.name}" in found), None)
        if home:
            found[str(wanted)] = found[f"{home}.{wanted.name}"]
            findings.append(Finding("I0301", f"class {wanted} of the file is taken to be {home}.{wanted.name}"))
    return found, findings


def verdict(scan: Scan, allowed: dict[str, Any], modules: Sequence[str], source: Source) -> list[Finding]:
    """One error for each name that is not allowed or is called and must not be; unsafe ones first."""
    findings = []
    for name in scan.named:
        if str(name) in allowed:
            if name in scan.called and not str(name).startswith("builtins."):
                findings.append(
                    Finding(
                        "E0303",
                        f"the file would call {name} with arguments of its own; torch.save never writes that",
                        source=source,
                        suggestion=_RESAVE,
                    )
                )
        elif not _is_tensor_part(name):
            findings.append(_foreign(name, name in scan.called, modules, source))
    return sorted(findings, key=lambda finding: finding.code, reverse=True)


def _is_tensor_part(name: Global) -> bool:
    import torch

    if name.module == "torch" and isinstance(getattr(torch, name.name, None), torch.dtype):
        return True
    return _TENSOR_PARTS.fullmatch(str(name)) is not None


def _foreign(name: Global, called: bool, modules: Sequence[str], source: Source) -> Finding:
    """E0302 for what may be a layer of the user, E0303 for what is none."""
    package = name.module.partition(".")[0]
    if (
        "." in name.name  # attribute access: no class that torch.save wrote is named like this
        or package in sys.stdlib_module_names - {"__main__"}
        or package in _OURS
        # Named, and still not one of its layer classes.
        or any(name.module == module or name.module.startswith(f"{module}.") for module in modules)
    ):
        return Finding(
            "E0303",
            f"the file {'would call' if called else 'refers to'} {name}, which is not a layer",
            source=source,
            supported="layers of torch.nn, of hsnn_compiler.nn and of modules named with --module",
            suggestion=_HINTS.get(str(name), _RESAVE),
        )
    if name.module == "__main__":
        message = f"class {name.name} was saved from a script (as {name})"
        if modules:
            message += f", and {' and '.join(modules)} defines no layer class {name.name}"
        option = "--module SCRIPT, the name of that script without .py"
    else:
        message = f"class {name} is not part of torch.nn"
        option = f"--module {package if package in _LIBRARIES else name.module}"
    return Finding(
        "E0302",
        message,
        source=source,
        suggestion=f"{option}, if you trust that code: it will be imported. Or: {_RESAVE}",
    )
