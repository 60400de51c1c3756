"""Calls of PyTorch's functions that have no meaning on a chip: attention, permutations, recurrent layers.

Which function is called is a name from a closed list (`FUNCTIONS`), and the arguments are data: a file
from a stranger can name nothing else, and what it names is never looked up but in a table.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

_BOTH = """
abs absolute acos acosh addcdiv addcmul addmm amax amin arccos arcsin arctan asin asinh atan atan2 atanh
baddbmm bmm ceil chunk clamp clip cos cosh cross cumprod cumsum deg2rad diagonal diff div divide dsplit erf erfc exp
exp2 expm1 flatten flip fliplr flipud floor fmax fmin frac gather ge greater greater_equal gt hsplit hypot
index_select isnan kthvalue le lerp less less_equal log log10 log1p log2 log_softmax logaddexp logical_and logical_not
logical_or logical_xor logit logsumexp lt masked_fill matmul max maximum mean median min minimum mm moveaxis movedim
mul multiply mv nan_to_num narrow ne eq neg negative norm not_equal permute pow prod rad2deg ravel reciprocal
remainder fmod relu reshape roll rot90 round rsqrt select sigmoid sin sinc sinh softmax sort split
sqrt square squeeze std sub subtract sum swapaxes swapdims take_along_dim tan tanh tensor_split tile topk transpose tril
triu true_divide trunc unbind unflatten unsqueeze var vsplit where xlogy floor_divide add
"""
_TORCH = """
bilinear broadcast_to cat cdist concat concatenate cosine_similarity dstack einsum gru gru_cell hstack lstm
lstm_cell pairwise_distance rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell rsub stack std_mean tensordot var_mean vstack
conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d layer_norm group_norm max_pool1d max_pool2d
max_pool3d adaptive_avg_pool1d adaptive_max_pool1d avg_pool1d pixel_shuffle pixel_unshuffle channel_shuffle celu selu
prelu rms_norm
"""
_TENSOR = """
__add__ __and__ __div__ __floordiv__ __ge__ __getitem__ __gt__ __invert__ __le__ __lt__ __matmul__ __mod__ __mul__
__neg__ __or__ __pow__ __radd__ __rdiv__ __rmatmul__ __rmul__ __rpow__ __rsub__ __rtruediv__ __sub__ __truediv__
__eq__ __ne__ T mT expand expand_as repeat reshape_as view view_as unfold
"""
_NN = """
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
adaptive_max_pool2d_with_indices adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d bilinear celu channel_shuffle
conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d cosine_similarity elu embedding
fold gelu glu grid_sample group_norm hardshrink hardsigmoid hardswish hardtanh instance_norm
interpolate layer_norm leaky_relu linear local_response_norm log_softmax logsigmoid lp_pool1d lp_pool2d max_pool1d
max_pool2d max_pool2d_with_indices max_pool3d mish multi_head_attention_forward normalize pad pairwise_distance
pixel_shuffle pixel_unshuffle prelu relu relu6 rms_norm rrelu scaled_dot_product_attention selu sigmoid silu softmax
softmin softplus softshrink softsign tanh tanhshrink threshold unfold upsample
"""

FUNCTIONS = frozenset(
    [f"torch.{name}" for name in (_BOTH + _TORCH).split()]
    + [f"Tensor.{name}" for name in (_BOTH + _TENSOR).split()]
    + [f"F.{name}" for name in _NN.split()]
    + ["linalg.norm", "linalg.vector_norm"]
)
"""What may be called: functions of ``torch`` and ``torch.linalg``, methods of tensors, ``torch.nn.functional``.

