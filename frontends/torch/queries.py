"""Functions that do not compute: they ask for a property, make a constant, or take values out into Python."""

from __future__ import annotations

from typing import Any

from hsnn_compiler.frontends.torch.tracer import tensors_in

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


def harmless(short: str, out: Any, args: Any, kwargs: Any) -> bool:
    """Whether the result does not depend on the values of the tensors."""
    if short in FACTORIES:
        like = args[0] if args else kwargs.get("input")
        return [id(tensor) for tensor in tensors_in(args, kwargs)] == [id(like)]
    return short in QUERIES and next(tensors_in(out), None) is None
