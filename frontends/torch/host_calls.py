"""Functions without a form of their own in the graph: recorded as a `HostCall`, as they were called.

What arrives at a port is [batch, ...]. A tensor may have its batch axis elsewhere, as attention and recurrent
layers want it: such a tensor is *displaced*. Its node still puts out [batch, ...], and only other
host calls understand it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.frontends.torch.axes import Axes
from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.host_functions import COPIES, NAMES, WRITES, NoFormError, as_it_is_meant
from hsnn_compiler.frontends.torch.registry import Unsupported
from hsnn_compiler.frontends.torch.tracer import Tracer, Value, version_of
from hsnn_compiler.ir.host_call import BATCH, HostCall, Reference, show_arguments
from hsnn_compiler.reference.host_calls import bind_call
from hsnn_compiler.reference.torch_ops import tensor as as_tensor

_SIZES = ("Tensor.view", "Tensor.reshape", "torch.reshape", "Tensor.expand", "torch.broadcast_to")
"""Functions among whose arguments the batch's size may stand."""


def displaced(tracer: Tracer, values: list[Value]) -> bool:
    """Whether the batch axis of any of these tensors is not where the graph has it."""
    return any(
        value.node is not None and value.shape != (*value.axes.sizes(tracer.batch), *tracer.graph[value.node].shape)
        for value in values
    )


def record(call: Call, func: Any, args: Any, kwargs: Any, traced: list[Value]) -> bool:
    """Record a call that has run (`call.out`). False if the function is not one that may be called.

    Raises:
        Unsupported: it may be called, but not like this.
    """
    with call.tracer.silence():
        if func in COPIES and len(traced) == 1 and _is_copy(call.out, traced[0].tensor):
            call.tracer.values[id(call.out)] = traced[0]._replace(tensor=call.out, version=version_of(call.out))
            return True
        if func not in NAMES:
            return False
        _Recording(call, func, traced).run(args, kwargs)
    return True


def otherwise(problem: Unsupported, instead: Callable[[], bool]) -> Unsupported | None:
    """None if a call that has no form in the graph could be recorded by `instead`, else what to say of it."""
    if problem.code != "E0402":
        return problem
    try:
        return None if instead() else problem
    except Unsupported as other:
        return other if isinstance(problem, NoFormError) else problem


def _is_copy(out: torch.Tensor, source: torch.Tensor) -> bool:
    return out.dtype == source.dtype and torch.equal(out, source)


