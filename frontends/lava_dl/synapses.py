"""Weights of a file as synapse ops with their integers.

Kernels lie in the file as PyTorch's ``[out, in / groups, height, width(, 1)]``, which is what NIR
means too (netx turns them round because Lava convolves truly). For the layers that netx does not
build, ``slayer/synapse/layer.py`` says what they compute:

- Pool: the same kernel, weight [1, 1, h, w], on each channel: a convolution with as many groups as channels.
- ConvTranspose: a convolution of the image with zeros spread between its pixels, by the kernel turned round,
  weight [in, out / groups, h, w]. Unpool: the same with one kernel for each channel.
- Average: the mean over equal parts of the flattened input: sums, and the size of the parts as scale.
"""

from __future__ import annotations

from typing import Any

import nir
import numpy as np

from hsnn_compiler.frontends.lava_dl.fields import Fields
from hsnn_compiler.ir.quant import WeightQuant
from hsnn_compiler.ir.shapes import Shape

DENSE_LOW, DENSE_HIGH, SINGLE = -256, 254, 255


def dense(layer: Fields, key: str, outputs: int, message_bits: int, scale: float) -> dict[str, Any]:
    """Op and quant of a matrix [out, in]; Lava's Dense may not keep all of its bits, which is reported."""
    weight = layer.integers(key)
    if weight.ndim < 2 or len(weight) != outputs:
        if not weight.size or weight.size % outputs:
            raise layer.wrong(f"{key} of shape {list(weight.shape)} for {outputs} neurons", supported="[out, in]")
        weight = weight.reshape(outputs, -1)
    weight = weight.reshape(outputs, -1)
    mixed = bool(weight.min(initial=0) < 0 < weight.max(initial=0))
    low, high = (DENSE_LOW, DENSE_HIGH) if mixed else (-SINGLE, SINGLE)
    beyond = int(np.count_nonzero((weight < low) | (weight > high)))
    if beyond:
        layer.assume(f"{beyond} values of {key} are outside {low}..{high}: Lava and Loihi clip them")
    if mixed and (odd := int(np.count_nonzero(weight % 2))):
        layer.assume(
            f"{odd} values of {key} are odd: weights of both signs have 7 bits and a sign, and Loihi rounds them "
            "down to even ones",
            suggestion="train with lava-dl's quantisation, which gives even weights (netx shifts small ones instead)",
        )
    return _annotated(nir.Linear, weight, message_bits, scale)


def conv(layer: Fields, shape: Shape, message_bits: int, scale: float) -> dict[str, Any]:
    """Op and quant of a convolution on `shape`."""
    weight = _kernel(layer)
    groups = layer.integer("groups", 1)
    if groups < 1 or weight.shape[1] * groups != shape[0] or len(weight) % groups:
        raise layer.wrong(
            f"a kernel of {list(weight.shape)} in {groups} groups on {shape[0]} channels",
            supported="[out, in / groups, height, width]",
        )
    stride, padding, dilation = layer.pair("stride", 1), layer.pair("padding", 0), layer.pair("dilation", 1)
    return _convolution(weight, shape, stride, padding, dilation, groups, message_bits, scale)


def pool(layer: Fields, shape: Shape, message_bits: int, scale: float) -> dict[str, Any]:
    """Op and quant of a pooling layer on `shape`."""
    weight = _channel_kernel(layer)
    stride = _plain_stride(layer, weight)
    if any(n % k for n, k in zip(shape[1:], weight.shape[2:], strict=True)):
        raise layer.wrong(
            f"pooling {list(weight.shape[2:])} over an image of {list(shape[1:])}",
            supported="images that the window divides (what SLAYER pads otherwise depends on the channel)",
        )
    kernel = np.repeat(weight, shape[0], axis=0)
    return _convolution(kernel, shape, stride, (0, 0), (1, 1), shape[0], message_bits, scale)


