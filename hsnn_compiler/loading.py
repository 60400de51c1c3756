"""Load a trained model without running anything the file brings along.

Order of events: hash the file, scan its pickles without executing them, import the
modules the user named, refuse every name that is not on the allow-list, and only then
let ``torch.load(weights_only=True)`` restore the tensors and layers. ``weights_only=False``
is never used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from hsnn_compiler import allowed, user_code
from hsnn_compiler.diagnostics import Finding, HsnnError, Source, refuse
from hsnn_compiler.model_file import Contents, damaged, examine, not_torch, open_input, sha256_of, source_of
from hsnn_compiler.pickle_scan import Scan

if TYPE_CHECKING:
    import torch
    from torch import nn

CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model")
"""Where checkpoints keep the model, in the order tried."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode, on the CPU, with finite weights.

    Attributes:
        module: the model.
        kind: whether the file held the whole module or a state_dict.
        sha256: hash of the file's bytes, hex.
        path: the file.
        findings: what the user should know (codes ``I03xx``).
    """

    module: nn.Module
    kind: Literal["module", "state_dict"]
    sha256: str
    path: Path
    findings: tuple[Finding, ...] = ()


def load_model(path: str | Path, *, modules: Sequence[str] = (), factory: str | None = None) -> LoadedModel:
    """Load what ``torch.save`` wrote: a module, a state_dict, or a checkpoint with one; or ``torch.export.save``.

    Args:
        path: the file.
        modules: names of Python modules whose layer classes the file may hold, or of packages, which
            stand for all modules in them. They are imported, so name only what you trust.
        factory: ``module:function`` that builds the model a state_dict belongs to;
            called without arguments.

    Raises:
        HsnnError: E0301 to E0309, see ``hsnn-compile explain``; nothing that the file
            names has been executed.
    """
    path = Path(path)
    with open_input(path) as stream:
        digest = sha256_of(stream)
        contents = examine(stream, path)
        content: Any
        findings: list[Finding] = []
        if contents.kind == "program":
            from hsnn_compiler.exported import read_exported

            content = read_exported(stream, path)
        else:
            names, findings = _admit(contents, path, modules)
            content = _unpickle(stream, contents.scan, names, path)
    content, notes = _unwrap(content, path)
    findings += notes

    from torch import nn

    kind: Literal["module", "state_dict"] = "module"
    if isinstance(content, nn.Module):
        module = content
        if factory:
            findings.append(Finding("I0303", f"{path.name} holds the whole model: {factory} was not called"))
    else:
        kind = "state_dict"
        if factory is None:
            raise refuse(
                "E0305",
                f"the file holds weights only ({len(content)} tensors), not the model they belong to",
                source=source_of(path),
                suggestion="Name the function that builds the model: --model my_models:build.",
            )
        module = user_code.build(factory, path)
        _fill(module, content, factory, path)
    try:
        module.eval()
        broken = _non_finite(module)
    except (AttributeError, TypeError) as error:  # a module whose attributes are not what they should be
        raise damaged(path, f"{type(error).__name__}: {error}") from error
    if broken:
        raise HsnnError(broken)
    return LoadedModel(module, kind, digest, path, tuple(findings))


def _admit(contents: Contents, path: Path, modules: Sequence[str]) -> tuple[dict[str, Any], list[Finding]]:
    """The allow-list for this file, or the refusal of everything in it that is not on the list."""
    with user_code.import_path(path) if modules else nullcontext():
        imported = [user_code.import_named(name, path) for name in allowed.parts_named(modules, contents.scan)]
    users, findings = allowed.user_names(imported, contents.scan)
    names = allowed.library_names() | users
    refused = allowed.verdict(contents.scan, names, modules, source_of(path))
    unsafe = any(finding.code == "E0303" for finding in refused)
    if contents.scan.stores_source and not unsafe:
        raise not_torch(
            path,
            "a whole module in torch's legacy format, whose layers cannot be restored safely",
            "Save it again in the format that torch has written since 1.6, or save its state_dict.",
        )
    if refused:
        raise HsnnError(refused)
    if contents.kind == "pickle":
        raise not_torch(
            path,
            "a Python pickle that torch.save did not write",
            "Save the module with torch.save(model.eval(), 'model.pt').",
        )
    return names, findings


def _unpickle(stream: BinaryIO, scan: Scan, names: dict[str, Any], path: Path) -> Any:
    """``torch.load`` with ``weights_only=True`` and our allow-list, on the CPU."""
    import torch

    # Only what the file names, and not what the process has admitted before us: the
    # context manager takes away on leaving whatever it was given.
    present = {str(name): names[str(name)] for name in scan.named if str(name) in names}
    before = torch.serialization.get_safe_globals()
    admitted = [pair for name, value in present.items() if (pair := (value, name)) not in before]
    try:
        with torch.serialization.safe_globals(admitted):  # type: ignore[arg-type]
            return torch.load(stream, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        if scan.protocol > 2:
            raise not_torch(
                path,
                f"a file saved with pickle protocol {scan.protocol}",
                "Save it with torch's default: torch.save(model, path) without pickle_protocol.",
            ) from error
        raise refuse("E0303", f"torch refuses the file: {_reason(error)}", source=source_of(path)) from error
    except Exception as error:  # damaged archives surface as almost any type
        raise damaged(path, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from error


def _reason(error: UnpicklingError) -> str:
    """The sentence of torch's long message that says what it met."""
    return str(error).rpartition("WeightsUnpickler error:")[2].strip().splitlines()[0]


