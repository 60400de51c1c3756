"""Compiled kernels for one layer of a spiking network, event-driven or dense; they know arrays, not graphs."""

from hsnn_compiler.kernels.chain import Chain, ChainRun, Feed
from hsnn_compiler.kernels.layer import Layer, Run
from hsnn_compiler.kernels.neurons import FloatNeuron, LoihiNeuron
from hsnn_compiler.kernels.synapses import ConvSynapse, DenseSynapse, channel_last_columns

__all__ = [
    "Chain",
    "ChainRun",
    "ConvSynapse",
    "DenseSynapse",
    "Feed",
    "FloatNeuron",
    "Layer",
    "LoihiNeuron",
    "Run",
    "channel_last_columns",
]
