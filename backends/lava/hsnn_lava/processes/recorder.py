# SPDX-License-Identifier: BSD-3-Clause
"""Writes the spikes and the state of a population to files, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.lif.process import LIF

SPIKES = "s"
_STATE_PORTS = ("state_0", "state_1", "state_2", "state_3")


def is_complete(stem: Path) -> bool:
    """Whether the recorder with these files has recorded every step."""
    progress = np.fromfile(f"{stem}.progress", np.int64)
    return len(progress) == 2 and 0 < progress[1] == progress[0]


class Recorder(AbstractProcess):
    """Records a neuron population into one ``.npy`` file per signal.

    Row t - 1 of ``<stem>.<signal>.npy`` (array [steps, *shape]) is the signal after the
    update of step t. Signal ``s`` is what ``s_out`` sent in that step; any other name is a
    Var of the process (``u``, ``v``), read in the post-management phase of the same step.
    (``Var.get`` sends one message per element, about 44 us each; this does not.)

    Types: spikes of LIF neurons uint8, graded spikes int32 (fixed) or float64 (floating);
    Vars int32 (fixed) or float64 (floating).

    ``<stem>.progress`` holds two int64: steps recorded so far, and steps in all. It lies in
    shared memory while the network runs, so anybody may read it at any time.

    Args:
        neuron: process with an ``s_out`` port; connected to by this constructor.
        signals: names of the signals, ``s`` and up to four Vars of the neuron's shape.
        steps: how many steps will run.
        stem: path of the files without their extensions.
    """

    def __init__(self, neuron: AbstractProcess, signals: Sequence[str], *, steps: int, stem: Path) -> None:
        # Conv.output_shape is made of numpy integers, which a .npy header cannot hold.
        shape = tuple(int(size) for size in neuron.s_out.shape)
        variables = [signal for signal in signals if signal != SPIKES]
        if len(variables) > len(_STATE_PORTS):
            raise ValueError(f"at most {len(_STATE_PORTS)} Vars per population, not {variables}")
        super().__init__(
            name=f"recorder of {neuron.name}",
            shape=shape,
            steps=steps,
            stem=str(stem),
            spikes=SPIKES in signals,
            binary=isinstance(neuron, LIF),
            variables=variables,
        )
        self.s_in = InPort(shape=shape)
        # A process model's ports are fixed by its class, so all are there, connected or not.
        for port in _STATE_PORTS:
            setattr(self, port, RefPort(shape=shape))
        # Connecting needs ports that know their process; Lava itself calls this once more.
        self._post_init()
        # The spikes are always received: they keep a recorder of Vars in step, and make it
        # part of the network Lava discovers from any of its processes.
        neuron.s_out.connect(self.s_in)
        for port, variable in zip(_STATE_PORTS, variables, strict=False):
            getattr(self, port).connect_var(getattr(neuron, variable))


class _AbstractRecorderModel(PyLoihiProcessModel):
    s_in: PyInPort
    dtype: type

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.steps: int = proc_params["steps"]
        self.progress = np.memmap(proc_params["stem"] + ".progress", np.int64, mode="w+", shape=(2,))
        self.progress[1] = self.steps
        self.files: dict[str, np.memmap] = {}
        if proc_params["spikes"]:
            self.files[SPIKES] = self._create(SPIKES, np.uint8 if proc_params["binary"] else self.dtype)
        for variable in proc_params["variables"]:
            self.files[variable] = self._create(variable, self.dtype)

    def _create(self, signal: str, dtype: type) -> np.memmap:
        return np.lib.format.open_memmap(
            f"{self.proc_params['stem']}.{signal}.npy",
            mode="w+",
            dtype=dtype,
            shape=(self.steps, *self.proc_params["shape"]),
        )

    def run_spk(self) -> None:
        """Record the spikes."""
        spikes = self.s_in.recv()
        if SPIKES in self.files:
            self.files[SPIKES][self.time_step - 1] = spikes
        if not self.proc_params["variables"]:
            self._finish_step()

    def post_guard(self) -> bool:
        """Whether Vars are to be read after each step."""
        return bool(self.proc_params["variables"])

    def run_post_mgmt(self) -> None:
        """Record the Vars; in this phase every neuron has finished its step."""
        for port, variable in zip(_STATE_PORTS, self.proc_params["variables"], strict=False):
            self.files[variable][self.time_step - 1] = getattr(self, port).read()
        self._finish_step()

    def _finish_step(self) -> None:
        if self.time_step == self.steps:
            for file in self.files.values():
                file.flush()
        self.progress[0] = self.time_step


@implements(proc=Recorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt", "bit_accurate_loihi")
class PyRecorderModelFixed(_AbstractRecorderModel):
    """Records integers."""

    dtype = np.int32
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    state_0: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)
    state_1: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)
    state_2: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)
    state_3: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)


@implements(proc=Recorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyRecorderModelFloat(_AbstractRecorderModel):
    """Records real numbers."""

    dtype = np.float64
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    state_0: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, float)
    state_1: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, float)
    state_2: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, float)
    state_3: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, float)