class _Recording:
    """One call on its way into the graph."""

    def __init__(self, call: Call, func: Any, traced: list[Value]) -> None:
        self.call, self.tracer, self.func, self.traced = call, call.tracer, func, traced
        self.name = NAMES[func]
        axes = {value.axes for value in traced}
        if len(axes) > 1 or next(iter(axes)).count != 1:
            raise Unsupported(f"{self.name} of tensors with a time axis", "operations within one time step")
        self.axes: Axes = axes.pop()
        self.size = self.axes.sizes(self.tracer.batch)[0]
        self.nodes: list[str] = []
        self.constants: dict[str, np.ndarray] = {}
        self.known: dict[int, Reference] = {}
        self.sizes: list[int] = []  # those seen so far among the arguments of a function with sizes

    def run(self, args: Any, kwargs: Any) -> None:
        """Add a node per result, and track the results."""
        args, kwargs = as_it_is_meant(self.func, args, kwargs)
        shown = tuple(self._argument(item) for item in args), {key: self._argument(i) for key, i in kwargs.items()}
        try:
            self.text = show_arguments(*shown)
        except TypeError as error:
            raise Unsupported(f"{self.name} with {error}", "numbers, texts, lists and tensors as arguments") from None
        out = self.call.out
        if isinstance(out, torch.Tensor):
            self._result(out, None)
            return
        lost = []
        for i, item in enumerate(out):
            if item is None:
                continue
            if not isinstance(item, torch.Tensor):
                raise Unsupported(f"{self.name} with nested results", "one tensor, or several side by side")
            try:
                self._result(item, i)
            except Unsupported as problem:
                if i == 0:
                    raise
                lost.append((item, problem))
        for item, why in lost:  # matters only if something depends on it
            taint = frozenset(self.call.taint) | {self.tracer.report(why, self.call.where)}
            self.tracer.track_unknown(item, taint, self.tracer.per_step(self.traced))

    # -- arguments ------------------------------------------------------------------------------------

    def _argument(self, item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            if id(item) not in self.known:
                self.known[id(item)] = self._port(item) if self.call.is_traced(item) else self._constant(item)
            return self.known[id(item)]
        if isinstance(item, (list, tuple)):
            return (list if isinstance(item, list) else tuple)(self._argument(part) for part in item)
        if isinstance(item, slice):
            return slice(*(self._argument(part) for part in (item.start, item.stop, item.step)))
        if isinstance(item, np.generic):
            return item.item()
        if self.name in _SIZES and type(item) is int:
            self.sizes.append(item)
            if item == self.size and self.size not in self.call.out.shape[: len(self.sizes) - 1]:
                return BATCH
        return item

    def _port(self, item: torch.Tensor) -> Reference:
        node = self.call.node(item)
        if node not in self.nodes:
            self.nodes.append(node)
        convert: Any = "" if item.is_floating_point() else "bool" if item.dtype is torch.bool else "int"
        return Reference("x", self.nodes.index(node), self._axis_of(item, node), convert)

    def _axis_of(self, item: torch.Tensor, node: str) -> int:
        """Where the batch axis of a tracked tensor is."""
        sample, shape = self.tracer.graph[node].shape, tuple(item.shape)
        return next(k for k in range(item.dim()) if shape[k] == self.size and shape[:k] + shape[k + 1 :] == sample)

    def _constant(self, item: torch.Tensor) -> Reference:
        self.call.check_constant(item)
        if item.is_complex():
            raise Unsupported(f"{self.name} with complex numbers", "real numbers")
        if item.is_floating_point():
            array = self.call.array(item)
        else:
            array = item.detach().cpu().numpy().astype(bool if item.dtype is torch.bool else np.int64)
        name = f"c{len(self.constants)}"
        self.constants[name] = array if array.ndim else array.reshape(1)
        index = len(self.constants) - 1
        if not array.ndim:
            return Reference("c", index, convert="scalar")
        for axis, length in enumerate(array.shape):  # made in forward with the batch's size, the same for all samples
            first = array.take([0], axis) if length == self.size else array
            if (
                length == self.size
                and not isinstance(item, nn.Parameter)
                and np.array_equal(np.broadcast_to(first, array.shape), array, equal_nan=array.dtype.kind == "f")
            ):
                self.constants[name] = first
                return Reference("c", index, axis)
        return Reference("c", index)

    # -- results --------------------------------------------------------------------------------------

    def _result(self, out: torch.Tensor, number: int | None) -> None:
        floats = {value.tensor.dtype for value in self.traced if value.tensor.is_floating_point()}
        if out.is_complex() or (out.is_floating_point() and floats and {out.dtype} != floats):
            raise Unsupported(
                f"a conversion from {', '.join(map(str, floats))} to {out.dtype}",
                "one floating-point type throughout the model",
                "convert the input before the model, and constants with it",
            )
        first: Unsupported | None = None
        for axis in (k for k in range(out.dim()) if out.shape[k] == self.size):
            try:
                self._track(out, axis, self._same_node(out, axis) or self._emit(out, number, axis))
                return
            except Unsupported as error:
                first = first or error
        raise first or self._mixes()

    def _mixes(self) -> Unsupported:
        return Unsupported(
            f"{self.name} mixes the samples of the batch, or keeps no batch axis",
            "operations that compute each sample from itself alone",
            "keep axis 0 for the batch, and take other axes as dim",
            "E0406",
        )

    def _same_node(self, out: torch.Tensor, axis: int) -> str | None:
        """The input's node, if the result holds the same elements in the same order behind the batch axis."""
        source = self.traced[0].tensor
        if len(self.nodes) != 1 or self.func in WRITES or out.data_ptr() != source.data_ptr() or out is source:
            return None
        a, b = source.movedim(self._axis_of(source, self.nodes[0]), 0), out.movedim(axis, 0)
        is_same = (a.shape, a.stride(), a.dtype) == (b.shape, b.stride(), b.dtype)
        return self.nodes[0] if is_same else None

    def _emit(self, out: torch.Tensor, number: int | None, axis: int) -> str:
        shape = tuple(n for k, n in enumerate(out.shape) if k != axis)
        try:
            op = HostCall(self.name, self.text, shape, self.constants, number, axis)
        except ValueError as error:
            raise Unsupported(f"{self.name}: {error}", "fewer or simpler arguments") from None
        self._check_samples(op)
        return self.call.emit(op, *self.nodes, ports=True)

    def _check_samples(self, op: HostCall) -> None:
        """Refuse a call in which a sample's result depends on the others, or on their number."""
        function = bind_call(op, torch.float32, lambda name, array: as_tensor(array, torch.float32))
        dice = torch.Generator().manual_seed(0)
        parts = []
        for node in self.nodes:
            real = next(value for value in self.traced if value.node == node).tensor
            sizes = (self.size, *self.tracer.graph[node].shape)
            noise = torch.randn(sizes, generator=dice)
            if real.dtype is torch.bool:
                parts.append((noise > 0).float())
            elif real.is_floating_point():
                parts.append(noise)
            else:  # an index has to be in range
                parts.append(real.movedim(self._axis_of(real, node), 0))
        rows = [3, 0]
        try:
            every, few = function(*parts)[rows], function(*(part[rows] for part in parts))
        except HsnnError:
            raise self._mixes() from None
        scale = float(every[every.isfinite()].abs().max()) if every.isfinite().any() else 1.0
        if not torch.allclose(every, few, rtol=1e-4, atol=1e-5 * scale, equal_nan=True):
            raise self._mixes()

    def _track(self, out: torch.Tensor, axis: int, node: str) -> None:
        taint = frozenset(self.call.taint)
        if tuple(out.shape) == (self.size, *self.tracer.graph[node].shape):
            self.tracer.track(out, node, taint, self.axes)
            return
        self.tracer.track_unknown(out, taint, False)
        known = self.tracer.values[id(out)]
        self.tracer.values[id(out)] = known._replace(node=node, axes=self.axes)
