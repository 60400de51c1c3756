# SPDX-License-Identifier: BSD-3-Clause
"""Puts what it receives into a larger array of zeros."""

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


class Place(AbstractProcess):
    """Sends in the same step what it received, at its place among zeros::

        s_out[start[0] :: step[0], start[1] :: step[1], ...] = s_in

    Several of them on one port concatenate; steps above 1 spread an image for a transposed
    convolution. On the chip this is a matter of which axon goes where, not a process.

    Args:
        shape: shape of ``s_in``.
        out_shape: shape of ``s_out``.
        start: index of the first element, per axis.
        step: distance of the elements, per axis; 1 by default.
        name: name of the process, used in messages.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        start: tuple[int, ...],
        step: tuple[int, ...] | None = None,
        name: str | None = None,
    ) -> None:
        steps = step or (1,) * len(shape)
        where = tuple(slice(a, a + (n - 1) * d + 1, d) for a, n, d in zip(start, shape, steps, strict=True))
        if np.empty(out_shape)[where].shape != tuple(shape):
            raise ValueError(f"{shape} from {start} in steps of {steps} does not fit into {out_shape}")
        super().__init__(out_shape=out_shape, where=where, name=name)
        self.s_in = InPort(shape=shape)
        self.s_out = OutPort(shape=out_shape)


class _AbstractPlaceModel(PyLoihiProcessModel):
    s_in: PyInPort
    s_out: PyOutPort
    dtype: type

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.out = np.zeros(proc_params["out_shape"], self.dtype)

    def run_spk(self) -> None:
        """One step."""
        self.out[self.proc_params["where"]] = self.s_in.recv()
        self.s_out.send(self.out)


@implements(proc=Place, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "bit_accurate_loihi")
class PyPlaceModelFixed(_AbstractPlaceModel):
    """Integers."""

    dtype = np.int32
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)


@implements(proc=Place, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyPlaceModelFloat(_AbstractPlaceModel):
    """Real numbers."""

    dtype = np.float64
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
