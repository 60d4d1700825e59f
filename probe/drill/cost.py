"""What a drill takes of its host: the runner's own process, with every viewer and publisher in it. The watchdog, which sleeps,
and a sandbox that was started for it, which is the platform, are other processes and not in it."""

from __future__ import annotations

import os
import resource

from probe.drill.score import CostScore
from probe.model.clock import NS, Clock


class Meter:
    """From its making on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began, self._spent = clock.now(), _processor()

    def cost(self) -> CostScore:
        """By now. Memory is the most this process ever had (`getrusage`), the time before the drill included."""
        return CostScore(
            seconds=round((self._clock.now() - self._began) / NS, 3),
            cpu_seconds=round(_processor() - self._spent, 3),
            memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            processors=os.cpu_count() or 1,
        )


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
