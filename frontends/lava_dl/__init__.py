"""Reads lava-dl's network exchange files (``.net``) into raw graphs.

What the files mean follows lava-dl's own reader and writer: ``src/lava/lib/dl/netx/hdf5.py``,
``netx/blocks/process.py``, ``netx/utils.py`` and ``netx/README.md`` (the description of the format), and
for the layers that netx itself does not build, ``slayer/block/base.py`` and ``slayer/synapse/layer.py``,
whose ``export_hdf5`` writes them and whose ``forward`` says what they compute.
"""

from hsnn_compiler.frontends.lava_dl.inputs import InputTransform, read_input_transform
from hsnn_compiler.frontends.lava_dl.read import read_net

__all__ = ["InputTransform", "read_input_transform", "read_net"]
