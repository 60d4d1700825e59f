"""What one run may take: resident memory, looked at four times a second, and time.

Memory is watched from outside, for a limit on address space would forbid what numpy and FFmpeg reserve and never touch, and a
cgroup of one's own needs rights that an agent is not given. Between two looks a process can take what the machine gives; the
kernel then takes a worker before it takes the agent (`oom_score_adj`). What a run's own children take is not counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psutil

from probe.model.clock import NS, Clock

_LOOK = 0.25  # s
_LAST_WORDS = 0.5


class Caps:
    """Of one process. `ends`: monotonic ns. `broken` says which was, `memory` or `time`, or what `end_by` was told."""

    def __init__(
        self, pid: int, memory: int, ends: int, clock: Clock, *, ask: Callable[[], None], kill: Callable[[], None]
    ) -> None:
        self._memory, self._ends, self._clock = memory, ends, clock
        self._ask, self._kill = ask, kill
        self._late = "time"
        self.broken = ""
        self.peak: int | None = None
        try:
            self._process: psutil.Process | None = psutil.Process(pid)
        except psutil.Error:
            self._process = None

    def end_by(self, at: int, why: str) -> None:
        """Sooner than agreed."""
        if at < self._ends:
            self._ends, self._late = at, why

    async def watch(self) -> None:
        """Until one is broken; it is killed then. One that is late is asked where it is before."""
        while not self.broken:
            left = (self._ends - self._clock.now()) / NS
            if left <= 0:
                self.broken = self._late
            elif self._resident() > self._memory:
                self.broken = "memory"
            else:
                await asyncio.sleep(min(_LOOK, left))
        if self.broken != "memory":
            self._ask()
            await asyncio.sleep(_LAST_WORDS)
        self._kill()

    def _resident(self) -> int:
        try:
            resident: int = self._process.memory_info().rss if self._process is not None else 0
        except psutil.Error:  # it is gone, as others will tell
            return 0
        self.peak = max(self.peak or 0, resident)
        return resident
