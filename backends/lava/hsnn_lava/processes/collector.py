# SPDX-License-Identifier: BSD-3-Clause
"""Collects synaptic input for a window of steps and presents the sum in the next one."""

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

_CODES = ("bitplane", "rate", "ttfs", "phase")
_LIMIT = 2**23 - 1
_STATE_SHIFT = 6


class Collector(AbstractProcess):
    """Decodes spikes whose time counts: what arrives in one window becomes a constant current in the next.

    With t = 0 ... steps - 1 the step of the window, in every step (tag ``fixed_pt``; there is no other)::

        before the first:  s_out = (acc + 32) >> 6;  acc = bias      s_out then stays as it is
        acc = clip(acc + round(a_in * value / 2**shift), +-(2^23 - 1))

    where value is 1 (``rate``), steps - t (``ttfs``), 2**(steps - 1 - t) (``bitplane``) or
    2**(phases - 1 - t % phases) (``phase``), and halves are rounded up; a shift below 0 is one to the left. So ``acc``
    has the units of a membrane potential, ``s_out`` those of synaptic input: it is connected to ``a_in`` of a
    population. On the chip this is not a process of its own but part of that population, custom neuron microcode: two
    more state variables, and a shift or a second sum in place of the multiplication.

    Args:
        shape: shape of ``a_in`` and ``s_out``.
        code: see above.
        shift: see above.
        bias: start value of ``acc``, one or one per neuron.
        interval: steps from one window to the next.
        steps: of a window, the last of the interval; by default all of it.
        phases: steps of a period of phase coding; steps are a multiple of it.
        offset: an interval begins where ``time_step % interval == offset % interval``, ``time_step`` counting from 1.
        name: name of the process, used in messages.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        code: str,
        shift: int,
        bias: int | np.ndarray = 0,
        interval: int,
        steps: int | None = None,
        offset: int = 0,
        phases: int = 8,
        name: str | None = None,
    ) -> None:
        if code not in _CODES or interval < 1:
            raise ValueError(f"need a code of {_CODES} and an interval of at least 1; got {code!r}, {interval}")
        steps = interval if steps is None else steps
        if code == "phase" and (phases < 1 or steps % phases):
            raise ValueError(f"a window of {steps} steps is no multiple of {phases} phases")
        super().__init__(
            shape=shape,
            code=code,
            shift=shift,
            bias=bias,
            interval=interval,
            steps=steps,
            offset=offset,
            phases=phases,
            name=name,
        )
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.acc = Var(shape=shape, init=bias)


@implements(proc=Collector, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "bit_accurate_loihi")
class PyCollectorModelFixed(PyLoihiProcessModel):
    """Integers."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    acc: np.ndarray = LavaPyType(np.ndarray, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.presented = np.zeros(proc_params["shape"], np.int32)

    def run_spk(self) -> None:
        """One step."""
        interval = self.proc_params["interval"]
        since = (self.time_step - self.proc_params["offset"]) % interval
        if since == 0:
            self.presented = (self.acc + (1 << (_STATE_SHIFT - 1))) >> _STATE_SHIFT
            self.acc[:] = self.proc_params["bias"]
        self.s_out.send(self.presented)
        arrived = self.a_in.recv().astype(np.int64) * self._value(since - interval + self.proc_params["steps"])
        shift = self.proc_params["shift"]
        arrived = arrived << -shift if shift <= 0 else (arrived + (1 << (shift - 1))) >> shift
        self.acc[:] = np.clip(self.acc + arrived, -_LIMIT, _LIMIT)

    def _value(self, t: int) -> int:
        """What a spike is worth at step t of a window; before it, nothing."""
        code, steps, phases = (self.proc_params[name] for name in ("code", "steps", "phases"))
        if t < 0:
            return 0
        if code in ("bitplane", "phase"):
            bits: int = steps if code == "bitplane" else phases
            return 1 << (bits - 1 - t % bits)
        return steps - t if code == "ttfs" else 1
