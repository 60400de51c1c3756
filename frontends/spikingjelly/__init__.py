"""SpikingJelly 2.0: what its neurons do in a step, and its layers, which take one step or a series."""

from hsnn_compiler.frontends.spikingjelly import layers, neurons, refused

__all__ = ["layers", "neurons", "refused"]
