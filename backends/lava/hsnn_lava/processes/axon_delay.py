# SPDX-License-Identifier: BSD-3-Clause
"""A delay on the way from a neuron to its synapses."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class AxonDelay(AbstractProcess):
    """Sends what it received ``delay`` steps ago::

        s_out(t) = s_in(t - delay)     and 0 for t <= delay (t counts from 1)

    With one delay per neuron, each waits on its own.

    Works for binary and graded spikes. On the chip this is the axonal delay of the sending
    population, not a process of its own.

    Args:
        shape: shape of ``s_in`` and ``s_out``.
        delay: steps, 0 or more; one number, or an array of the given shape. In a loop that holds nothing
            else that buffers, all of them must be at least 1.
        name: name of the process, used in messages.
    """

    def __init__(self, *, shape: tuple[int, ...], delay: int | np.ndarray, name: str | None = None) -> None:
        if np.min(delay) < 0:
            raise ValueError(f"delay must be 0 or more steps, not {np.min(delay)}")
        super().__init__(shape=shape, delay=delay, name=name)
        self.s_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)


class _AbstractAxonDelayModel(PyLoihiProcessModel):
    s_in: PyInPort
    s_out: PyOutPort
    dtype: type

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.delay = np.broadcast_to(proc_params["delay"], proc_params["shape"])
        # One row per step: the last received ones, for the longest delay.
        self.line = np.zeros((int(self.delay.max()) + 1, *proc_params["shape"]), self.dtype)

    def run_spk(self) -> None:
        """One step."""
        rows = len(self.line)
        now = self.time_step % rows
        if self.delay.min() == 0:
            self.line[now] = self.s_in.recv()
        sent = np.take_along_axis(self.line, ((self.time_step - self.delay) % rows)[None], axis=0)[0]
        # What is sent does not depend on this step's input: in a loop the neuron upstream may be
        # waiting for it before it sends.
        self.s_out.send(sent)
        if self.delay.min() > 0:
            self.line[now] = self.s_in.recv()


@implements(proc=AxonDelay, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "bit_accurate_loihi")
class PyAxonDelayModelFixed(_AbstractAxonDelayModel):
    """Integer spikes."""

    dtype = np.int32
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)


@implements(proc=AxonDelay, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyAxonDelayModelFloat(_AbstractAxonDelayModel):
    """Real-valued spikes."""

    dtype = np.float64
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
