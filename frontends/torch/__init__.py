"""Capture of PyTorch models by running them."""

from hsnn_compiler.frontends.torch.capture import capture
from hsnn_compiler.frontends.torch.registry import Unsupported, function, module

__all__ = ["Unsupported", "capture", "function", "module"]