def transposed(layer: Fields, shape: Shape, message_bits: int, scale: float) -> tuple[tuple[int, int], dict[str, Any]]:
    """Steps by which the image is spread, and op and quant of the convolution of what comes out."""
    if layer.text("type") == "unpool":
        weight, groups = np.repeat(_channel_kernel(layer), shape[0], axis=0), shape[0]
        stride, padding, dilation = _plain_stride(layer, weight), (0, 0), (1, 1)
    else:
        weight, groups = _kernel(layer), layer.integer("groups", 1)
        stride, padding, dilation = layer.pair("stride", 1), layer.pair("padding", 0), layer.pair("dilation", 1)
    if len(weight) != shape[0] or groups < 1 or shape[0] % groups:
        raise layer.wrong(
            f"a kernel of {list(weight.shape)} in {groups} groups on {shape[0]} channels",
            supported="[in, out / groups, height, width]",
        )
    reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    if any(p > r for p, r in zip(padding, reach, strict=True)):
        raise layer.wrong(f"padding {list(padding)} that cuts the image", supported=f"at most {reach}")
    # [in, out / groups] to [out, in / groups], group by group, and the kernel turned round.
    per_group = weight.reshape(groups, shape[0] // groups, *weight.shape[1:])
    kernel = per_group.swapaxes(1, 2).reshape(-1, shape[0] // groups, *weight.shape[2:])[:, :, ::-1, ::-1]
    spread = (shape[0], *((n - 1) * s + 1 for n, s in zip(shape[1:], stride, strict=True)))
    around = (reach[0] - padding[0], reach[1] - padding[1])
    return stride, _convolution(kernel, spread, (1, 1), around, dilation, groups, message_bits, scale)


def average(inputs: int, outputs: int, message_bits: int) -> dict[str, Any]:
    """Op and quant of the mean over `outputs` equal parts of `inputs` values; the integers are sums."""
    weight = np.repeat(np.eye(outputs, dtype=np.int64), inputs // outputs, axis=1)
    return _annotated(nir.Linear, weight, message_bits, inputs / outputs)


def _kernel(layer: Fields) -> np.ndarray:
    weight = layer.integers("weight")
    if weight.ndim == 5 and weight.shape[4] == 1:
        weight = weight[..., 0]  # SLAYER's kernels have a time axis
    if weight.ndim != 4 or not weight.size:
        raise layer.wrong(f"a kernel of shape {list(weight.shape)}", supported="[out, in / groups, height, width]")
    return weight


def _channel_kernel(layer: Fields) -> np.ndarray:
    weight = _kernel(layer)
    if weight.shape[:2] != (1, 1):
        raise layer.wrong(f"a pooling kernel of shape {list(weight.shape)}", supported="[1, 1, height, width]")
    return weight


def _plain_stride(layer: Fields, weight: np.ndarray) -> tuple[int, int]:
    size = (weight.shape[2], weight.shape[3])
    stride = layer.pair("stride", 1) if "stride" in layer else size
    padding, dilation = layer.pair("padding", 0), layer.pair("dilation", 1)
    if stride != size or padding != (0, 0) or dilation != (1, 1):
        raise layer.wrong(
            f"a window of {list(size)} with stride {list(stride)}, padding {list(padding)}, dilation {list(dilation)}",
            supported="windows side by side (there SLAYER mixes channels)",
        )
    return stride


def _convolution(
    weight: np.ndarray,
    shape: Shape,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    message_bits: int,
    scale: float,
) -> dict[str, Any]:
    def op(real: np.ndarray) -> Any:
        return nir.Conv2d(shape[1:], real, stride, padding, dilation, groups, np.zeros(len(real)))

    return _annotated(op, np.ascontiguousarray(weight), message_bits, scale)


def _annotated(op: Any, weight: np.ndarray, message_bits: int, scale: float) -> dict[str, Any]:
    mixed_or_inhibitory = "mixed" if weight.max(initial=0) > 0 else "inhibitory"
    mode = mixed_or_inhibitory if weight.min(initial=0) < 0 else "excitatory"
    quant = WeightQuant(weight.astype(np.int32), 0, 8, mode, scale, message_bits=message_bits)
    return {"op": op(weight / scale), "quant": quant}
