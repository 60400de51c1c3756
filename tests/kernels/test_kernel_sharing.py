"""Threads that stay awake for short calls: when they are asked, and that nothing is lost where several call at once."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from kernel_cases import dyadic, spikes

from hsnn_compiler.kernels import ConvSynapse, FloatNeuron, Layer, execution, sharing, workers
from hsnn_compiler.kernels.pace import PATIENCE, Pace


def run(pace: Pace, alone: float, shared: float, calls: int) -> list[bool]:
    """How calls ran, where one takes so long either way."""
    ways = []
    for _ in range(calls):
        ways.append(pace.shares)
        pace.took(shared if pace.shares else alone)
    return ways


@pytest.mark.parametrize(("alone", "shared"), [(177.0, 130.0), (177.0, 400.0)])
def test_the_faster_way_is_kept_and_the_other_one_tried_again(alone: float, shared: float) -> None:
    ways = run(Pace(), alone, shared, 10 * PATIENCE)
    assert ways[0] is False
    assert True in ways[:40]
    slower = np.array(ways[100:]) != (shared < alone)
    assert 0 < slower.mean() < 0.03
    assert 5 <= np.count_nonzero(np.diff(slower.astype(int)) > 0) <= 10  # trials


def test_a_machine_that_becomes_busy_is_noticed() -> None:
    pace = Pace()
    assert run(pace, 177, 130, 200)[-1] is True
    ways = run(pace, 177, 400, 200)
    assert ways[-1] is False
    assert ways.count(True) < 40
    assert run(pace, 177, 130, 2 * PATIENCE)[-1] is True


@pytest.fixture
def conv(monkeypatch: pytest.MonkeyPatch) -> tuple[Layer, np.ndarray]:
    """A convolution in which every call on one sample is shared by three threads."""
    monkeypatch.setattr(execution, "WORTH_TRYING", 0)
    for module in (execution, workers):
        monkeypatch.setattr(module, "THREADS", 3)
    monkeypatch.setattr(workers, "_orders", None)
    monkeypatch.setattr(Pace, "took", lambda self, nanoseconds: setattr(self, "shares", True))
    rng = np.random.default_rng(0)
    layer = Layer([ConvSynapse(dyadic(rng, (32, 16, 3, 3)), (16, 16, 16))], FloatNeuron(0.5), dtype=np.float32)
    return layer, spikes(rng, (1, 16, 16, 16, 16), 0.1)


def fired(layer: Layer, x: np.ndarray) -> np.ndarray:
    found = layer.run([x], method="events").spikes
    assert found is not None
    return found


def test_several_callers_at_once(conv: tuple[Layer, np.ndarray]) -> None:
    layer, x = conv
    expected = fired(layer, x)  # the first call is not shared
    assert expected.any()
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: fired(layer, x), range(400)):
            np.testing.assert_array_equal(found, expected)
    assert sharing._mailboxes
    for mailbox in sharing._mailboxes.values():
        assert mailbox[sharing.OWNERS] == mailbox[sharing.OPEN] == mailbox[sharing.INSIDE] == 0


@pytest.mark.filterwarnings("ignore:This process")
def test_a_forked_child_has_listeners_of_its_own(conv: tuple[Layer, np.ndarray]) -> None:
    layer, x = conv
    expected = [int(fired(layer, x).sum()) for _ in range(3)][-1]
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put([int(fired(layer, x).sum()) for _ in range(3)]))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert answers.get() == [expected] * 3
