"""A few threads that share the calls of a kernel. Kernels run without the interpreter's lock.

Numba's own threads are not used: with OpenMP they do not survive a fork, without it no second caller. Futures are
not, either: they would take as long as a small layer.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

_orders: SimpleQueue[Callable[[], object]] | None = None


def invite(work: Callable[[], object]) -> None:
    """Let all other threads call a function, some time; nobody waits for them, or hears of their problems."""
    orders = _started()
    for _ in range(THREADS - 1):
        orders.put(work)


def have_listeners(listeners: int, listen: Callable[[], object]) -> None:
    """See that all other threads listen for work, some time soon, if only so many do; they are asked once."""
    if listeners < THREADS - 1 and _started().empty():
        invite(listen)


def share(function: Callable[[Any], int], tasks: Iterable[Any]) -> int:
    """Call a function with every task, on all threads; returns the sum of what it returns."""
    left = iter(list(tasks))  # whoever is free takes the next; of a list, two threads may
    answers: SimpleQueue[int | BaseException] = SimpleQueue()

    def work() -> None:
        try:
            answers.put(sum(map(function, left)))
        except BaseException as problem:
            answers.put(problem)

    invite(work)
    work()
    found = [answers.get() for _ in range(THREADS)]
    for answer in found:
        if isinstance(answer, BaseException):
            raise answer
    return sum(answer for answer in found if isinstance(answer, int))


def _started() -> SimpleQueue[Callable[[], object]]:
    global _orders
    if _orders is None:
        _orders = SimpleQueue()
        for index in range(THREADS - 1):
            threading.Thread(target=_serve, args=(_orders,), name=f"hsnn-kernels-{index}", daemon=True).start()
    return _orders


def _serve(orders: SimpleQueue[Callable[[], object]]) -> None:
    while True:
        with contextlib.suppress(BaseException):
            orders.get()()


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _orders
    _orders = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
