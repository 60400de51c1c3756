# SPDX-License-Identifier: BSD-3-Clause
"""Makes one network of two that do not touch each other."""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class Tie(AbstractProcess):
    """Receives the spikes of two populations and does nothing with them.

    Lava runs what is connected to one process, and nothing else: tied together, two parts of a
    network run in one.

    Args:
        first, second: processes with an ``s_out`` port; connected to by this constructor.
    """

    def __init__(self, first: AbstractProcess, second: AbstractProcess) -> None:
        super().__init__(name=f"tie of {first.name} and {second.name}")
        self.first = InPort(shape=first.s_out.shape)
        self.second = InPort(shape=second.s_out.shape)
        self._post_init()  # connecting needs ports that know their process; Lava calls it once more
        first.s_out.connect(self.first)
        second.s_out.connect(self.second)


@implements(proc=Tie, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "bit_accurate_loihi", "floating_pt")
class PyTieModel(PyLoihiProcessModel):
    """Receives."""

    first: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    second: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def run_spk(self) -> None:
        """One step."""
        self.first.recv()
        self.second.recv()
