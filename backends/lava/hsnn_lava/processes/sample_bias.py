# SPDX-License-Identifier: BSD-3-Clause
"""Gives a population the bias of each sample in turn."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class SampleBias(AbstractProcess):
    """Keeps row k of ``data`` in a Var for the ``interval`` steps of sample k.

    With steps t counted from 1, the Var holds::

        its own initial value   for t <= offset
        data[k]                 for k * interval + offset < t <= (k + 1) * interval + offset
        data[-1]                from then on

    (Lava's ``StateDataloader`` is no substitute: it writes at step offset + 1 at the
    earliest, one step late for the first sample, takes the offset modulo the interval and
    starts over after the last row.)

    Args:
        data: array [samples, *shape of the Var].
        interval: steps per sample.
        offset: steps before the first sample, i.e. the latency up to this population.
        name: name of the process, used in messages.
    """

    def __init__(self, *, data: np.ndarray, interval: int, offset: int = 0, name: str | None = None) -> None:
        if len(data) == 0 or interval < 1 or offset < 0:
            raise ValueError(f"need a sample, interval >= 1 and offset >= 0; got {len(data)}, {interval}, {offset}")
        super().__init__(data=data, interval=interval, offset=offset, name=name)
        self.data = data
        self.offset = offset
        self.target = RefPort(data.shape[1:])

    def connect_var(self, var: Var) -> None:
        """Write into ``var``; its shape must be that of one row.

        With offset 0 the first row has to be there before the first step, so it becomes the
        Var's initial value.
        """
        if self.offset == 0:
            var.init = self.data[0]
        self.target.connect_var(var)


class _AbstractSampleBiasModel(PyLoihiProcessModel):
    target: PyRefPort
    dtype: type

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.data: np.ndarray = np.asarray(proc_params["data"], self.dtype)

    def post_guard(self) -> bool:
        """Whether a row is due after this step."""
        return self._row() is not None

    def run_post_mgmt(self) -> None:
        """Write the row, after the neurons updated and before the next step."""
        self.target.write(self.data[self._row()])
        # Without it the write may arrive only during the next step.
        self.target.wait()

    def _row(self) -> int | None:
        row, rest = divmod(self.time_step - self.proc_params["offset"], self.proc_params["interval"])
        return row if rest == 0 and 0 <= row < len(self.data) else None


@implements(proc=SampleBias, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "bit_accurate_loihi")
class PySampleBiasModelFixed(_AbstractSampleBiasModel):
    """Integer biases."""

    dtype = np.int32
    target: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)


@implements(proc=SampleBias, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PySampleBiasModelFloat(_AbstractSampleBiasModel):
    """Real-valued biases."""

    dtype = np.float64
    target: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, float)
