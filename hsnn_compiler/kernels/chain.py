"""Layers that feed each other, run together: each sample goes through all of them before the next.

What passes between them never leaves the cache, and there is one call into compiled code, not one for each layer.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hsnn_compiler.kernels.execution import Program
from hsnn_compiler.kernels.jobs import FEED, FIRST_COUNT, address
from hsnn_compiler.kernels.layer import Layer
from hsnn_compiler.kernels.vectors import LINE, WORD

WINDOW_BYTES = 2**19
"""What one sample takes between two layers, in the steps that one has before the other's turn: it should stay in the
cache."""
FIRST_SAMPLES = 32
"""After so many, it is looked at whether there are so many events that matrix products would be faster."""
EXPECTED = 0.1
"""Part of the inputs taken to be active, as long as nothing is known."""
FEWEST_STEPS = 8
"""Of a window, however large the layers."""
BYTE = np.dtype(np.uint8)
Key = tuple[int, str]
"""A layer's number, and one of `FIELDS`."""
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


class ChainRun:
    """What a chain did, by number of the layer, where it is not said otherwise.

    Args:
        chain: that ran.
        steps: of all samples.
        counters: of the compiled code.
        active: inputs of every layer.
        kept: see there.

    Attributes:
        kept: what was to be recorded, [batch, time, *out]; spikes as uint8.
    """

    def __init__(
        self, chain: Chain, steps: int, counters: list[int], active: list[int], kept: dict[Key, np.ndarray]
    ) -> None:
        self.kept = kept
        self._chain, self._steps, self._counters, self._active = chain, steps, counters, active

    @property
    def counts(self) -> list[int]:
        """Spikes."""
        return self._counters[FIRST_COUNT : self._chain.first_signal : 2]

    @property
    def saturated(self) -> list[int]:
        """Neuron-steps of Loihi in which u wrapped or v saturated."""
        return self._counters[FIRST_COUNT + 1 : self._chain.first_signal : 2]

    @property
    def activity(self) -> list[float]:
        """Part of the inputs that was 1."""
        sizes = self._chain.in_sizes
        return [active / (size * self._steps) for active, size in zip(self._active, sizes, strict=True)]

    def method(self, layer: int) -> str:
        """How a layer was run, as `Run.method`."""
        return f"events: {100 * self._active[layer] / (self._chain.in_sizes[layer] * self._steps):.1f} % active"

    @property
    def signals(self) -> dict[str, int]:
        """By name, spikes from outside."""
        return {name: self._counters[self._chain.first_signal + 2 * i + 1] for i, name in self._chain.outside}


class Way(NamedTuple):
    """How to run some samples and steps, and record some signals: a short run has no time to find it out.

    Attributes:
        program: for these steps.
        limits: by layer, most active inputs of the first samples: with more, matrix products are faster.
        places: where the program is told of each signal from outside.
        outputs: what is recorded: layer and variable, where the program is told of it, the layer's shape, the type.
    """

    program: Program
    limits: list[float]
    places: list[tuple[int, str]]
    outputs: list[tuple[Key, int, tuple[int, ...], np.dtype]]


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
        self._ways: dict[tuple[int, int, frozenset[Key]], Way] = {}
        self._ranges = [(int(job["first_feed"]), int(job["last_feed"])) for job in self._jobs]
        self.outside = [(i, feed.source) for i, feed in enumerate(self._flat) if isinstance(feed.source, str)]
        self.first_signal = FIRST_COUNT + 2 * len(self.layers)  # where the counters of what comes from outside begin
        # By layer, the counters of its active inputs; and those of bytes above 1.
        self._active_at = [
            [
                self.first_signal + 2 * i + 1 if isinstance(feed.source, str) else FIRST_COUNT + 2 * feed.source
                for i, feed in enumerate(self._flat)
            ][first:last]
            for first, last in self._ranges
        ]
        self._above_at = [] if counts_bytes else [self.first_signal + 2 * i for i, _ in self.outside]
        self.in_sizes = [sum(synapse.in_size for synapse in layer.synapses) for layer in self.layers]
        self._cost = sum(
            layer.nanoseconds(EXPECTED * size) for layer, size in zip(self.layers, self.in_sizes, strict=True)
        )

    def run(
        self,
        signals: Mapping[str, np.ndarray],
        record: Collection[Key] = (),
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
        first, last = 0, min(batch, FIRST_SAMPLES)
        way = (last, steps, frozenset(record))
        program, limits, places, outputs = self._ways.get(way) or self._way(*way)
        arrays = [(place, signals[name]) for place, name in places]
        kept = {}
        for key, place, shape, dtype in outputs:
            kept[key] = array = np.empty((batch, steps, *shape), dtype)
            arrays.append((place, array))
        fixed = [(program.job_field(i, "resets"), address(array)) for i, array in resets.items()] if resets else []
        moving = [(place, address(array), array.nbytes // batch) for place, array in arrays]
        total: list[int] = []
        cost = self._cost
        while first < batch:
            fields = fixed + [(place, start + first * size) for place, start, size in moving]
            counters = program.run(last - first, steps, fields, (last - first) * steps * cost)
            total = [a + b for a, b in zip(total, counters, strict=True)] if total else counters
            for place in self._above_at:
                if total[place]:
                    return None
            active = [sum([total[place] for place in places]) for places in self._active_at]
            if not first:
                for number, limit in zip(active, limits, strict=True):
                    if number > limit:
                        return None
            if last < batch:
                cost = sum(layer.nanoseconds(a / last / steps) for layer, a in zip(self.layers, active, strict=True))
            first, last = last, batch
        return ChainRun(self, batch * steps, total, active, kept)

    def _way(self, samples: int, steps: int, record: frozenset[Key]) -> Way:
        """To run so many steps and record this, made once; `samples` are the first ones."""
        program = self._program(steps)
        outputs = []
        for i, what in record:
            layer = self.layers[i]
            place, dtype = program.job_field(i, FIELDS[what]), BYTE if what == "s" else layer.dtype
            outputs.append(((i, what), place, layer.out_shape, dtype))
        places = [(program.feed_field(i, "signal"), name) for i, name in self.outside]
        way = Way(program, [layer.most_active(samples * steps) for layer in self.layers], places, outputs)
        self._ways[samples, steps, record] = way
        return way

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
            self._programs[steps] = Program(jobs, self._written(jobs), window, end, self.layers[0].like)
        return self._programs[steps]

    def _written(self, jobs: np.ndarray) -> np.ndarray:
        """The feeds, after layers of which all spikes go to one place, without delay, were told to write them there.

        They write whole words: a row of output positions has to fill them, as each thread may run some rows.
        """
        feeds = self._feeds.copy()
        readers = [feed.source for feed in self._flat]
        jobs["target_at"] = -1
        for i, (first, last) in enumerate(self._ranges):
            feed, source = feeds[first], self._flat[first].source
            if last - first != 1 or not isinstance(source, int) or readers.count(source) != 1 or feed["delay"]:
                continue
            job = jobs[source]
            if job["spiking"] and not job["columns"] * job["channels"] % WORD:
                job["target_at"] = jobs["bits_at"][i] + WORD // 8 * feed["place"]
                job["target_words"] = jobs["row_words"][i]
                feed["written"] = True
        return feeds
