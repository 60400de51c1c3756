"""Neurons of SpikingJelly whose step is not that of a leaky integrator: refused, each with the reason."""

from __future__ import annotations

from typing import Any

from spikingjelly.activation_based import encoding, layer, neuron
from torch import nn

from hsnn_compiler.frontends.spikingjelly import neurons  # noqa: F401 - those that are not refused
from hsnn_compiler.frontends.torch.call import Call
from hsnn_compiler.frontends.torch.registry import MODULES, Unsupported, family, module

WHY = {
    "QIFNode": "its potential changes with its own square",
    "EIFNode": "its potential changes with its own exponential",
    "IzhikevichNode": "its potential changes with its own square and with a recovery variable",
    "GatedLIFNode": "learned gates mix its decays and resets, with values per time step",
    "ComplementaryLIFNode": "a second state that depends on its spikes changes its reset",
    "LIAFNode": "it puts out an activation of its potential instead of spikes",
    "TernaryIFNode": "it puts out -1 as well as 0 and 1",
    "TernaryLIFNode": "it puts out -1 as well as 0 and 1",
    "ILIFNode": "it rounds its potential to the nearest number of spikes",
    "STBIFNode": "it puts out -1 as well as 0 and 1, and counts its spikes",
    "RAFNode": "it resonates: two states drive each other",
    "PSN": "every step depends on all steps, also on later ones",
    "MaskedPSN": "every step depends on several inputs before it, and there is no potential",
    "SlidingPSN": "every step depends on several inputs before it, and there is no potential",
    "DSRIFNode": "it stands for the mean of a whole series",
    "DSRLIFNode": "it stands for the mean of a whole series",
    "FewSpikeNode": "its thresholds, resets and weights differ from step to step",
    "OutlierAwareThresholdNode": "its thresholds, resets and weights differ from step to step",
    "HGNode": "its thresholds, resets and weights differ from step to step",
    "MPBNLIFNode": "its potential is normalised over the batch",
    "FlexSN": "its step is a function of yours",
}
"""What is in the way, by class; other neurons have no reason of their own."""
_PLAIN = "IFNode, LIFNode, ParametricLIFNode, KLIFNode, CUBALIFNode, NonSpikingIFNode, NonSpikingLIFNode"
_BASES = ("BaseNode", "SimpleBaseNode", "NonSpikingBaseNode")


def _refuse(call: Call, mod: nn.Module, *args: Any, **kwargs: Any) -> str:
    name = type(mod).__name__
    reason = WHY.get(name, "its step is not one of a leaky integrator with a threshold")
    raise Unsupported(
        f"{name} is not supported: {reason}", _PLAIN, "train with LIFNode or ParametricLIFNode instead", "E0401"
    )


@family(neuron.BaseNode, neuron.SimpleBaseNode, neuron.NonSpikingBaseNode)
def _refuse_subclass(call: Call, mod: nn.Module, *args: Any, **kwargs: Any) -> str:
    raise Unsupported(
        f"{type(mod).__name__}, a neuron of yours, is not supported: its step is not known",
        _PLAIN,
        "use one of these neurons, or register yours, see docs/frontends.md",
        "E0401",
    )


def _refuse_encoder(call: Call, mod: nn.Module, *args: Any, **kwargs: Any) -> str:
    reason = (
        "it draws random numbers" if isinstance(mod, encoding.PoissonEncoder) else "it encodes by the step's number"
    )
    raise Unsupported(
        f"{type(mod).__name__} is not supported: {reason}",
        "values presented at every step, and series made before the model",
        "encode before the model (axes='TB'), or let the first layer see the values themselves",
        "E0401",
    )


def _refuse_memory(call: Call, mod: nn.Module, *args: Any, **kwargs: Any) -> str:
    raise Unsupported(
        f"layer.{type(mod).__name__} is not supported: it keeps more of earlier steps than neurons do",
        "neurons, ElementWiseRecurrentContainer and LinearRecurrentContainer",
        "a neuron, or an integrator, in its place",
        "E0401",
    )


def _refuse_factors(call: Call, mod: nn.Module, *args: Any, **kwargs: Any) -> str:
    raise Unsupported(
        f"{type(mod).__name__} is not supported: it has a factor for every time step",
        "BatchNorm and ThresholdDependentBatchNorm, the same at every step",
        "train with BatchNorm2d or ThresholdDependentBatchNorm2d",
        "E0401",
    )


for _name in neuron.__dict__:
    _cls = getattr(neuron, _name)
    if isinstance(_cls, type) and issubclass(_cls, nn.Module) and _cls not in MODULES and _name not in _BASES:
        module(_cls)(_refuse)
for _cls in vars(encoding).values():
    if isinstance(_cls, type) and issubclass(_cls, nn.Module) and _cls.__module__ == encoding.__name__:
        module(_cls)(_refuse_encoder)
module(layer.SynapseFilter, layer.Delay)(_refuse_memory)
module(layer.TemporalEffectiveBatchNorm1d, layer.TemporalEffectiveBatchNorm2d)(_refuse_factors)
