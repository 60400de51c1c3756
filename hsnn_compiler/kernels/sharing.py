"""How threads share the work of one short call: those with nothing to do listen for a moment before they sleep.

To wake a thread takes as long as a layer. So a helper that has done its part stays in compiled code and watches a
mailbox, into which the next caller puts its call. The caller takes it out again, and waits until no helper is inside.

A mailbox is an int64 array, changed by atomic additions only: `OWNERS`, who puts calls in (the first may);
`OPEN`, the address of the call, or 0; `INSIDE`, helpers that look at it; `LISTENING`, helpers that watch.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numba import njit

from hsnn_compiler.kernels.call_loop import work_on
from hsnn_compiler.kernels.jobs import address
from hsnn_compiler.kernels.stamp import STAMP
from hsnn_compiler.kernels.vectors import Pointer, at, fetch_add
from hsnn_compiler.kernels.workers import have_listeners

OWNERS, OPEN, INSIDE, LISTENING = 0, 8, 16, 24
"""Places in a mailbox, each on a cache line of its own."""
MAILBOX = 32
"""Numbers of a mailbox."""
LOOKS = 100_000
"""A helper looks so often for work, about 0.2 ms, before it sleeps."""


@njit
def _join(mailbox: Pointer, like: float) -> bool:
    """Help with the call that is in a mailbox, if there is one."""
    if fetch_add(mailbox, OPEN, 0) == 0:
        return False
    fetch_add(mailbox, INSIDE, 1)
    address = fetch_add(mailbox, OPEN, 0)  # again: the caller may have taken it out before it could see us
    if address != 0:
        work_on(address, like)
    fetch_add(mailbox, INSIDE, -1)
    return address != 0


def _compiled(stamp: str) -> Any:
    @njit(cache=True, nogil=True)
    def run_shared(mailbox_address: int, address: int, like: float) -> None:
        """Run a call, as `run_call`, with the help of those who listen; alone if another call is being helped.

        Args:
            mailbox_address: of the mailbox of these numbers' type.
            address, like: as of `run_call`.
        """
        _ = stamp
        mailbox = at(mailbox_address, np.int64(0))
        if fetch_add(mailbox, OWNERS, 1) != 0:
            fetch_add(mailbox, OWNERS, -1)
            work_on(address, like)
            return
        fetch_add(mailbox, OPEN, address)
        work_on(address, like)
        fetch_add(mailbox, OPEN, -address)
        while fetch_add(mailbox, INSIDE, 0) != 0:
            pass
        fetch_add(mailbox, OWNERS, -1)

    @njit(cache=True, nogil=True)
    def attend(mailbox_address: int, like: float, looks: int) -> None:
        """Help with every call that comes into a mailbox, until none comes for so many looks."""
        _ = stamp
        mailbox = at(mailbox_address, np.int64(0))
        fetch_add(mailbox, LISTENING, 1)
        left = looks
        while left > 0:
            left = looks if _join(mailbox, like) else left - 1
        fetch_add(mailbox, LISTENING, -1)

    return run_shared, attend


run_shared, attend = _compiled(STAMP)

_mailboxes: dict[np.dtype, np.ndarray] = {}


def with_listeners(like: np.generic) -> int:
    """The address of the mailbox for layers of this type; threads that sleep are asked to listen to it."""
    mailbox = _mailboxes.get(like.dtype)
    if mailbox is None:
        mailbox = _mailboxes.setdefault(like.dtype, np.zeros(MAILBOX, np.int64))
    place = address(mailbox)
    have_listeners(int(mailbox[LISTENING]), lambda: attend(place, like, LOOKS))
    return place


def _forget() -> None:
    """A forked child has no threads that listen, and none that has put a call in."""
    for mailbox in _mailboxes.values():
        mailbox[:] = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
