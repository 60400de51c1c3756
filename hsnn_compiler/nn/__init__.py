"""Plain torch modules to train spiking and hybrid networks with."""

from hsnn_compiler.nn.coding import Direct, Last, Rate, Sum
from hsnn_compiler.nn.loop import TimeLoop, reset_states
from hsnn_compiler.nn.neurons import IF, LIF
from hsnn_compiler.nn.surrogate import SURROGATES, ATan, FastSigmoid, Triangle

__all__ = [
    "IF",
    "LIF",
    "SURROGATES",
    "ATan",
    "Direct",
    "FastSigmoid",
    "Last",
    "Rate",
    "Sum",
    "TimeLoop",
    "Triangle",
    "reset_states",
]
