"""Matrix products, convolutions, normalisation and attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from hsnn_compiler.backends.host.aten_reduce import norm
from hsnn_compiler.backends.host.table import NoFormError, emits
from hsnn_compiler.backends.host.tracing import Arg, Trace


def _times(t: Trace, x: Arg, factor: float, dtype: torch.dtype) -> Arg:
    return x if factor == 1 else t.op("Mul", x, t.cast(factor, dtype))


@emits("linear")
def _linear(t: Trace, out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Arg:
    if x.dim() == 2 and weight.dim() == 2:
        return t.op("Gemm", x, weight, *([] if bias is None else [bias]), transB=1)
    if isinstance(weight, FakeTensor):
        turned: Arg = t.op("Transpose", weight, perm=[1, 0]) if weight.dim() == 2 else weight
    else:
        turned = weight.t() if weight.dim() == 2 else weight
    product = t.op("MatMul", x, turned)
    return product if bias is None else t.op("Add", product, bias)


@emits("matmul", "mm", "bmm", "mv", "dot")
def _matmul(t: Trace, out: Tensor, a: Tensor, b: Tensor) -> Arg:
    return t.op("MatMul", a, b)


@emits("addmm", "baddbmm", "addmv")
def _addmm(t: Trace, out: Tensor, c: Tensor, a: Tensor, b: Tensor, beta: float = 1, alpha: float = 1) -> Arg:
    product = _times(t, t.op("MatMul", a, b), alpha, out.dtype)
    return t.op("Add", _times(t, c, beta, out.dtype), product) if beta else product


@emits("bilinear")
def _bilinear(t: Trace, out: Tensor, a: Tensor, b: Tensor, weight: Tensor, bias: Tensor | None = None) -> Arg:
    """sum over i and j of a_i weight_oij b_j, as a product of every pair with a matrix."""
    pairs = t.op("Mul", t.op("Unsqueeze", a, t.ints(-1)), t.op("Unsqueeze", b, t.ints(-2)))
    flat = t.reshape(pairs, [*out.shape[:-1], weight.shape[1] * weight.shape[2]])
    product = t.op("MatMul", flat, weight.reshape(weight.shape[0], -1).t())
    return product if bias is None else t.op("Add", product, bias)


@emits("cdist", "_cdist_forward", "_euclidean_dist")
def _cdist(t: Trace, out: Tensor, a: Tensor, b: Tensor, order: float = 2, *_: Any) -> Arg:
    apart = t.op("Sub", t.op("Unsqueeze", a, t.ints(-2)), t.op("Unsqueeze", b, t.ints(-3)))
    return norm(t, apart, out.dtype, order, [-1], keepdim=False)


@emits("linalg_cross")
def _cross(t: Trace, out: Tensor, a: Tensor, b: Tensor, axis: int = -1) -> Arg:
    axis %= out.dim()

    def turned(x: Tensor, order: Sequence[int]) -> str:
        return t.op("Gather", x, t.ints(*order), axis=axis)

    one = t.op("Mul", turned(a, (1, 2, 0)), turned(b, (2, 0, 1)))
    return t.op("Sub", one, t.op("Mul", turned(a, (2, 0, 1)), turned(b, (1, 2, 0))))


@emits("convolution")
def _convolution(
    t: Trace, out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], is_transposed: bool, more: Sequence[int], groups: int,
) -> Arg:  # fmt: skip
    sides = [*padding, *padding]
    inputs = [x, weight] if bias is None else [x, weight, bias]
    common = {"strides": list(stride), "pads": sides, "dilations": list(dilation), "group": groups}
    if is_transposed:
        return t.op("ConvTranspose", *inputs, output_padding=list(more), **common)
    return t.op("Conv", *inputs, **common)


# -- normalisation ------------------------------------------------------------------------------------


def _normalised(t: Trace, x: Arg, weight: Tensor | None, bias: Tensor | None, rank: int) -> Arg:
    """Per channel, axis 1, times weight, plus bias."""
    shape = (-1,) + (1,) * (rank - 2)
    if weight is not None:
        x = t.op("Mul", x, weight.reshape(shape))
    return x if bias is None else t.op("Add", x, bias.reshape(shape))


@emits("layer_norm")
def _layer_norm(
    t: Trace, out: Tensor, x: Tensor, shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5, *_: Any,
) -> Arg:  # fmt: skip
    weight = torch.ones(tuple(shape)) if weight is None else weight
    inputs = [x, weight] if bias is None else [x, weight, bias]
    return t.op("LayerNormalization", *inputs, axis=-len(shape), epsilon=float(eps))


@emits("batch_norm", "native_batch_norm", "_native_batch_norm_legit_no_training")
def _batch_norm(
    t: Trace, out: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor | None,
    variance: Tensor | None, *rest: Any,
) -> Arg:  # fmt: skip
    if mean is None or variance is None or rest[0] is True:
        raise NoFormError("a normalisation by the mean of the batch")
    eps = float(rest[2] if isinstance(rest[0], bool) else rest[1])
    weight = torch.ones_like(mean) if weight is None else weight
    bias = torch.zeros_like(mean) if bias is None else bias
    done = t.op("BatchNormalization", x, weight, bias, mean, variance, epsilon=eps)
    return done if isinstance(out, Tensor) else (done, None, None)


@emits("group_norm")
def _group_norm(
    t: Trace, out: Tensor, x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5, *_: Any,
) -> Arg:  # fmt: skip
    rows = t.reshape(x, [x.shape[0], groups, math.prod(x.shape[1:]) // groups])
    done = t.op("InstanceNormalization", rows, torch.ones(groups), torch.zeros(groups), epsilon=float(eps))
    return _normalised(t, t.reshape(done, x.shape), weight, bias, x.dim())


@emits("instance_norm")
def _instance_norm(
    t: Trace, out: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor | None,
    variance: Tensor | None, own: bool, momentum: float, eps: float, *_: Any,
) -> Arg:  # fmt: skip
    if not own:
        return _batch_norm(t, out, x, weight, bias, mean, variance, False, momentum, eps)
    channels = x.shape[1]
    weight = torch.ones(channels) if weight is None else weight
    bias = torch.zeros(channels) if bias is None else bias
    return t.op("InstanceNormalization", x, weight, bias, epsilon=float(eps))


# -- attention ----------------------------------------------------------------------------------------


@emits("scaled_dot_product_attention")
def _attention(
    t: Trace, out: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0,
    is_causal: bool = False, scale: float | None = None, shares_heads: bool = False,
) -> Arg:  # fmt: skip
    if dropout:
        raise NoFormError("attention with dropout")
    order = list(range(k.dim()))
    order[-2:] = order[:-3:-1]
    keys, values = (_per_head(t, x, q.shape[-3]) if shares_heads else x for x in (k, v))
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores: Arg = t.op("MatMul", _times(t, q, scale, q.dtype), t.op("Transpose", keys, perm=order))
    if is_causal:
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
    if mask is not None and mask.dtype is torch.bool:
        scores = t.op("Where", mask, scores, t.cast(-math.inf, q.dtype))
    elif mask is not None:
        scores = t.op("Add", scores, mask)
    return t.op("MatMul", t.op("Softmax", scores, axis=-1), values)


def _per_head(t: Trace, x: Tensor, heads: int) -> Arg:
    """[..., groups, tokens, width] with every group repeated for each of the heads that share it."""
    groups, *rest = x.shape[-3:]
    lead = x.shape[:-3]
    wide = t.expand(
        t.op("Unsqueeze", x, t.ints(-3)), (*lead, groups, 1, *rest), (*lead, groups, heads // groups, *rest)
    )
    return t.reshape(wide, (*lead, heads, *rest))


@emits("grid_sampler_2d")
def _grid_sampler(t: Trace, out: Tensor, x: Tensor, grid: Tensor, how: int, padding: int, corners: bool) -> Arg:
    return t.op(
        "GridSample", x, grid, mode=("bilinear", "nearest", "bicubic")[how],
        padding_mode=("zeros", "border", "reflection")[padding], align_corners=int(corners),
    )  # fmt: skip
