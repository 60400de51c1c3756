# SPDX-License-Identifier: BSD-3-Clause
"""Leaky integrate-and-fire neurons beyond Lava's: with reset by subtraction, and with decays of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.process import LogConfig
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.lif.models import AbstractPyLifModelFixed, AbstractPyLifModelFloat
from lava.proc.lif.process import LIF


class SoftResetLIF(LIF):
    """LIF population with reset by subtraction, graded spikes, and periodic return to a start state.

    In every step, with ``u`` and ``v`` of the step before (tag ``fixed_pt``)::

        at reset steps:  u = 0;  v = v_init
        u = sgn(u) * (|u| * (4096 - (du + 1)) >> 12) + (a_in << 6)
        u wraps once into (-2^23, 2^23]
        v = clip(sgn(v) * (|v| * (4096 - dv) >> 12) + u + (bias_mant << bias_exp), +-(2^23 - 1))
        s_out = v > (vth << 6)
        v = v - taken   where s_out

    and with tag ``floating_pt``::

        at reset steps:  u = 0;  v = v_init
        u = u * (1 - du) + a_in
        v = v * (1 - dv) + u + bias_mant
        s_out = v > vth
        v = v - taken   where s_out

    `taken` is the threshold unless given. Everything but the reset is Lava's own ``LIF``, bit for bit, except that
    neurons may have decays of their own, for which Lava's process has no place. On the chip this needs custom
    neuron microcode: Loihi 2's stock LIF resets to zero.

    With `max_spikes` N above 1, ``s_out`` is a graded spike that says how often the neuron fires in the step: the
    largest n up to N for which ``v > n * threshold``, 0 if there is none::

        s_out = clip((v - 1) // (vth << 6), 0, N)       fixed_pt
        s_out = clip(ceil(v / vth) - 1, 0, N)           floating_pt
        v = v - s_out * threshold

    Args:
        shape: shape of the population, equal to that of ``a_in`` and ``s_out``.
        du: current decay, one for the population or one per neuron (fixed: -1..4095, of 4096).
        dv: voltage decay, one or one per neuron (fixed: 0..4096, of 4096).
        vth: threshold, one value (fixed: 0..131071, compared after ``<< 6``).
        bias_mant: bias per neuron (fixed: -4096..4095).
        bias_exp: exponent of the bias per neuron (fixed: 0..7; ignored in floating point).
        v_init: start value of ``v``, one for the population or one per neuron, in the units of ``v``
            (fixed: already shifted, so ``(vth << 6) // 2`` is half the threshold).
        taken: what a spike takes from ``v``, one or one per neuron, in the units of ``v`` (fixed: already shifted);
            None: the threshold.
        max_spikes: most spikes of one step, 1 to 255; above 1, `taken` must be None and `vth` positive.
        reset_interval: steps between two returns to the start state; None for never.
        reset_offset: return where ``time_step % reset_interval == reset_offset %
            reset_interval``, ``time_step`` counting from 1, before ``a_in`` is used.
        name: name of the process, used in messages.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        du: float | np.ndarray = 0,
        dv: float | np.ndarray = 0,
        vth: float = 10,
        bias_mant: float | np.ndarray = 0,
        bias_exp: int | np.ndarray = 0,
        v_init: float | np.ndarray = 0,
        taken: float | np.ndarray | None = None,
        max_spikes: int = 1,
        reset_interval: int | None = None,
        reset_offset: int = 0,
        name: str | None = None,
        log_config: LogConfig | None = None,
    ) -> None:
        super().__init__(
            shape=shape,
            u=0,
            v=v_init,
            du=du,
            dv=dv,
            vth=vth,
            bias_mant=bias_mant,
            bias_exp=bias_exp,
            name=name,
            log_config=log_config,
        )
        if reset_interval is not None and reset_interval < 1:
            raise ValueError(f"reset_interval must be at least 1 step, not {reset_interval}")
        if not 1 <= max_spikes <= 255:
            raise ValueError(f"max_spikes must be 1 to 255, not {max_spikes}")
        if max_spikes > 1 and (taken is not None or vth <= 0):
            raise ValueError(f"several spikes per step take one threshold each, above 0: not {taken}, vth {vth}")
        self.du, self.dv = (Var(shape=np.shape(decay) or (1,), init=decay) for decay in (du, dv))
        self.proc_params["v_init"] = v_init
        self.proc_params["taken"] = taken
        self.proc_params["max_spikes"] = max_spikes
        self.proc_params["reset_interval"] = reset_interval
        self.proc_params["reset_offset"] = reset_offset


class OwnDecaysLIF(SoftResetLIF):
    """LIF population in which each neuron has decays of its own; a spike sets ``v`` to zero.

    In every step as `SoftResetLIF` with tag ``fixed_pt`` (there is no other), but for the last line, which is
    ``v = 0   where s_out``: Lava's own ``LIF`` and ``LIFReset``, bit for bit, whose processes take one decay for all.
    The chip has decays per neuron: only the parameters are custom. Takes neither `taken` nor `max_spikes`.
    """


class _PeriodicReset:
    """Returns ``u`` and ``v`` to the start state at the reset steps."""

    proc_params: Any
    time_step: int
    u: np.ndarray
    v: np.ndarray

    def return_to_start(self) -> None:
        """Set u = 0 and v = v_init if this is a reset step; to be called before ``a_in`` is used."""
        interval = self.proc_params["reset_interval"]
        if interval is not None and (self.time_step - self.proc_params["reset_offset"]) % interval == 0:
            self.u[:] = 0
            self.v[:] = self.proc_params["v_init"]


@implements(proc=SoftResetLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PySoftResetLIFModelFloat(_PeriodicReset, AbstractPyLifModelFloat):
    """Floating-point model."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    vth: float = LavaPyType(float, float)
    du: np.ndarray = LavaPyType(np.ndarray, float)
    dv: np.ndarray = LavaPyType(np.ndarray, float)

    def spiking_activation(self) -> np.ndarray:
        """Spike where the voltage exceeds the threshold, or as often as it does."""
        most = self.proc_params["max_spikes"]
        return self.v > self.vth if most == 1 else np.clip(np.ceil(self.v / self.vth) - 1, 0, most)

    def reset_voltage(self, spike_vector: np.ndarray) -> None:
        """Subtract `taken` for every spike."""
        taken = self.proc_params["taken"]
        self.v -= spike_vector * (self.vth if taken is None else taken)

    def run_spk(self) -> None:
        """One step."""
        self.return_to_start()
        super().run_spk()


# Not derived from PyLifModelBitAcc: Lava allows no subclass of a model that implements a Process.
class _Fixed(_PeriodicReset, AbstractPyLifModelFixed):
    """Fixed-point models; integration and reset to zero inherited from Lava's bit-accurate LIF."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    vth: int = LavaPyType(int, np.int32, precision=17)
    du: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=12)
    dv: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=12)

    def scale_threshold(self) -> None:
        """Align the threshold with the voltage, as the hardware does."""
        self.effective_vth = np.left_shift(self.vth, self.vth_shift)
        self.isthrscaled = True

    def spiking_activation(self) -> np.ndarray:
        """Spike where the voltage exceeds the threshold."""
        return self.v > self.effective_vth

    def run_spk(self) -> None:
        """One step."""
        self.return_to_start()
        super().run_spk()


@implements(proc=OwnDecaysLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("bit_accurate_loihi", "fixed_pt")
class PyOwnDecaysLIFModelFixed(_Fixed):
    """Reset to zero."""


@implements(proc=SoftResetLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("bit_accurate_loihi", "fixed_pt")
class PySoftResetLIFModelFixed(_Fixed):
    """Reset by subtraction."""

    def spiking_activation(self) -> np.ndarray:
        """Spike where the voltage exceeds the threshold, or as often as it does."""
        most = self.proc_params["max_spikes"]
        return super().spiking_activation() if most == 1 else np.clip((self.v - 1) // self.effective_vth, 0, most)

    def reset_voltage(self, spike_vector: np.ndarray) -> None:
        """Subtract `taken` for every spike."""
        taken = self.proc_params["taken"]
        self.v -= spike_vector * (self.effective_vth if taken is None else taken)
