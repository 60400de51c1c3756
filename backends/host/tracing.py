"""Functions of torch, followed down to ATen's operations and written as ONNX nodes.

The meaning of an op is the function that the float executor runs. It is called once on tensors without data, and
every operation of ATen that it is made of is looked up in a table (`table.EMITTERS`). One that is not there is taken
apart as PyTorch itself does it; what depends on constants alone is computed at once.

The batch is a large prime number meanwhile: a size that is a multiple of it holds the batch, any other does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from onnx import helper
from torch import Tensor
from torch._decomp import decomposition_table
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hsnn_compiler.backends.host.builder import Builder
from hsnn_compiler.backends.host.table import EMITTERS, PREPARED, NoFormError

PRIMES = (1_000_003, 1_000_033, 1_000_037, 1_000_039)
_DTYPES: dict[torch.dtype, type] = {
    torch.float32: np.float32, torch.float64: np.float64, torch.int64: np.int64, torch.int32: np.int32,
    torch.int16: np.int16, torch.int8: np.int8, torch.uint8: np.uint8, torch.bool: np.bool_,
}  # fmt: skip
Arg = Any
"""A tensor (traced or constant), a number, an array, or the name of a value."""


def a_prime(numbers: Iterable[int]) -> int:
    """A number that stands for the batch: none of these is a multiple of it."""
    seen = set(numbers)
    return next(prime for prime in PRIMES if not any(n and n % prime == 0 for n in seen))


class Trace(TorchDispatchMode):
    """Follows functions of tensors [batch, ...] and adds what they compute to a builder.

    Args:
        builder: takes the nodes.
        batch: the prime that stands for the batch, see `a_prime`.
    """

    def __init__(self, builder: Builder, batch: int) -> None:
        super().__init__()
        self.builder, self.batch = builder, batch
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.parameters: dict[int, tuple[Tensor, str]] = {}
        self._symbols: dict[int, tuple[Tensor, str]] = {}  # by id; the tensor is held, so that its id is its own
        self._lost: dict[int, str] = {}  # by id, why a tensor has no form; only using it is wrong
        self._length: str | None = None

    # -- for those who call functions ---------------------------------------------------------------

    def input(self, name: str, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """A tensor that stands for a value of the model, `shape` with `batch` for the batch."""
        with self.fake, torch.inference_mode():
            made = torch.empty(tuple(shape), dtype=dtype)
        self._symbols[id(made)] = (made, name)
        if self._length is None and shape and shape[0] == self.batch:
            self._length = name
        return made

    def parameter(self, name: str, tensor: Tensor) -> Tensor:
        """Let a constant have a name of its own."""
        self.parameters[id(tensor)] = (tensor, name)
        return tensor

    def call(self, function: Callable[..., Any], *inputs: Any) -> Any:
        """Call a function, adding what it computes."""
        with torch.inference_mode(), self:
            return function(*inputs)

    def forget(self) -> None:
        """Drop all tensors handed out so far; the next input is the one whose length is the batch."""
        self._symbols, self._lost, self._length, self.parameters = {}, {}, None, {}

    # -- for the table --------------------------------------------------------------------------------

    def op(self, kind: str, *inputs: Arg, **attributes: Any) -> str:
        """Add a node with one output."""
        return self.builder.op(kind, *map(self.name, inputs), **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: Arg, **attributes: Any) -> tuple[str, ...]:
        """Add a node with several outputs."""
        return self.builder.op(kind, *map(self.name, inputs), outputs=outputs, **attributes)

    def name(self, item: Arg) -> str:
        """Name of a value: of a tensor, a constant, or the text itself; None is an input left out."""
        if item is None:
            return ""
        if isinstance(item, str):
            return item
        if isinstance(item, FakeTensor):
            return self._symbol(item)
        if isinstance(item, Tensor):
            _, name = self.parameters.get(id(item), (item, ""))
            item = item.detach()
            return self.builder.constant(np.asarray(item.resolve_neg().numpy(), _numpy_type(item.dtype)), name)
        return self.builder.constant(np.asarray(item))

    def cast(self, item: Arg, dtype: torch.dtype) -> Arg:
        """A tensor or number in this number type."""
        if isinstance(item, FakeTensor):
            return item if item.dtype == dtype else self.op("Cast", item, to=onnx_type(dtype))
        return torch.as_tensor(item, dtype=dtype) if not isinstance(item, Tensor) else item.to(dtype)

    def ints(self, *numbers: int) -> np.ndarray:
        """Numbers as ONNX takes axes, sizes and the like."""
        return np.asarray(numbers, np.int64)

    def is_batch(self, size: int) -> bool:
        """Whether the number of samples is a factor of a size."""
        return size != 0 and size % self.batch == 0

    def sizes(self, shape: Sequence[int]) -> Arg:
        """A shape as a value: a constant if the batch is none of its sizes."""
        for size in shape:
            if size > self.batch // 2 and not self.is_batch(size):
                raise NoFormError("sizes that are no multiple of the number of samples")
        if not any(map(self.is_batch, shape)):
            return self.ints(*shape)
        if self._length is None:
            raise NoFormError("a result that depends on no input")
        batch = self.op("Shape", self._length, start=0, end=1)
        parts = []
        for size in shape:
            factor = size // self.batch
            parts.append(self.ints(size) if not factor else batch if factor == 1 else self.op("Mul", batch, [factor]))
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=0)

    def reshape(self, item: Arg, shape: Sequence[int]) -> str:
        """A value in another shape; at most one of its sizes may hold the batch."""
        free = [axis for axis, size in enumerate(shape) if self.is_batch(size)]
        if len(free) > 1:
            raise NoFormError("a shape with the number of samples twice")
        if 0 in shape:
            raise NoFormError("tensors without elements")
        return self.op("Reshape", item, self.ints(*(-1 if axis in free else size for axis, size in enumerate(shape))))

    def expand(self, item: Arg, before: Sequence[int], shape: Sequence[int]) -> Arg:
        """A value of shape `before` repeated to `shape`."""
        before = (1,) * (len(shape) - len(before)) + tuple(before)
        if before == tuple(shape) and not isinstance(item, Tensor):
            return item
        wanted = [1 if old == new else new for old, new in zip(before, shape, strict=True)]
        return self.op("Expand", item, self.sizes(wanted))

    # -- following ------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operation: done at once, added to the model, or taken apart."""
        kwargs = kwargs or {}
        if func.namespace == "prim" or not self._is_traced(args, kwargs):
            return func(*args, **kwargs)
        key = f"{func._schema.name.removeprefix('aten::')}.{func._overloadname}"
        if key in EMITTERS:
            args = PREPARED[key](*args) if key in PREPARED else args
            return self._emit(key, func, args, kwargs)
        if func._schema.is_mutable:
            return self._in_place(func, args, kwargs)
        with self:
            out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
            if func in decomposition_table:
                out = decomposition_table[func](*args, **kwargs)
                if out is not NotImplemented:
                    return out
        raise NoFormError(f"the operation {func._schema.name} ({func._overloadname})")

    def _is_traced(self, args: Any, kwargs: Any) -> bool:
        return any(
            isinstance(leaf, FakeTensor) or (type(leaf) is int and self.is_batch(leaf))
            for leaf in tree_leaves((args, kwargs))
        )

    def _emit(self, key: str, func: Any, args: Any, kwargs: Any) -> Any:
        with self.fake:
            out = func(*args, **kwargs)
        found = EMITTERS[key](self, out, *_bound(func, args, kwargs))
        if isinstance(out, Tensor):
            return self._keep(out, found, key)
        parts = zip(out, found, range(len(out)), strict=True)
        return type(out)(self._keep(part, name, f"{key}, result {i}") for part, name, i in parts)

    def _keep(self, out: Tensor, name: Arg, what: str) -> Tensor:
        if not isinstance(out, FakeTensor):
            raise NoFormError("a result that depends on no input")
        self._symbols[id(out)] = (out, "" if name is None else self.name(name))
        if name is None:
            self._lost[id(out)] = f"the operation {what}"
        return out

    def _in_place(self, func: Any, args: Any, kwargs: Any) -> Any:
        """An operation that writes into its first argument, as one that does not.

        Tensors that share memory with it are not followed any further.
        """
        base = func._schema.name.removeprefix("aten::")
        pure = getattr(torch.ops.aten, base.removesuffix("_"), None)
        if not base.endswith("_") or pure is None or not isinstance(args[0], FakeTensor):
            raise NoFormError(f"the operation {func._schema.name}, which writes into memory")
        with self:
            out = getattr(pure, func._overloadname)(*args, **kwargs)
        memory = args[0].untyped_storage()._cdata
        for key, (tensor, _) in self._symbols.items():
            if isinstance(tensor, FakeTensor) and tensor.untyped_storage()._cdata == memory:
                self._lost[key] = f"a tensor into whose memory {func._schema.name} wrote"
        name = self.op("Cast", out, to=onnx_type(args[0].dtype)) if out.dtype != args[0].dtype else self.name(out)
        self._symbols[id(args[0])] = (args[0], name)
        self._lost.pop(id(args[0]), None)
        return args[0]

    def _symbol(self, item: Tensor) -> str:
        if id(item) not in self._symbols or id(item) in self._lost:
            raise NoFormError(self._lost.get(id(item), "a tensor that was made on the way"))
        return self._symbols[id(item)][1]


def onnx_type(dtype: torch.dtype) -> int:
    """Number of a number type in ONNX."""
    return int(helper.np_dtype_to_tensor_dtype(_numpy_type(dtype)))


def _numpy_type(dtype: torch.dtype) -> np.dtype[Any]:
    if dtype not in _DTYPES:
        raise NoFormError(f"numbers of type {str(dtype).removeprefix('torch.')}")
    return np.dtype(_DTYPES[dtype])


def _bound(func: Any, args: Any, kwargs: Any) -> list[Any]:
    """All arguments of an operation, in the order of its schema."""
    rest = func._schema.arguments[len(args) :]
    return [*args, *(kwargs.get(item.name, item.default_value) for item in rest)]
