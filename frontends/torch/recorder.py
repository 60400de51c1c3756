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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.frontends.torch import host_calls, in_place
from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.host_functions import NoFormError, host_entry
from hsnn_compiler.frontends.torch.host_modules import host_findings, look_inside, opens
from hsnn_compiler.frontends.torch.queries import READS, harmless
from hsnn_compiler.frontends.torch.registry import (
    FUNCTIONS,
    HINTS,
    SUPPORTED,
    Entry,
    Unsupported,
    is_foreign_leaf,
    leaf_entry,
)
from hsnn_compiler.frontends.torch.series import SERIES, NotTimeError
from hsnn_compiler.frontends.torch.stateful import kept_by
from hsnn_compiler.frontends.torch.tracer import Tracer, Value, tensors_in


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

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here; torch would import its compiler, for seconds, to leave this class out of it."""
        return False

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
        if tracer.findings:  # should the model be refused, then with all that stands in the way of a chip
            tracer.said += host_findings(tracer.graph)
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
            foreign = entry is None and is_foreign_leaf(mod, patched) and not opens(mod)
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
    call.before = kept_by(mod)
    if not entry.drives:
        with tracer.silence():
            call.out = original(*args, **kwargs)
    _finish(call, entry, (mod, *args), kwargs, traced, lambda: look_inside(call, mod, original, args, kwargs))
    if entry.drives and call.out is None:
        with tracer.silence():
            call.out = original(*args, **kwargs)
        _lose_call(call, traced)
    return call.out


def _record_function(tracer: Tracer, func: Any, args: Any, kwargs: Any, traced: list[Value]) -> Any:
    name = (resolve_name(func) or getattr(func, "__name__", str(func))).removesuffix(".__get__")
    short = getattr(func, "__name__", "")
    entry = FUNCTIONS.get(func) or host_entry(func)
    start = in_place.start_of_sum(tracer, short, args)
    with tracer.silence():
        out = func(*args, **kwargs)
    if start is not None:
        args = (start, *args[1:])
    if short == "__setitem__" and in_place.written(tracer, *args):
        return out
    series = None if host_calls.displaced(tracer, traced) else SERIES.get(func)
    if series and (call := _record_series(tracer, series, out, args, kwargs, traced)):
        return iter(call.out) if short == "__iter__" else call.out
    if short in READS:
        problem = Unsupported(
            f"{name} turns a computed tensor into a Python value, on which the model may then depend",
            "the same operations for every input; shapes may be used freely",
            "replace the Python branch or value by tensor operations, or take it out of forward",
            "E0403",
        )
        tracer.report(problem, always=True)
    elif harmless(short, out, args, kwargs):
        pass
    elif entry is None:
        problem = Unsupported(
            f"operation {name} is not supported",
            SUPPORTED.format(code="E0402"),
            HINTS.get(short.strip("_") if short != "__getitem__" else short, "rewrite it with supported operations"),
            "E0405" if short == "__setitem__" and in_place.changes_constant(tracer, args[0], args) else "E0402",
        )
        _lose(tracer, tracer.report(problem), out, traced, args, kwargs)
    elif kwargs.get("out") is not None or in_place.changes_constant(tracer, out, args):
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
        _finish(call, entry, args, kwargs, traced, lambda: host_calls.record(call, func, args, kwargs, traced))
    return out


def _record_series(tracer: Tracer, entry: Entry, out: Any, args: Any, kwargs: Any, traced: list[Value]) -> Call | None:
    """Record a call that concerns the time axis; None if it does not."""
    stem = ".".join(part for part in (tracer.local(tracer.path), entry.stem) if part)
    call = Call(tracer, stem, tracer.source(), "", out)
    try:
        _finish(call, entry, args, kwargs, traced)
    except NotTimeError:
        return None
    return call


def _finish(
    call: Call,
    entry: Entry,
    args: Any,
    kwargs: Any,
    traced: list[Value],
    instead: Callable[[], bool] = lambda: False,
) -> None:
    """Let the handler make the node and track the result; on refusal, track a placeholder.

    `instead` records a call that has no such form in the graph in another way, if it can.
    """
    tracer = call.tracer
    call.taint.update(*(value.taint for value in traced))
    call.axes = next((value.axes for value in traced), call.axes)
    if any(value.node is None and value.state is None for value in traced) and not entry.drives:
        _lose_call(call, traced)  # nothing is known about the input: there is a finding already
        return
    try:
        if host_calls.displaced(tracer, traced):
            raise NoFormError("the batch is not the first axis here", "the batch as axis 0", code="E0402")
        with tracer.silence() if not entry.drives else nullcontext():
            try:
                inspect.signature(entry.handler).bind(call, *args, **kwargs)
            except TypeError as error:
                raise Unsupported(f"arguments of this call are not supported: {error}") from None
            node = entry.handler(call, *args, **kwargs)
            if any(id(value.tensor) not in call.used for value in traced):
                raise Unsupported("an argument that has to be a constant is computed from the input")
            if len({value.axes for value in traced if value.node is not None}) > 1:
                raise Unsupported(
                    "values with a time axis meet values without one, or with another",
                    "tensors whose batch and time axes are the same",
                    "repeat the value along time: x.unsqueeze(0).repeat(T, 1, ...)",
                    "E0409",
                )
        if call.results is not None:
            for tensor, made, state in call.results:
                tracer.track(tensor, made, frozenset(call.taint), call.axes, state)
            return
        if not isinstance(call.out, torch.Tensor):
            raise Unsupported("a call with several results is not supported", "calls with one tensor as result")
        _same_dtype(call.out, traced)
        tracer.track(call.out, node, frozenset(call.taint), call.axes)
    except Unsupported as problem:
        left = host_calls.otherwise(problem, instead)
        if left is None:
            return
        call.complain(left)
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
