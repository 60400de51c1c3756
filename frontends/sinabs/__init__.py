"""sinabs 3.1: what its neurons do in a step, and its layers."""

from hsnn_compiler.frontends.sinabs import layers, neurons, running

__all__ = ["layers", "neurons", "running"]
