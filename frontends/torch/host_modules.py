"""Modules of ``torch.nn`` that have no form of their own in the graph: what their forward calls is recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from hsnn_compiler.diagnostics import Finding, Source
from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.ir.graph import Graph

_KNOWN = """
RNN LSTM GRU RNNCell LSTMCell GRUCell MultiheadAttention Transformer TransformerEncoder TransformerEncoderLayer
TransformerDecoder TransformerDecoderLayer Embedding Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d
MaxPool1d MaxPool3d AvgPool3d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d
AdaptiveMaxPool3d LPPool1d LPPool2d GroupNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d LocalResponseNorm RMSNorm
ELU SELU CELU SiLU Mish Hardswish Hardsigmoid PReLU RReLU Softplus Softsign Softmin Softmax2d Softshrink Hardshrink
Tanhshrink LogSigmoid GLU Threshold PixelShuffle PixelUnshuffle ChannelShuffle Upsample UpsamplingNearest2d
UpsamplingBilinear2d ZeroPad1d ZeroPad2d ZeroPad3d ConstantPad1d ConstantPad2d ConstantPad3d ReflectionPad1d
ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d ReplicationPad3d CircularPad1d CircularPad2d
CircularPad3d Fold Unfold Bilinear CosineSimilarity PairwiseDistance Unflatten
"""
"""Modules of ``torch.nn`` that are looked into, because their forward only calls functions known here."""

_OPEN = frozenset(_KNOWN.split())


def opens(mod: nn.Module) -> bool:
    """Whether a module of ``torch.nn`` is looked into instead of taken as a whole."""
    return any(cls.__name__ in _OPEN and cls.__module__.startswith("torch.nn.modules.") for cls in type(mod).__mro__)


def look_inside(call: Call, mod: nn.Module, original: Any, args: Any, kwargs: Any) -> bool:
    """Run a leaf module of torch's again and record what its forward calls; False if there is anything to find."""
    tracer = call.tracer
    if not any(cls.__module__.startswith("torch.nn.modules.") for cls in type(mod).__mro__[:2]):
        return False
    before = len(tracer.findings)
    call.out = original(*args, **kwargs)
    if len(tracer.findings) == before:
        return True
    del tracer.findings[before:]  # the module itself is what the user knows
    tracer.always = {number for number in tracer.always if number < before}
    return False


def host_findings(graph: Graph) -> list[Finding]:
    """What of a graph runs on the host because nothing on a chip does the like: a warning per kind of module."""
    by_module: dict[str, dict[str, Source]] = {}
    for node in graph.of_kind("HostCall"):
        by_module.setdefault(node.source.module, {}).setdefault(node.op.function, node.source)
    alike: dict[tuple[str, ...], list[str]] = {}
    for module, calls in by_module.items():
        alike.setdefault(tuple(calls), []).append(module)
    found = []
    for functions, modules in alike.items():
        others = f", and in {len(modules) - 1} modules like it" if len(modules) > 1 else ""
        what = ", ".join(functions[:4]) + (f" and {len(functions) - 4} more" if len(functions) > 4 else "")
        source = by_module[modules[0]][functions[0]]
        has = "has" if len(functions) == 1 else "have"
        message = f"{what} {has} no spiking form{others}: the host computes it"
        found.append(Finding("W0436", message, node=modules[0] or "(forward)", source=replace(source, module="")))
    return found
