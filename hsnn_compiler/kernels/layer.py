"""One layer, synapses and neurons, over a whole batch and all its steps."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from hsnn_compiler.kernels.call import Inputs, Outputs
from hsnn_compiler.kernels.costs import Costs, estimate
from hsnn_compiler.kernels.dense import DenseSums
from hsnn_compiler.kernels.execution import NEURON, run_dense, run_events
from hsnn_compiler.kernels.neurons import FloatNeuron, LoihiNeuron, by_rows
from hsnn_compiler.kernels.packing import Packed, pack_signals
from hsnn_compiler.kernels.plan import Plan, make_plan, no_synapses
from hsnn_compiler.kernels.synapses import DenseSynapse, Synapse
from hsnn_compiler.kernels.tables import on_lines
from hsnn_compiler.kernels.vectors import WORD, widest

State = tuple[np.ndarray | None, np.ndarray]
"""u and v, [batch, *out shape]; u is None for neurons whose current has no memory."""
METHODS = ("auto", "events", "dense")
PACKED_BYTES = 2**24
"""Inputs are packed for as many samples at a time as this holds."""
NEVER = np.empty(0, np.bool_)
"""For a run without resets."""


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
        self._neurons_only = no_synapses(self.out_shape, self.dtype)
        self._plan: Plan | None = None
        self._costs: Costs | None = None
        # A matrix onto a map of several positions has other weights for each: no receptive field moves there.
        if self.synapses and (len({synapse.out_shape for synapse in self.synapses}) == 1):
            self._plan = make_plan(self.synapses, self.out_shape, self.dtype, widest(self.dtype))
            self._costs = estimate(self.synapses, self._plan.tables)
        self._dense = DenseSums(self.synapses, self.dtype)
        self._tables = self._plan.tables if self._plan else self._neurons_only
        rows = by_rows(np.asarray(0 if bias is None else bias, self.dtype), self.out_shape)
        self._bias = on_lines(np.pad(rows, ((0, 0), (0, self._tables.weights.shape[2]))))
        self._nothing, self._no_u = np.empty((0, 0, 0), self.dtype), np.empty((0, 0), self.dtype)
        self._leak = np.empty((1, 1, 0), self.dtype)
        if isinstance(neuron, LoihiNeuron):
            self._start, self._coefficients = neuron.start(), neuron.coefficients()
            self._leak = neuron.leaks(self.out_shape)
        else:
            self._start = neuron.start(self.out_shape, self.dtype)
            self._coefficients = neuron.coefficients(self.out_shape, self.dtype)
        self._in_sizes = [synapse.in_size for synapse in self.synapses]

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
        outputs = self._outputs(batch, time, record, state)
        # Arrays that may not be written would be another type to numba, and compile everything once more.
        more = self._nothing if extra is None else np.require(extra, self.dtype, ["C", "W"]).reshape(batch, time, -1)
        again = NEVER if resets is None else np.require(resets, np.bool_, ["C", "W"])
        chosen, why = ("auto", "") if method == "auto" else (method, "as asked")
        if self._costs is None:
            chosen, why = ("dense", "mixed synapses") if signals else ("events", "no synapses")
        active = saturated = 0
        step = self._samples_at_once(signals, batch)
        for first in range(0, batch, step):
            part = slice(first, first + step)
            here = signals if step >= batch else [signal[part] for signal in signals]
            packed = self._pack(here, min(step, batch - first), time)
            steps = time * packed.bits.shape[0]
            if chosen == "auto":
                assert self._costs is not None
                chosen = "events" if self._costs.prefers_events(packed.active, steps) else "dense"
            active += packed.active
            drive = Inputs(
                packed.bits,
                packed.payload,
                self._bias,
                more[part],
                again,
                self._leak[part] if len(self._leak) > 1 else self._leak,
                self._start,
                self._coefficients,
            )
            written = outputs if step >= batch else outputs.of(part)
            if chosen == "dense":
                saturated += run_dense(self._neurons_only, self._dense, here, drive, written)
            else:
                nanoseconds = self._costs.events(packed.active, steps) if self._costs else steps * self.size * NEURON
                saturated += run_events(self._tables, drive, written, nanoseconds)
        return self._result(
            outputs, record, saturated, active / max(sum(signal.size for signal in signals), 1), chosen, why
        )

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

    def _outputs(self, batch: int, time: int, record: Collection[str], state: State | None) -> Outputs:
        """Arrays for the kernel to write; those nobody wants are empty."""
        memory, n = self.neuron.has_current, self.size
        if state is None:
            v = np.empty((batch, n), self.dtype)
            v[:] = self._start
            u = np.zeros((batch, n), self.dtype) if memory else self._no_u
        else:
            v = np.array(state[1], self.dtype).reshape(batch, n)
            u = np.array(state[0], self.dtype).reshape(batch, n) if memory else self._no_u
        wants_v = "v" in record or not self.neuron.spiking
        return Outputs(
            u,
            v,
            spikes=np.empty((batch, time if self.neuron.spiking else 1, n), np.uint8),
            u_record=np.empty((batch, time, n), self.dtype) if "u" in record else self._nothing,
            v_record=np.empty((batch, time, n), self.dtype) if wants_v else self._nothing,
        )

    def _samples_at_once(self, signals: Sequence[np.ndarray], batch: int) -> int:
        if self._plan is None or batch == 1:
            return max(batch, 1)
        size = self._plan.row_words * 8
        if any(signal.dtype != np.uint8 for signal in signals):
            size += self._plan.row_words * WORD * self.dtype.itemsize
        return max(PACKED_BYTES // (size * max(signals[0].shape[1], 1)), 1)

    def _pack(self, signals: Sequence[np.ndarray], samples: int, time: int) -> Packed:
        if self._plan is None:
            active = sum(int(np.count_nonzero(signal)) for signal in signals)
            return Packed(np.empty((samples, time, 0), np.uint64), self._nothing, active)
        return pack_signals(signals, self._plan.places, self._plan.row_words, self.dtype)

    def _result(
        self, outputs: Outputs, record: Collection[str], saturated: int, activity: float, chosen: str, why: str
    ) -> Run:
        batch = len(outputs.v)
        if len(self.out_shape) > 1:
            population, shape = (batch, *self.out_shape), (batch, -1, *self.out_shape)
            outputs = Outputs(
                *(array.reshape(population) if array.size else array for array in outputs[:2]),
                *(array.reshape(shape) if array.size else array for array in outputs[2:]),
            )
        return Run(
            outputs.spikes if self.neuron.spiking else None,
            outputs.u_record if "u" in record else None,
            outputs.v_record if "v" in record or not self.neuron.spiking else None,
            (outputs.u if self.neuron.has_current else None, outputs.v),
            saturated,
            activity,
            chosen,
            why,
        )


def _flat(array: np.ndarray, batch: int, time: int) -> np.ndarray:
    """[batch, time, n], contiguous; a bool is a byte of 0 or 1."""
    if array.ndim != 3 or not array.flags.c_contiguous:
        array = np.ascontiguousarray(array).reshape(batch, time, -1)
    return array.view(np.uint8) if array.dtype == np.bool_ else array
