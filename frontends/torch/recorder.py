"""What happens to each call while the model runs: recorded as a node, or noted as a finding.

Three nets, each under the other:

- the ``forward`` of every module of the model is wrapped (`watch_modules`): leaf modules become
  one node, and paths are known;
- a `TorchFunctionMode` sees every function, method and operator of torch's Python interface;
- a `TorchDispatchMode` sees what reaches torch's kernels without passing there (TorchScript,
  custom C++, ``vmap``): nothing of it is understood, so it becomes a finding.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.registry import (
    FUNCTIONS,
    HINTS,
    SUPPORTED,
    Entry,
    Unsupported,
    is_foreign_leaf,
    leaf_entry,
)
from hsnn_compiler.frontends.torch.tracer import Tracer, Value, tensors_in

QUERIES = frozenset({
    "size", "dim", "ndimension", "numel", "nelement", "stride", "is_contiguous", "is_floating_point",
    "is_complex", "is_signed", "get_device", "element_size", "storage_offset", "type", "data_ptr",
    "is_tensor", "is_same_size", "is_pinned", "is_inference", "__get__", "__len__", "__repr__", "__str__",
    "__format__", "__hash__", "__dir__",
})  # fmt: skip
"""Functions that ask for a property of a tensor, not for its values."""

FACTORIES = frozenset({"zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "new_tensor"})
"""Functions that make a constant of the first argument's shape or number type."""

READS = frozenset({
    "__bool__", "__int__", "__float__", "__index__", "__complex__", "__contains__", "item", "tolist", "numpy",
    "__array__", "__dlpack__", "equal", "allclose", "is_nonzero",
})  # fmt: skip
"""Functions that take values out of a tensor into Python."""


class FunctionMode(TorchFunctionMode):
    """Sees every call of torch's Python interface."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        traced = [] if self.tracer.quiet else self.tracer.traced_in(args, kwargs)
        if not traced:
            return func(*args, **kwargs)
        return _record_function(self.tracer, func, args, kwargs, traced)


class DispatchMode(TorchDispatchMode):
    """Sees kernels that run on tracked tensors outside of any recorded call."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tracer = self.tracer
        traced = [] if tracer.quiet else tracer.traced_in(args, kwargs)
        with tracer.silence():
            out = func(*args, **kwargs)
        if traced:
            problem = Unsupported(
                f"{func} is computed by code that capture cannot see into",
                "models written in Python with PyTorch's own functions",
                "use the plain Python version of this part (not TorchScript, vmap or a compiled extension)",
                "E0404",
            )
            _lose(tracer, tracer.report(problem), out, traced, args, kwargs)
        return out


@contextmanager
def watch_modules(tracer: Tracer, model: nn.Module) -> Iterator[None]:
    """Wrap the ``forward`` of every module of the model, and take the wrapping off again."""
    wrapped = []
    try:
        for path, mod in model.named_modules():
            patched = "forward" in vars(mod)
            wrapped.append((mod, vars(mod).get("forward"), vars(mod).get("_compiled_call_impl")))
            mod.__dict__["forward"] = _watched(tracer, path, mod, mod.forward, patched)
            if wrapped[-1][2] is not None:  # Module.compile(): run what was written, not what was compiled
                mod.__dict__["_compiled_call_impl"] = None
        yield
    finally:
        for mod, forward, compiled in wrapped:
            del mod.__dict__["forward"]
            if forward is not None:
                mod.__dict__["forward"] = forward
            if compiled is not None:
                mod.__dict__["_compiled_call_impl"] = compiled


def _watched(tracer: Tracer, path: str, mod: nn.Module, original: Any, patched: bool) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        if tracer.quiet:
            return original(*args, **kwargs)
        with tracer.inside(path):
            entry = leaf_entry(mod, patched)  # asked now: lazy modules change their class when first called
            foreign = entry is None and is_foreign_leaf(mod, patched)
            traced = tracer.traced_in(args, kwargs) if entry or foreign else []
            if traced:
                return _record_module(tracer, mod, original, entry, args, kwargs, traced)
            return original(*args, **kwargs)

    return forward


def _record_module(
    tracer: Tracer,
    mod: nn.Module,
    original: Any,
    entry: Entry | None,
    args: Any,
    kwargs: Any,
    traced: list[Value],
) -> Any:
    kind = type(mod).__name__
    where = tracer.path or kind
    call = Call(tracer, tracer.local(tracer.path) or kind.lower(), tracer.source(), where)
    if entry is None:
        with tracer.silence():
            out = original(*args, **kwargs)
        problem = Unsupported(
            f"module {kind} is not supported",
            SUPPORTED.format(code="E0401"),
            "build the layer from supported modules",
            "E0401",
        )
        _lose(tracer, tracer.report(problem, where), out, traced, args, kwargs)
        return out
    if not entry.drives:
        with tracer.silence():
            call.out = original(*args, **kwargs)
    _finish(call, entry, (mod, *args), kwargs, traced)
    if entry.drives and call.out is None:
        with tracer.silence():
            call.out = original(*args, **kwargs)
        _lose_call(call, traced)
    return call.out


