"""A few threads that share the calls of a kernel. Kernels run without the interpreter's lock.

Numba's own threads are not used: with OpenMP they do not survive a fork, without it no second caller. Futures are
not, either: they would take as long as a small layer.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

Answers = SimpleQueue[int | BaseException]

_orders: SimpleQueue[tuple[Callable[[], int], Answers]] | None = None


def share(function: Callable[[Any], int], tasks: Iterable[Any]) -> int:
    """Call a function with every task, on all threads; returns the sum of what it returns."""
    orders = _started()
    left = iter(list(tasks))  # whoever is free takes the next; of a list, two threads may
    answers: Answers = SimpleQueue()

    def work() -> int:
        return sum(map(function, left))

    for _ in range(THREADS - 1):
        orders.put((work, answers))
    own = _answer(work)
    found = [own, *(answers.get() for _ in range(THREADS - 1))]
    for answer in found:
        if isinstance(answer, BaseException):
            raise answer
    return sum(answer for answer in found if isinstance(answer, int))


def _started() -> SimpleQueue[tuple[Callable[[], int], Answers]]:
    global _orders
    if _orders is None:
        _orders = SimpleQueue()
        for index in range(THREADS - 1):
            threading.Thread(target=_serve, args=(_orders,), name=f"hsnn-kernels-{index}", daemon=True).start()
    return _orders


def _serve(orders: SimpleQueue[tuple[Callable[[], int], Answers]]) -> None:
    while True:
        work, answers = orders.get()
        answers.put(_answer(work))


def _answer(work: Callable[[], int]) -> int | BaseException:
    try:
        return work()
    except BaseException as problem:  # goes to whoever ordered the work
        return problem


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _orders
    _orders = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
