"""Other layers of sinabs, and those that are refused, each with the reason."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import sinabs.layers as sl
import torch
from sinabs.layers.alif import ALIFSqueeze
from torch import nn

from hsnn_compiler.frontends.torch import lowering
from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.registry import Unsupported, family, module
from hsnn_compiler.ir.shapes import pair

Tensor = torch.Tensor


@module(sl.SumPool2d)
def _sum_pool(call: Call, mod: Any, x: Tensor) -> str:
    """The sum of each window: a pooling by the norm with exponent 1."""
    stride = mod.kernel_size if mod.stride is None else mod.stride
    lowering.need_rank(call, x, 3)
    lowering.no_ceil(call, x, mod.kernel_size, stride, 0, mod.ceil_mode)
    sizes = (np.array(pair(size), np.int64) for size in (mod.kernel_size, stride, 0))
    return call.emit(nir.SumPool2d(*sizes), x)


WHY: dict[type[nn.Module], str] = {
    sl.ALIF: "its threshold adapts to its spikes",
    sl.ALIFRecurrent: "its threshold adapts to its spikes",
    ALIFSqueeze: "its threshold adapts to its spikes",
    sl.NeuromorphicReLU: "it rounds to whole numbers; from_model makes a spiking layer of it",
    sl.QuantizeLayer: "it rounds down to whole numbers",
    sl.SpikingMaxPooling2dLayer: "it counts the spikes of all steps so far, over the batch axis",
    sl.Img2SpikeLayer: "it draws random numbers",
    sl.Sig2SpikeLayer: "it draws random numbers",
}


@module(*WHY)
def _refuse(call: Call, mod: nn.Module, *args: Any, **kwargs: Any) -> str:
    name = type(mod).__name__
    raise Unsupported(
        f"{name} is not supported: {WHY[type(mod)]}",
        "IAF, LIF, ExpLeak, squeezed and recurrent ones, SumPool2d",
        "LIF instead of ALIF; encode inputs before the model",
        "E0401",
    )


@family(sl.StatefulLayer)
def _refuse_subclass(call: Call, mod: nn.Module, *args: Any, **kwargs: Any) -> str:
    raise Unsupported(
        f"{type(mod).__name__}, a neuron of yours, is not supported: its step is not known",
        "IAF, LIF, ExpLeak, squeezed and recurrent ones",
        "use one of these neurons, or register yours, see docs/frontends.md",
        "E0401",
    )
