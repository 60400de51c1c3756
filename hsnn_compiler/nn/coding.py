"""The former home of encoders and decoders, by which saved models still name them."""

from hsnn_compiler.nn.decoders import Last, Rate, Sum
from hsnn_compiler.nn.encoders import Direct

__all__ = ["Direct", "Last", "Rate", "Sum"]
