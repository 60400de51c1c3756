"""Work shared among threads: nothing lost, nothing twice, problems reported, also after a fork."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from kernel_cases import dyadic, spikes

from hsnn_compiler.kernels import DenseSynapse, FloatNeuron, Layer
from hsnn_compiler.kernels.workers import share


def test_every_task_once():
    seen: list[int] = []
    assert share(lambda task: seen.append(task) or task, range(1000)) == 499500
    assert sorted(seen) == list(range(1000))


def test_a_problem_in_any_task_is_raised():
    for bad in (0, 500, 999):
        with pytest.raises(ZeroDivisionError):
            share(lambda task, bad=bad: 1 // (task - bad), range(1000))
    assert share(int, [1, 2]) == 3


def large() -> tuple[Layer, np.ndarray]:
    rng = np.random.default_rng(0)
    layer = Layer([DenseSynapse(dyadic(rng, (256, 784)))], FloatNeuron(0.5), dtype=np.float64)
    return layer, spikes(rng, (100, 16, 784), 0.1)


def test_several_callers_at_once():
    layer, x = large()
    expected = layer.run([x], method="events").spikes
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: layer.run([x], method="events").spikes, range(12)))
    for spiked in runs:
        np.testing.assert_array_equal(spiked, expected)


@pytest.mark.filterwarnings("ignore:This process")
def test_a_forked_child_has_threads_of_its_own():
    layer, x = large()
    expected = int(layer.run([x], method="events").spikes.sum())  # starts the threads of this process
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put(int(layer.run([x], method="events").spikes.sum())))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert answers.get() == expected
