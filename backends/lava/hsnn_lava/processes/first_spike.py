# SPDX-License-Identifier: BSD-3-Clause
"""A neuron that fires once, the earlier the larger its input."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

_LIMIT = 2**23 - 1
_WRAP = 2**24
_STATE_SHIFT = 6


class FirstSpike(AbstractProcess):
    """Time-to-first-spike neurons: a ramp meets a threshold that the input has brought nearer.

    In every step (tag ``fixed_pt``; there is no other)::

        in the first step of a window:  u = a_in << 6, wrapped once into (-2^23, 2^23]
                                        v = u + (bias_mant << bias_exp) + (ramp >> 1)
        in the others:                  v = v + ramp
        v = clip(v, +-(2^23 - 1))
        s_out = v >= steps * ramp
        v = -steps * ramp   where s_out, so that it does not fire again in this window

    For z = (a_in << 6) + (bias_mant << bias_exp) of the first step it fires n steps before the end,
    n = clip(floor(z / ramp + 1/2), 0, steps). On the chip this is custom neuron microcode.

    Args:
        shape: shape of ``a_in`` and ``s_out``.
        ramp: what the potential grows by in a step.
        bias_mant: bias per neuron (-4096..4095).
        bias_exp: exponent of the bias (0..7).
        interval: steps from one window to the next.
        steps: of a window; by default all of the interval.
        offset: a window begins where ``time_step % interval == offset % interval``, ``time_step`` counting from 1.
        name: name of the process, used in messages.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        ramp: int,
        bias_mant: int | np.ndarray = 0,
        bias_exp: int = 0,
        interval: int,
        steps: int | None = None,
        offset: int = 0,
        name: str | None = None,
    ) -> None:
        steps = interval if steps is None else steps
        if ramp < 1 or interval < 1:
            raise ValueError(f"need a ramp and an interval of at least 1; got {ramp}, {interval}")
        super().__init__(
            shape=shape, ramp=ramp, bias_exp=bias_exp, interval=interval, steps=steps, offset=offset, name=name
        )
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.v = Var(shape=shape, init=0)
        self.bias_mant = Var(shape=shape, init=bias_mant)


@implements(proc=FirstSpike, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "bit_accurate_loihi")
class PyFirstSpikeModelFixed(PyLoihiProcessModel):
    """Integers."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    v: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    bias_mant: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=13)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.threshold = proc_params["steps"] * proc_params["ramp"]

    def run_spk(self) -> None:
        """One step."""
        p = self.proc_params
        arrived = self.a_in.recv()
        v = self.v.astype(np.int64) + p["ramp"]
        if (self.time_step - p["offset"]) % p["interval"] == 0:
            u = np.left_shift(arrived.astype(np.int32), _STATE_SHIFT).astype(np.int64)
            u = np.where(u > _LIMIT + 1, u - _WRAP, u)
            u = np.where(u <= -_LIMIT - 1, u + _WRAP, u)
            v = u + (self.bias_mant << p["bias_exp"]) + (p["ramp"] >> 1)
        v = np.clip(v, -_LIMIT, _LIMIT)
        fires = v >= self.threshold
        self.v[:] = np.where(fires, -self.threshold, v)
        self.s_out.send(fires.astype(np.int32))
