"""Whether a short call is faster on one thread or with the help of others: tried, not assumed.

With a core to spare, threads that listen (`sharing`) make a call of 0.1 ms a third shorter. Where other processes want
the cores, a thread that has taken a part of the call may have to wait for its turn, and the call with it. So both ways
are tried, the faster one is kept, and the other one is tried again from time to time.
"""

from __future__ import annotations

TRIAL = 12
"""Calls by which a way is judged."""
WARM_UP = 4
"""Calls of a trial that do not count: the threads wake up, the caches fill."""
PATIENCE = 1000
"""Calls between two trials of the slower way."""
CALM = 16
"""Calls after which the faster way is judged again."""
HOPELESS = 2.0
"""A trial ends early once its calls take so many times as long as the other way's."""


class Pace:
    """Chooses for each call of a program.

    Attributes:
        shares: how the next call is to run.
    """

    def __init__(self) -> None:
        self.shares = False
        self._mean: list[float] = [0.0, 0.0]  # nanoseconds by way, as last judged; 0 where it never was
        self._calls = self._until_trial = 0
        self._total = 0.0
        self._is_trial = True

    def took(self, nanoseconds: float) -> None:
        """Say how long a call took that ran as `shares` says."""
        self._calls += 1
        self._until_trial -= 1
        counted = self._calls - (WARM_UP if self._is_trial else 0)
        if counted <= 0:
            return
        self._total += nanoseconds
        other = self._mean[not self.shares]
        hopeless = self._is_trial and other and self._total > HOPELESS * other * TRIAL
        if counted < (TRIAL if self._is_trial else CALM) and not hopeless:
            return
        self._mean[self.shares] = self._total / counted
        self._choose()

    def _choose(self) -> None:
        """The way of the next calls."""
        self._calls, self._total = 0, 0.0
        alone, shared = self._mean
        untried = not alone or not shared
        if untried or (self._until_trial <= 0 and not self._is_trial):
            self.shares, self._is_trial = not self.shares, True
            return
        if self._is_trial:
            self._until_trial = PATIENCE
        self.shares, self._is_trial = shared < alone, False
