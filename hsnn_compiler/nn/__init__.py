"""Plain torch modules to train spiking and hybrid networks with."""

from hsnn_compiler.nn.blocks import HASBlock, Parts, has_conv, has_linear, has_residual
from hsnn_compiler.nn.builders import has_resnet, has_small, has_vgg
from hsnn_compiler.nn.decoders import BitPlaneSum, FirstSpikeTime, Last, Membrane, PhaseSum, Rate, Sum
from hsnn_compiler.nn.encoders import TTFS, BitPlane, Delta, Direct, Phase, RateCode
from hsnn_compiler.nn.loop import TimeLoop, reset_states
from hsnn_compiler.nn.neurons import IF, LIF
from hsnn_compiler.nn.qcfs import QCFS
from hsnn_compiler.nn.residual import Residual, SEWAdd
from hsnn_compiler.nn.scale import calibrate, calibration
from hsnn_compiler.nn.surrogate import SURROGATES, ATan, FastSigmoid, Sigmoid, Triangle

__all__ = [
    "IF",
    "LIF",
    "QCFS",
    "SURROGATES",
    "TTFS",
    "ATan",
    "BitPlane",
    "BitPlaneSum",
    "Delta",
    "Direct",
    "FastSigmoid",
    "FirstSpikeTime",
    "HASBlock",
    "Last",
    "Membrane",
    "Parts",
    "Phase",
    "PhaseSum",
    "Rate",
    "RateCode",
    "Residual",
    "SEWAdd",
    "Sigmoid",
    "Sum",
    "TimeLoop",
    "Triangle",
    "calibrate",
    "calibration",
    "has_conv",
    "has_linear",
    "has_residual",
    "has_resnet",
    "has_small",
    "has_vgg",
    "reset_states",
]