def _unwrap(content: Any, path: Path) -> tuple[Any, list[Finding]]:
    """The module or state_dict inside what was loaded, out of a checkpoint if need be."""
    from torch import nn

    if isinstance(content, nn.Module) or _is_state_dict(content):
        return content, []
    if isinstance(content, Mapping):
        for key in CHECKPOINT_KEYS:
            inner = content.get(key)
            if isinstance(inner, nn.Module) or _is_state_dict(inner):
                rest = ", ".join(repr(other) for other in content if other != key)
                return inner, [Finding("I0302", f"took {key!r} of the checkpoint, left {rest or 'nothing'}")]
    held = f"a {type(content).__name__}"
    if isinstance(content, Mapping):
        held += f" with the keys {', '.join(repr(key) for key in list(content)[:6])}" if content else " without keys"
    raise not_torch(
        path,
        f"a torch file that holds {held}",
        f"Save the model or its state_dict; in a checkpoint, under one of {', '.join(CHECKPOINT_KEYS)}.",
    )


def _is_state_dict(value: Any) -> bool:
    """Names to tensors; what ``get_extra_state`` returned may be anything."""
    import torch

    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(key, str) for key in value)
        and all(isinstance(v, torch.Tensor) or k.endswith("_extra_state") for k, v in value.items())
    )


def _fill(module: nn.Module, state: Mapping[str, torch.Tensor], factory: str, path: Path) -> None:
    """``load_state_dict(strict=True)``, every disagreement of names and shapes listed at once."""
    from torch.nn.parameter import is_lazy

    wanted = module.state_dict()
    problems = {name: "is in the model, but not in the file" for name in wanted if name not in state}
    problems |= {name: "is in the file, but not in the model" for name in state if name not in wanted}
    for name in wanted.keys() & state.keys():
        theirs, ours = getattr(state[name], "shape", None), None if is_lazy(wanted[name]) else wanted[name]
        if ours is not None and getattr(ours, "shape", None) != theirs:
            problems[name] = f"is of shape {list(ours.shape)} in the model and {list(theirs or ())} in the file"
    if problems:
        prefix = _common_prefix(wanted, state)
        way = (
            f"Every name in the file begins with {prefix!r}; take it off before saving:"
            f" {{k.removeprefix({prefix!r}): v for k, v in state.items()}}."
            if prefix
            else f"Build in {factory} the model that was trained."
        )
        raise HsnnError(
            Finding("E0306", f"{name} {what}", source=source_of(path), suggestion=way if i == 0 else "")
            for i, (name, what) in enumerate(sorted(problems.items()))
        )
    try:
        module.load_state_dict(state, strict=True)
    except Exception as error:  # the user's own _load_from_state_dict or set_extra_state
        raise refuse("E0306", f"load_state_dict failed: {error}", source=source_of(path)) from error


def _common_prefix(wanted: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """``module.`` (DataParallel) or ``model.`` (Lightning) when it alone is in the way."""
    for prefix in ("module.", "model.", "_orig_mod."):
        if {prefix + name for name in wanted} == set(state):
            return prefix
    return ""


def _non_finite(module: nn.Module) -> list[Finding]:
    """One E0304 for each parameter or buffer that holds NaN or Inf."""
    findings = []
    for kind, named in (("parameter", module.named_parameters()), ("buffer", module.named_buffers())):
        for name, tensor in named:
            if not (tensor.is_floating_point() or tensor.is_complex()):
                continue
            values = tensor.detach().to_dense() if tensor.is_sparse else tensor.detach()
            bad = ~values.isfinite()
            if not bad.any() or (kind == "buffer" and _is_attention_mask(values)):
                continue
            nan, first = int(values.isnan().sum()), bad.nonzero()[0].tolist()
            findings.append(
                Finding(
                    "E0304",
                    f"{kind} {name} holds {nan} NaN and {int(bad.sum()) - nan} Inf"
                    f" among {values.numel()} values, the first at {first}",
                    source=Source(module=name),
                    suggestion="The training diverged: take an earlier checkpoint.",
                )
            )
    return findings


def _is_attention_mask(buffer: torch.Tensor) -> bool:
    """Additive attention masks are 0 where one may look and -inf elsewhere: no damage."""
    return bool(((buffer == 0) | (buffer == float("-inf"))).all())
