"""From the graph's annotations to what the integer arithmetic takes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Node
from hsnn_compiler.ir.ops import bias_of
from hsnn_compiler.ir.quant import CollectQuant, FirstSpikeQuant, NeuronQuant, SigmaDeltaQuant, WeightQuant
from hsnn_compiler.reference.loihi_collect import FirstSpikes
from hsnn_compiler.reference.loihi_neuron import Lif, NeuronParameters, Population
from hsnn_compiler.reference.loihi_sigma_delta import SigmaDeltaParameters, SigmaDeltaPopulation

SIGMA_DELTA_OPS = ("SigmaDelta", "DeltaEncoder")
_QUANTS: dict[str, type] = {
    "SigmaDelta": SigmaDeltaQuant,
    "DeltaEncoder": SigmaDeltaQuant,
    "Collect": CollectQuant,
    "FirstSpike": FirstSpikeQuant,
}
STRUCTURAL_OPS = ("Input", "Output", "Flatten", "Concat", "Delay", "NoOp", "Spread")
"""Ops on the chip that compute nothing: they say what goes where, and when."""


def is_population(node: Node) -> bool:
    """Whether a node has a state in integers: neurons of every kind, and delta encoders, but for those on the host."""
    return node.is_population and (node.on_chip or node.placement is None)


def unquantised(node: Node) -> Finding | None:
    """What is missing before a node of the chip means something in integers (E0105)."""
    fits = (
        isinstance(node.quant, NeuronQuant)
        if node.is_neuron
        else isinstance(node.quant, _QUANTS[node.kind])
        if node.kind in _QUANTS
        else isinstance(node.quant, WeightQuant)
        if node.is_synapse
        else node.kind in (*STRUCTURAL_OPS, "Encode")
    )
    return None if fits else Finding("E0105", f"{node.kind} on the chip is not quantised", node=node.name)


def biased(node: Node) -> Finding | None:
    """A bias on a synapse op of a raw graph (E0105). Quantisation moves those of a program into the populations."""
    bias = bias_of(node.op) if node.is_synapse else None
    if bias is None or not np.any(bias):
        return None
    return Finding(
        "E0105",
        "a bias on a synapse op has no integers",
        node=node.name,
        supported="biases of populations",
        suggestion="put it into the population behind it (v_leak and bias_mant)",
    )


def population(node: Node, bias: Tensor, batch: int, timesteps: int) -> Population:
    """A batch of a population in its start state.

    Args:
        node: quantised.
        bias: bias mantissas, int64, broadcastable against [batch, ...].
        batch: samples.
        timesteps: steps of a sample, where the graph has such.
    """
    shape = (batch, *node.shape)
    quant = node.quant
    if isinstance(quant, SigmaDeltaQuant):
        shift = quant.spike_exp + quant.state_exp
        activation = "input" if node.kind == "DeltaEncoder" else node.op.activation
        return SigmaDeltaPopulation(
            SigmaDeltaParameters(
                quant.vth << shift, bias << shift, shift, quant.state_exp, activation, node.op.cumulative
            ),
            shape,
        )
    if isinstance(quant, FirstSpikeQuant):
        return FirstSpikes(quant.ramp, bias << quant.bias_exp, timesteps, shape)
    assert isinstance(quant, NeuronQuant)
    assert node.dynamics is not None
    reset, most = (node.dynamics.reset, node.dynamics.max_spikes) if node.is_spiking else ("zero", 1)
    return Lif(
        NeuronParameters(
            _number(quant.du), _number(quant.dv), quant.vth, bias << quant.bias_exp, _number(quant.v_init), reset,
            node.is_spiking, None if quant.taken is None else _number(quant.taken), most,
        ),
        shape,
    )  # fmt: skip


def _number(parameter: int | np.ndarray) -> Tensor | int:
    return torch.from_numpy(parameter).to(torch.int64) if isinstance(parameter, np.ndarray) else parameter


def constant_bias(node: Node) -> Tensor:
    """Bias mantissas of a population that are in the graph, int64 [1, ...]."""
    quant = node.quant
    assert isinstance(quant, (NeuronQuant, FirstSpikeQuant, SigmaDeltaQuant))
    mantissas = quant.bias if isinstance(quant, SigmaDeltaQuant) else quant.bias_mant
    return torch.from_numpy(mantissas).to(torch.int64).broadcast_to(node.shape)[None]