All compute their results from their arguments alone, and change none of them as they are called here.
"""

Convert = Literal["", "int", "bool", "scalar"]
_LONGEST = 100_000
_REFERENCE = re.compile(r"([xc])(\d+)")
CONSTANT = re.compile(r"c\d+")
"""Names of constants."""


@dataclass(frozen=True)
class Reference:
    """An argument that is a tensor.

    Attributes:
        kind: ``"x"`` for what arrives at a port, ``"c"`` for a constant.
        index: number of the port or constant.
        axis: where the batch axis belongs: a port's is moved there, a constant is repeated along it.
            None for a constant that is the same for all samples as it is.
        convert: ``"int"`` or ``"bool"`` where a port holds such numbers, ``"scalar"`` for a constant
            without axes (stored with one).
    """

    kind: Literal["x", "c"]
    index: int
    axis: int | None = None
    convert: Convert = ""

    def __str__(self) -> str:
        text = f"{self.kind}{self.index}"
        if self.axis is not None and (self.kind == "c" or self.axis):
            text += f"@{self.axis}"
        return f"{self.convert}({text})" if self.convert else text


class Batch:
    """An argument that is the number of samples."""


BATCH = Batch()


@dataclass(frozen=True, eq=False)
class HostCall:
    """One result of a pure function of PyTorch. It has ports ``0``, ``1``, ... and runs on the host.

    Attributes:
        function: a name from `FUNCTIONS`.
        arguments: as Python writes them, ``x0, [0, 2, 1], dim=1``: `x0`, `x1`, ... are the ports (with
            the batch as axis 0; ``x0@1`` with the batch as axis 1), `c0`, `c1`, ... the constants,
            `batch` the number of samples. See `Reference`.
        shape: shape of the result, without batch.
        constants: arrays by name: float32, int64 or bool.
        result: which of several results; None if the function returns one tensor.
        axis: which axis of the result is the batch.

    Raises:
        ValueError: the function is not on the list, or the arguments are not what they should be.
    """

    function: str
    arguments: str
    shape: tuple[int, ...]
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    result: int | None = None
    axis: int = field(default=0, metadata={"quiet": True})

    def __post_init__(self) -> None:
        if self.function not in FUNCTIONS:
            raise ValueError(f"{self.function!r} is not a function that may be called")
        found: dict[str, set[int]] = {"x": set(), "c": set()}

        def note(leaf: Reference | Batch) -> None:
            if isinstance(leaf, Reference):
                found[leaf.kind].add(leaf.index)

        args, kwargs = parse_arguments(self.arguments)
        replace_leaves([*args, *kwargs.values()], note)
        if found["x"] != set(range(len(found["x"]))) or not found["x"]:
            raise ValueError("the ports are not x0, x1, ...")
        if {f"c{i}" for i in found["c"]} != set(self.constants):
            raise ValueError(f"the constants are {', '.join(self.constants) or 'none'}, the arguments want others")
        object.__setattr__(self, "_ports", len(found["x"]))
        numbers = (*self.shape, self.axis, self.result or 0)
        if not all(isinstance(n, int) and n >= 0 for n in numbers) or self.axis > len(self.shape):
            raise ValueError("the shape, the axis or the number of the result is not one")

    @property
    def ports(self) -> int:
        """How many inputs the call has."""
        return int(vars(self)["_ports"])


def show_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Arguments as text. TypeError for what has no form: only numbers, texts, slices, lists and references do."""
    return ", ".join([*map(_show, args), *(f"{key}={_show(item)}" for key, item in kwargs.items())])


def _show(item: Any) -> str:
    if isinstance(item, Batch):
        return "batch"
    if isinstance(item, Reference):
        return str(item)
    if item is None or isinstance(item, (bool, int, str)):
        return repr(item)
    if isinstance(item, float):
        return repr(float(item))
    if item is ...:
        return "..."
    if isinstance(item, slice):
        return f"slice({_show(item.start)}, {_show(item.stop)}, {_show(item.step)})"
    if isinstance(item, list):
        return f"[{', '.join(map(_show, item))}]"
    if isinstance(item, tuple):
        return f"({', '.join(map(_show, item))}{',' if len(item) == 1 else ''})"
    raise TypeError(f"an argument that is a {type(item).__name__}")


def parse_arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    """Read what `show_arguments` wrote, back to `Reference` and `BATCH`. Nothing is evaluated.

    Raises:
        ValueError: any other text.
    """
    try:
        if len(text) > _LONGEST:
            raise ValueError
        call = ast.parse(f"f({text}\n)", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id != "f":
            raise ValueError
        if None in (names := [item.arg for item in call.keywords]) or len(set(names)) < len(names):
            raise ValueError
        return [_read(item) for item in call.args], {str(item.arg): _read(item.value) for item in call.keywords}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"arguments not understood: {text[:80]!r}") from None


def replace_leaves(item: Any, leaf: Callable[[Any], Any]) -> Any:
    """An argument in which each `Reference` and `BATCH` is replaced by what `leaf` gives for it."""
    if isinstance(item, (Reference, Batch)):
        return leaf(item)
    if isinstance(item, (list, tuple)):
        return type(item)(replace_leaves(part, leaf) for part in item)
    if isinstance(item, slice):
        return slice(*(replace_leaves(part, leaf) for part in (item.start, item.stop, item.step)))
    return item


def _read(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and (node.value is ... or isinstance(node.value, (type(None), int, float, str))):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_number(node.operand)
    if isinstance(node, ast.List):
        return [_read(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_read(item) for item in node.elts)
    if isinstance(node, ast.Name) and node.id in ("inf", "nan"):
        return _number(node)
    if isinstance(node, ast.Name) and node.id == "batch":
        return BATCH
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id == "slice" and len(node.args) == 3:
            return slice(*(_read(item) for item in node.args))
        if node.func.id in ("int", "bool", "scalar") and len(node.args) == 1:
            return _reference(node.args[0], node.func.id)
    return _reference(node, "")


def _number(node: ast.expr) -> int | float:
    if isinstance(node, ast.Name) and node.id in ("inf", "nan"):
        return math.inf if node.id == "inf" else math.nan
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return node.value
    raise ValueError


def _reference(node: ast.expr, convert: Any) -> Reference:
    axis = None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult) and isinstance(node.right, ast.Constant):
        axis, node = node.right.value, node.left
    match = _REFERENCE.fullmatch(node.id) if isinstance(node, ast.Name) else None
    if match is None or (axis is not None and type(axis) is not int):
        raise ValueError
    kind: Any = match.group(1)
    return Reference(kind, int(match.group(2)), 0 if kind == "x" and axis is None else axis, convert)