def _record_function(tracer: Tracer, func: Any, args: Any, kwargs: Any, traced: list[Value]) -> Any:
    name = (resolve_name(func) or getattr(func, "__name__", str(func))).removesuffix(".__get__")
    short = getattr(func, "__name__", "")
    entry = FUNCTIONS.get(func)
    with tracer.silence():
        out = func(*args, **kwargs)
    if short in READS:
        problem = Unsupported(
            f"{name} turns a computed tensor into a Python value, on which the model may then depend",
            "the same operations for every input; shapes may be used freely",
            "replace the Python branch or value by tensor operations, or take it out of forward",
            "E0403",
        )
        tracer.report(problem, always=True)
    elif _harmless(short, out, args, kwargs):
        pass
    elif entry is None:
        problem = Unsupported(
            f"operation {name} is not supported",
            SUPPORTED.format(code="E0402"),
            HINTS.get(short.strip("_") if short != "__getitem__" else short, "rewrite it with supported operations"),
        )
        _lose(tracer, tracer.report(problem), out, traced, args, kwargs)
    elif kwargs.get("out") is not None or (out is not None and _changes_constant(tracer, out, args)):
        problem = Unsupported(
            f"{name} writes a computed value into a tensor made elsewhere",
            "operations that return a new tensor, in-place ones on computed tensors",
            "use the form that returns a new tensor: z = x + y",
            "E0405",
        )
        _lose(tracer, tracer.report(problem), out, traced, args, kwargs)
    else:
        stem = ".".join(part for part in (tracer.local(tracer.path), entry.stem) if part)
        call = Call(tracer, stem, tracer.source(), "", out)
        _finish(call, entry, args, kwargs, traced)
    return out


def _harmless(short: str, out: Any, args: Any, kwargs: Any) -> bool:
    """Whether the result does not depend on the values of the tensors."""
    if short in FACTORIES:
        like = args[0] if args else kwargs.get("input")
        return [id(tensor) for tensor in tensors_in(args, kwargs)] == [id(like)]
    return short in QUERIES and next(tensors_in(out), None) is None


def _changes_constant(tracer: Tracer, out: Any, args: Sequence[Any]) -> bool:
    return bool(args) and out is args[0] and not tracer.is_traced(out)


def _finish(call: Call, entry: Entry, args: Any, kwargs: Any, traced: list[Value]) -> None:
    """Let the handler make the node and track the result; on refusal, track a placeholder."""
    tracer = call.tracer
    call.taint.update(*(value.taint for value in traced))
    if any(value.node is None for value in traced) and not entry.drives:
        _lose_call(call, traced)  # nothing is known about the input: there is a finding already
        return
    try:
        with tracer.silence() if not entry.drives else nullcontext():
            try:
                inspect.signature(entry.handler).bind(call, *args, **kwargs)
            except TypeError as error:
                raise Unsupported(f"arguments of this call are not supported: {error}") from None
            node = entry.handler(call, *args, **kwargs)
            if any(id(value.tensor) not in call.used for value in traced):
                raise Unsupported("an argument that has to be a constant is computed from the input")
        if not isinstance(call.out, torch.Tensor):
            raise Unsupported("a call with several results is not supported", "calls with one tensor as result")
        _same_dtype(call.out, traced)
        tracer.track(call.out, node, frozenset(call.taint))
    except Unsupported as problem:
        call.complain(problem)
        if call.out is not None:
            _lose_call(call, traced)
    except HsnnError as error:
        tracer.failure = tracer.failure or error
        raise


def _same_dtype(out: torch.Tensor, traced: list[Value]) -> None:
    """Refuse a change of number type, by conversion, by promotion or by autocast."""
    for value in traced:
        if value.tensor.dtype != out.dtype:
            raise Unsupported(
                f"a conversion from {value.tensor.dtype} to {out.dtype}",
                "one floating-point type throughout the model",
                "convert the input before the model, and constants with it",
            )


def _lose_call(call: Call, traced: list[Value]) -> None:
    for tensor in tensors_in(call.out):
        call.tracer.track_unknown(tensor, frozenset(call.taint), call.tracer.per_step(traced))


def _lose(tracer: Tracer, finding: int, out: Any, traced: list[Value], args: Any = (), kwargs: Any = None) -> None:
    """Track all results of something not understood as unknown, and whatever tensor it changed."""
    taint = frozenset({finding}).union(*(value.taint for value in traced))
    per_step = tracer.per_step(traced)
    lost = list(tensors_in(out, kwargs.get("out") if kwargs else None))
    if out is None:  # x[...] = y and the like: it may have written to any of its arguments
        lost.extend(tensors_in(args, kwargs))
    for tensor in lost:
        tracer.track_unknown(tensor, taint, per_step)
