"""Doing things at their time: one heap and one timer for a whole path, however many packets wait.

Times are those of our clock; the loop's timers are coarser (both loops round to a millisecond), so what is due within
SLACK is done, and what is not waits for another turn of the timer.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from probe.model.clock import NS, Clock

SLACK = 300_000


class Line:
    """Calls, in the order of their times; those of one time in the order they were put."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def at(self, when: int, call: Callable[[], None]) -> None:
        """`call` once the clock says `when`. It must not raise."""
        if self._closed:
            return
        self._count += 1
        heapq.heappush(self._waiting, (when, self._count, call))
        if self._timer is None or when < self._timer_at:
            self._arm()

    def close(self) -> None:
        """Nothing more is called."""
        self._closed = True
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting or self._closed:
            return
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._timer_at = self._waiting[0][0]
        self._timer = self._loop.call_later(max(0, self._timer_at - self._clock.now()) / NS, self._due)

    def _due(self) -> None:
        self._timer = None
        until = self._clock.now() + SLACK
        waiting = self._waiting
        while waiting and waiting[0][0] <= until:
            heapq.heappop(waiting)[2]()
        if self._timer is None:
            self._arm()
