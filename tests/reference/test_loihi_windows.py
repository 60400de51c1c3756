"""Windows in integers: what a Collect presents, when neurons fire that fire once, and what the host sends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from picks import Picks
from window_graphs import random_windows, window_signals

from hsnn_compiler.ir.ops import COLLECT_CODES, Collect
from hsnn_compiler.ir.quant import CollectQuant
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.reference.loihi_collect import FirstSpikes, collect
from hsnn_compiler.reference.loihi_ends import complete, spike_trains
from hsnn_compiler.reference.loihi_executor import LoihiExecutor
from hsnn_compiler.reference.loihi_front import spike_sources

LARGEST = 2**23 - 1


def value_of(op: Collect, t: int, steps: int) -> int:
    phase = 2 ** (op.period - 1 - t % op.period)
    return {"rate": 1, "ttfs": steps - t, "bitplane": 2 ** (steps - 1 - t), "phase": phase}[op.code]


def by_hand(op: Collect, shift: int, bias: int, currents: list[int]) -> tuple[int, Fraction, int]:
    """What one neuron presents, what it would without rounding and limits, and how often it met a limit."""
    acc, exact, met = bias, Fraction(bias), 0
    for t, a in enumerate(currents):
        part = Fraction(a * value_of(op, t, len(currents))) / Fraction(2) ** shift
        exact += part
        acc += (part + Fraction(1, 2)).__floor__()
        met += abs(acc) > LARGEST
        acc = max(-LARGEST, min(LARGEST, acc))
    return (acc + 32) // 64, exact / 64, met


@given(
    st.sampled_from(COLLECT_CODES),
    st.integers(-8, 16),
    st.integers(-LARGEST, LARGEST),
    st.lists(st.one_of(st.integers(-300, 300), st.integers(-(2**23), 2**23)), min_size=1, max_size=16),
)
def test_one_neuron_by_hand(code: str, shift: int, bias: int, currents: list[int]) -> None:
    steps = len(currents)
    op = Collect(code, np.zeros(1), next(n for n in (4, 3, 2, 1) if steps % n == 0))
    quant = CollectQuant(shift, np.array([bias], np.int32))
    out, saturated = collect(op, quant, torch.tensor(currents).reshape(steps, 1, 1))
    wanted, exact, met = by_hand(op, shift, bias, currents)
    assert out.shape == (steps, 1, 1)
    assert set(out.ravel().tolist()) == {wanted}
    assert saturated == met
    if not met:
        assert abs(wanted - exact) <= Fraction(1, 2) + (Fraction(steps, 128) if shift > 0 else 0)


@given(st.integers(1, 40), st.integers(1, 5000), st.integers(-(2**17), 2**17), st.integers(-(2**12), 2**12))
def test_neurons_that_fire_once_fire_when_they_should(steps: int, ramp: int, a: int, bias: int) -> None:
    population = FirstSpikes(ramp, torch.tensor([bias]), steps, (1, 1))
    # Only what arrives in the first step counts.
    fired = [bool(population.step(torch.tensor([[a if t == 0 else -999]]))) for t in range(steps)]
    z = 64 * a + bias
    if abs(z) > 2**22:  # the rest is the same for all that are as large
        z = (z > 0) * 2**22 - (z < 0) * 2**22
    n = min(max((Fraction(z, ramp) + Fraction(1, 2)).__floor__(), 0), steps)
    assert fired == [n > 0 and t == steps - n for t in range(steps)]


def test_it_fires_once_per_sample_and_starts_anew() -> None:
    population = FirstSpikes(64, torch.zeros(1, dtype=torch.int64), 4, (1, 1))
    for a, wanted in ((3, [0, 1, 0, 0]), (0, [0, 0, 0, 0]), (9, [1, 0, 0, 0])):
        population.restart()
        assert [int(population.step(torch.tensor([[a]]))) for _ in range(4)] == wanted


@pytest.mark.parametrize("seed", range(12))
def test_what_the_host_sends_is_what_the_float_executor_says(seed: int) -> None:
    graph, x = random_windows(Picks.seeded(seed))
    sources = [node.name for node in spike_sources(graph)]
    executor = LoihiExecutor(graph)
    record = [(name, "s") for name in sources]
    floating, integers, trains = FloatExecutor(graph).run(x, record), executor.run(x, record), spike_trains(executor, x)
    assert sources
    assert set(trains) == set(sources)
    for name in sources:
        wanted = floating.trace[name, "s"]
        assert set(np.unique(wanted)) <= {0.0, 1.0}
        np.testing.assert_array_equal(trains[name], wanted)
        np.testing.assert_array_equal(integers.trace[name, "s"], wanted)
        assert integers.spikes[name] == wanted.sum()
        assert integers.saturated.get(name) == floating.saturated.get(name)


def test_kernels_and_batches_change_nothing() -> None:
    compiled = 0
    for seed in range(20):
        graph, x = random_windows(Picks.seeded(seed))
        record = window_signals(graph)
        slow = LoihiExecutor(graph, compiles=False).run(x, record)
        fast = LoihiExecutor(graph, compiles=True).run(x, record, batch_size=1)
        for key, trace in slow.trace.items():
            np.testing.assert_array_equal(fast.trace[key], trace, err_msg=f"seed {seed}: {key}")
        assert {name: fast.spikes[name] for name in slow.spikes} == slow.spikes
        compiled += sum(not how.startswith("torch") for how in fast.how.values())
    assert compiled > 10


def test_a_window_at_once_is_a_window_step_by_step() -> None:
    at_once = Counter[bool]()
    for seed in range(60):
        graph, x = random_windows(Picks.seeded(seed))
        record = [(node.name, "s") for node in graph.of_kind("Collect")]
        executor, slow = LoihiExecutor(graph), LoihiExecutor(graph)
        for window in executor.windows.values():
            window.present = counted(window.present, at_once)  # type: ignore[method-assign]
        slow.windows, slow.in_windows = {}, set()
        done, wanted = executor.run(x, record), slow.run(x, record)
        for key, trace in wanted.trace.items():
            np.testing.assert_array_equal(done.trace[key], trace, err_msg=f"seed {seed}: {key}")
        assert done.saturated == wanted.saturated
        assert done.spikes == wanted.spikes
    assert min(at_once[True], at_once[False]) >= 5, at_once


def counted(present: Callable[..., Any], seen: Counter[bool]) -> Callable[..., Any]:
    """Count how often a window was done at once."""

    def present_and_count(sources: Any) -> Any:
        out = present(sources)
        seen[out is not None] += 1
        return out

    return present_and_count


def test_what_leaves_the_chip_completes_to_the_result() -> None:
    for seed in range(12):
        graph, x = random_windows(Picks.seeded(seed))
        executor = LoihiExecutor(graph)
        leaving = [graph.in_edges(decode.name)[0].src for decode in graph.of_kind("Decode")]
        whole = executor.run(x, [(name, "s") for name in leaving])
        chip = {name: whole.trace[name, "s"] for name in leaving if graph[name].on_chip}
        for name, output in complete(executor, x, chip).outputs.items():
            np.testing.assert_array_equal(output, whole.outputs[name])
