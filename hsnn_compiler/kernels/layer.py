"""One layer, synapses and neurons, over a whole batch and all its steps."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from hsnn_compiler.kernels.costs import Costs, estimate
from hsnn_compiler.kernels.dense import DenseSums
from hsnn_compiler.kernels.execution import NEURON, describe, of_samples, one_layer, run_dense, run_events
from hsnn_compiler.kernels.jobs import Record
from hsnn_compiler.kernels.neurons import FloatNeuron, LoihiNeuron, by_rows
from hsnn_compiler.kernels.packing import Packed, pack_signals
from hsnn_compiler.kernels.plan import Plan, make_plan, no_synapses
from hsnn_compiler.kernels.synapses import DenseSynapse, Synapse
from hsnn_compiler.kernels.tables import Tables, on_lines
from hsnn_compiler.kernels.vectors import WORD, widest

State = tuple[np.ndarray | None, np.ndarray]
"""u and v, [batch, *out shape]; u is None for neurons whose current has no memory."""
METHODS = ("auto", "events", "dense")
PACKED_BYTES = 2**24
"""Inputs are packed for as many samples at a time as this holds."""


@dataclass(eq=False)
class Run:
    """What a layer did.

    Attributes:
        spikes: [batch, time, *out] uint8; None if the neurons do not spike.
        u, v: [batch, time, *out] in the layer's dtype, if recorded; v also if the neurons do not spike.
        state: after the last step.
        saturated: Loihi's neuron-steps in which u wrapped or v saturated.
        activity: part of the inputs that was not 0.
        chosen: ``"events"`` or ``"dense"``.
        why: what decided, if not the activity.
    """

    spikes: np.ndarray | None
    u: np.ndarray | None
    v: np.ndarray | None
    state: State
    saturated: int
    activity: float
    chosen: str
    why: str

    @property
    def method(self) -> str:
        """How it was done, and why."""
        return f"{self.chosen}: {self.why or f'{100 * self.activity:.1f} % active'}"

    @property
    def output(self) -> np.ndarray:
        """Spikes, or v of neurons that do not spike."""
        output = self.v if self.spikes is None else self.spikes
        assert output is not None
        return output


class Layer:
    """Synapses into one population of neurons.

    Args:
        synapses: whose sums add up; without any, the population runs on `extra` alone.
        neuron: `LoihiNeuron` for dtype int32, else `FloatNeuron`.
        bias: added to the sums; broadcasts against the channel-last shape of the population.
        dtype: float32, float64, or int32 for Loihi's integers.
        out_shape: (height, width, channels) or (n,); needed only without synapses.
    """

    def __init__(
        self,
        synapses: Sequence[Synapse],
        neuron: FloatNeuron | LoihiNeuron,
        bias: np.ndarray | float | None = None,
        dtype: type | np.dtype = np.float32,
        out_shape: tuple[int, ...] | None = None,
    ) -> None:
        self.dtype = np.dtype(dtype)
        if isinstance(neuron, LoihiNeuron) != (self.dtype == np.int32):
            raise ValueError(f"{type(neuron).__name__} in {self.dtype}")
        self.synapses, self.neuron = list(synapses), neuron
        shapes = {synapse.out_shape for synapse in self.synapses if not isinstance(synapse, DenseSynapse)}
        shapes = shapes or {synapse.out_shape for synapse in self.synapses} or {out_shape or ()}
        self.out_shape = shapes.pop()
        self.size = math.prod(self.out_shape)
        if shapes or any(math.prod(synapse.out_shape) != self.size for synapse in self.synapses):
            raise ValueError(f"synapses reach {[synapse.out_shape for synapse in self.synapses]} neurons")
        self.plan: Plan | None = None
        self.costs: Costs | None = None
        # A matrix onto a map of several positions has other weights for each: no receptive field moves there.
        if self.synapses and (len({synapse.out_shape for synapse in self.synapses}) == 1):
            self.plan = make_plan(self.synapses, self.out_shape, self.dtype, widest(self.dtype))
            self.costs = estimate(self.synapses, self.plan.tables)
        self._dense = DenseSums(self.synapses, self.dtype)
        self._neurons_only = no_synapses(self.out_shape, self.dtype)
        tables = self.plan.tables if self.plan else self._neurons_only
        rows = by_rows(np.asarray(0 if bias is None else bias, self.dtype), self.out_shape)
        self._bias = on_lines(np.pad(rows, ((0, 0), (0, tables.weights.shape[2]))))
        self._leak = np.empty((1, 1, 0), self.dtype)
        if isinstance(neuron, LoihiNeuron):
            self._start, self._coefficients = neuron.start(self.out_shape), neuron.coefficients(self.out_shape)
            self._leak = neuron.leaks(self.out_shape)
        else:
            self._start = neuron.start(self.out_shape, self.dtype)
            self._coefficients = neuron.coefficients(self.out_shape, self.dtype)
        self.like = self.dtype.type(0)
        self.job = self._describe(tables)
        self._program = one_layer(self.job, self.like)
        self._dense_program = one_layer(self._describe(self._neurons_only), self.like)
        self._in_sizes = [synapse.in_size for synapse in self.synapses]

    @property
    def chains(self) -> bool:
        """Whether it can be part of a `Chain`."""
        return self.plan is not None

    def nanoseconds(self, active: float) -> float:
        """That one sample and step takes with so many active inputs, event-driven."""
        return self.costs.events(active, 1) if self.costs else NEURON * self.size

    def most_active(self, steps: int) -> float:
        """How many inputs may be active in so many steps of samples for events to be the faster way."""
        return self.costs.most_active(steps) if self.costs else math.inf

    def run(
        self,
        inputs: Sequence[np.ndarray],
        extra: np.ndarray | None = None,
        record: Collection[str] = frozenset(),
        resets: np.ndarray | None = None,
        state: State | None = None,
        method: str = "auto",
    ) -> Run:
        """Run a batch over all its steps.

        Args:
            inputs: one per synapse, [batch, time, *in]: uint8 or bool for spikes of 0 and 1, anything else for
                values (Loihi's graded payloads: int32).
            extra: [batch, time, *out] more input, added to the sums.
            record: of ``"u"`` and ``"v"``, after each step.
            resets: bool [time]: the state starts anew (u = 0, v = v_init) before the step.
            state: of an earlier run, to go on from.
            method: ``"events"``, ``"dense"``, or ``"auto"``: what `costs` takes for faster.
        """
        if method not in METHODS:
            raise ValueError(f"method {method!r} is none of {', '.join(METHODS)}")
        batch, time = self._check(inputs, extra)
        signals = [_flat(array, batch, time) for array in inputs]
        arrays = self._outputs(batch, time, record, state)
        if extra is not None:
            arrays["extra"] = np.ascontiguousarray(extra, self.dtype).reshape(batch, time, self.size)
        if resets is not None:
            arrays["resets"] = np.ascontiguousarray(resets, np.bool_)
        if len(self._leak) > 1:
            arrays["leak"] = self._leak
        chosen, why = ("auto", "") if method == "auto" else (method, "as asked")
        if self.costs is None:
            chosen, why = ("dense", "mixed synapses") if signals else ("events", "no synapses")
        active = saturated = 0
        step = self._samples_at_once(signals, batch)
        for first in range(0, batch, step):
            part = slice(first, min(first + step, batch))
            shape = (part.stop - first, time)
            here, some = signals, arrays
            if step < batch:
                here, some = [signal[part] for signal in signals], of_samples(arrays, part)
            packed = self._pack(here, *shape)
            steps = time * shape[0]
            if chosen == "auto":
                assert self.costs is not None
                chosen = "events" if packed.active <= self.costs.most_active(steps) else "dense"
            active += packed.active
            if chosen == "dense":
                saturated += run_dense(self._dense_program, self._dense, here, some, shape)
            else:
                nanoseconds = self.costs.events(packed.active, steps) if self.costs else steps * self.size * NEURON
                drive = {**some, "bits": packed.bits, "payload": packed.payload}
                saturated += run_events(self._program, drive, shape, nanoseconds)
        activity = active / max(sum(signal.size for signal in signals), 1)
        return self._result(arrays, saturated, activity, chosen, why)

    def _describe(self, tables: Tables) -> Record:
        job = describe(tables, self._bias, self._leak, self._start, self._coefficients)
        job["neurons"], job["rows"] = self.size, self.out_shape[0] if len(self.out_shape) == 3 else 1
        job["spiking"], job["has_current"] = self.neuron.spiking, self.neuron.has_current
        job["row_words"] = self.plan.row_words if self.plan else 0
        return job

    def _check(self, inputs: Sequence[np.ndarray], extra: np.ndarray | None) -> tuple[int, int]:
        """Batch size and number of steps, the same for all inputs."""
        if len(inputs) != len(self.synapses):
            raise ValueError(f"{len(inputs)} inputs for {len(self.synapses)} synapses")
        batch, time = (extra if extra is not None else inputs[0]).shape[:2]
        for array, size in zip(inputs, self._in_sizes, strict=True):
            if array.shape[:2] != (batch, time) or array.size != batch * time * size:
                raise ValueError(f"an input of shape {array.shape}, not [{batch}, {time}] and {size} values")
        if extra is not None and extra.size != batch * time * self.size:
            raise ValueError(f"extra input of shape {extra.shape} for {self.size} neurons")
        return batch, time

    def _outputs(self, batch: int, time: int, record: Collection[str], state: State | None) -> dict[str, np.ndarray]:
        """Arrays for the kernel to write, as far as they are wanted."""
        memory, n = self.neuron.has_current, self.size
        if state is None:
            arrays = {"v": np.empty((batch, n), self.dtype)}
            arrays["v"][:] = self._start
            if memory:
                arrays["u"] = np.zeros((batch, n), self.dtype)
        else:
            arrays = {"v": np.array(state[1], self.dtype).reshape(batch, n)}
            if memory:
                arrays["u"] = np.array(state[0], self.dtype).reshape(batch, n)
        if self.neuron.spiking:
            arrays["spikes"] = np.empty((batch, time, n), np.uint8)
        for variable in record:
            arrays[f"{variable}_record"] = np.empty((batch, time, n), self.dtype)
        if not self.neuron.spiking and "v" not in record:
            arrays["v_record"] = np.empty((batch, time, n), self.dtype)
        return arrays

    def _samples_at_once(self, signals: Sequence[np.ndarray], batch: int) -> int:
        if self.plan is None or batch == 1:
            return max(batch, 1)
        size = self.plan.row_words * 8
        if any(signal.dtype != np.uint8 for signal in signals):
            size += self.plan.row_words * WORD * self.dtype.itemsize
        return max(PACKED_BYTES // (size * max(signals[0].shape[1], 1)), 1)

    def _pack(self, signals: Sequence[np.ndarray], samples: int, time: int) -> Packed:
        if self.plan is None:
            active = sum(int(np.count_nonzero(signal)) for signal in signals)
            return Packed(np.empty((samples, time, 0), np.uint64), np.empty((0, 0, 0), self.dtype), active)
        return pack_signals(signals, self.plan.places, self.plan.row_words, self.dtype)

    def _result(self, arrays: dict[str, np.ndarray], saturated: int, activity: float, chosen: str, why: str) -> Run:
        def shaped(name: str) -> np.ndarray | None:
            array = arrays.get(name)
            return None if array is None else array.reshape(*array.shape[:-1], *self.out_shape)

        v = shaped("v")
        assert v is not None
        return Run(
            shaped("spikes"), shaped("u_record"), shaped("v_record"), (shaped("u"), v), saturated, activity, chosen, why
        )


def _flat(array: np.ndarray, batch: int, time: int) -> np.ndarray:
    """[batch, time, n], contiguous; a bool is a byte of 0 or 1."""
    if array.ndim != 3 or not array.flags.c_contiguous:
        array = np.ascontiguousarray(array).reshape(batch, time, -1)
    return array.view(np.uint8) if array.dtype == np.bool_ else array
