"""Layers that feed each other, run together: each sample goes through all of them before the next.

What passes between them never leaves the cache, and there is one call into compiled code, not one for each layer.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hsnn_compiler.kernels.execution import Program
from hsnn_compiler.kernels.jobs import FEED, FIRST_COUNT, address
from hsnn_compiler.kernels.layer import Layer
from hsnn_compiler.kernels.vectors import LINE

WINDOW_BYTES = 2**19
"""What one sample takes between two layers, in the steps that one has before the other's turn: it should stay in the
cache."""
FIRST_SAMPLES = 32
"""After so many, it is looked at whether there are so many events that matrix products would be faster."""
EXPECTED = 0.1
"""Part of the inputs taken to be active, as long as nothing is known."""
FEWEST_STEPS = 8
"""Of a window, however large the layers."""
FIELDS = {"s": "spikes", "u": "u_record", "v": "v_record"}


@dataclass(frozen=True)
class Feed:
    """Where the spikes of a synapse come from.

    Attributes:
        source: the number of a layer before, or the name of a signal from outside.
        shape: of the latter, channels first; what passes between layers has them last.
        delay: in steps.
    """

    source: int | str
    shape: tuple[int, ...] = ()
    delay: int = 0


@dataclass(eq=False)
class ChainRun:
    """What a chain did, by number of the layer, where it is not said otherwise.

    Attributes:
        kept: what was to be recorded, [batch, time, *out]; spikes as uint8.
        counts: spikes.
        saturated: neuron-steps of Loihi in which u wrapped or v saturated.
        activity: part of the inputs that was 1.
        signals: by name, spikes from outside.
    """

    kept: dict[tuple[int, str], np.ndarray]
    counts: list[int]
    saturated: list[int]
    activity: list[float]
    signals: dict[str, int]

    def method(self, layer: int) -> str:
        """How a layer was run, as `Run.method`."""
        return f"events: {100 * self.activity[layer]:.1f} % active"


class Chain:
    """Layers of which each is fed by spikes from outside or of layers before it.

    Args:
        layers: with equal dtypes, all of which `Layer.chains`.
        feeds: for every synapse of every layer.
        counts_bytes: whether bytes above 1 from outside are spikes like any other; else they are values, and
            `run` declines.
    """

    def __init__(self, layers: Sequence[Layer], feeds: Sequence[Sequence[Feed]], counts_bytes: bool = False) -> None:
        self.layers, self.feeds, self.counts_bytes = list(layers), [list(each) for each in feeds], counts_bytes
        self._flat = [feed for each in self.feeds for feed in each]
        self._jobs = np.concatenate([layer.job for layer in self.layers])
        self._feeds = np.zeros(len(self._flat), FEED)
        first = 0
        for job, layer, each in zip(self._jobs, self.layers, self.feeds, strict=True):
            assert layer.plan is not None
            job["first_feed"], job["last_feed"] = first, first + len(each)
            job["reach"] = max(feed.delay for feed in each)
            places = layer.plan.places
            for record, feed, synapse, place in zip(self._feeds[first:], each, layer.synapses, places, strict=False):
                inside = isinstance(feed.source, int)
                record["layer"] = feed.source if inside else -1
                transposed = not inside and math.prod(feed.shape[1:]) > 1
                record["channels"] = feed.shape[0] if transposed else 1
                record["size"], record["place"], record["delay"] = synapse.in_size, place, feed.delay
            first += len(each)
        self._programs: dict[int, Program] = {}
        self._ranges = [(int(job["first_feed"]), int(job["last_feed"])) for job in self._jobs]
        self._outside = [(i, feed.source) for i, feed in enumerate(self._flat) if isinstance(feed.source, str)]
        self._signals = FIRST_COUNT + 2 * len(self.layers)  # where the counters of what comes from outside begin
        self._in_sizes = [sum(synapse.in_size for synapse in layer.synapses) for layer in self.layers]
        self._cost = sum(
            layer.nanoseconds(EXPECTED * size) for layer, size in zip(self.layers, self._in_sizes, strict=True)
        )

    def run(
        self,
        signals: Mapping[str, np.ndarray],
        record: Collection[tuple[int, str]] = (),
        resets: Mapping[int, np.ndarray] | None = None,
    ) -> ChainRun | None:
        """Run a batch over all its steps, from the start state on.

        Args:
            signals: uint8 [batch, time, *shape] by name, contiguous.
            record: numbers of layers, and of ``"s"``, ``"u"``, ``"v"``.
            resets: by number of the layer, bool [time], see `Layer.run`.

        Returns:
            None, if this is no way to run it: it would be slow, or the signals are no spikes.
        """
        batch, steps = next(iter(signals.values())).shape[:2]
        kept = {
            (i, what): np.empty(
                (batch, steps, *self.layers[i].out_shape), np.uint8 if what == "s" else self.layers[i].dtype
            )
            for i, what in record
        }
        total: list[int] = []
        first, last, cost = 0, min(batch, FIRST_SAMPLES), self._cost
        while first < batch:
            counters = self._part(slice(first, last), steps, signals, kept, resets or {}, cost)
            total = [a + b for a, b in zip(total, counters, strict=True)] if total else counters
            active = self._active(total)
            if not self.counts_bytes and any(total[self._signals + 2 * i] for i, _ in self._outside):
                return None
            if not first:
                suit = (layer.prefers_events(a, last * steps) for layer, a in zip(self.layers, active, strict=True))
                if not all(suit):
                    return None
                cost = sum(layer.nanoseconds(a / last / steps) for layer, a in zip(self.layers, active, strict=True))
            first, last = last, batch
        counts, saturated = total[FIRST_COUNT : self._signals : 2], total[FIRST_COUNT + 1 : self._signals : 2]
        activity = [a / n / batch / steps for a, n in zip(active, self._in_sizes, strict=True)]
        found = {name: total[self._signals + 2 * i + 1] for i, name in self._outside}
        return ChainRun(kept, counts, saturated, activity, found)

    def _part(
        self,
        part: slice,
        steps: int,
        signals: Mapping[str, np.ndarray],
        kept: Mapping[tuple[int, str], np.ndarray],
        resets: Mapping[int, np.ndarray],
        cost: float,
    ) -> list[int]:
        """Run some samples; returns the counters."""
        program, samples = self._program(steps), part.stop - part.start
        fields = [(program.feed_field(i, "signal"), address(signals[name][part])) for i, name in self._outside]
        fields += [(program.job_field(i, FIELDS[what]), address(array[part])) for (i, what), array in kept.items()]
        fields += [(program.job_field(i, "resets"), address(array)) for i, array in resets.items()]
        return program.run((samples, steps), fields, samples * steps * cost)

    def _active(self, counters: list[int]) -> list[int]:
        """Active inputs of every layer."""
        found = [
            counters[self._signals + 2 * i + 1 if isinstance(feed.source, str) else FIRST_COUNT + 2 * feed.source]
            for i, feed in enumerate(self._flat)
        ]
        return [sum(found[first:last]) for first, last in self._ranges]

    def _program(self, steps: int) -> Program:
        """Everything laid out for so many steps."""
        if steps not in self._programs:
            jobs = self._jobs.copy()
            row_bytes = 8 * jobs["row_words"]
            per_step = int((jobs["neurons"] * jobs["spiking"] + row_bytes).sum())
            window = min(max(WINDOW_BYTES // per_step, FEWEST_STEPS), steps)
            states = jobs["neurons"] * self.layers[0].dtype.itemsize
            sizes = {
                "bits_at": row_bytes * (window + jobs["reach"]),
                "u_at": states * jobs["has_current"],
                "v_at": states,
                "spikes_at": jobs["neurons"] * np.where(jobs["spiking"], window, 1),
            }
            end = 0
            for name, bytes_ in sizes.items():
                on_lines = -(-bytes_ // LINE) * LINE
                jobs[name] = end + np.cumsum(on_lines) - on_lines
                end += int(on_lines.sum())
            self._programs[steps] = Program(jobs, self._feeds, window, end, self.layers[0].like)
        return self._programs[steps]
