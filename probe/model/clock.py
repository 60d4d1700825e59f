"""Time, as everything here sees it: one monotonic count, and a wall time that is an anchor plus it.

Wall clocks step; intervals must not. So every fact carries monotonic nanoseconds, and the wall time of a fact is
computed from one anchor taken at start. The clock's error travels with every wall time: latency between two machines
is worth no more than the sum of their errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

NS = 1_000_000_000
MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Wall:
    """Unix time in ns, and the half-width in ns of what is known of it (None: nothing is known)."""

    unix_ns: int
    error_ns: int | None


class Clock(Protocol):
    """Monotonic ns, and the wall time of any monotonic instant."""

    def now(self) -> int:
        """Monotonic nanoseconds; thread-safe; never steps."""
        ...

    def wall(self, at: int | None = None) -> Wall:
        """Wall time at monotonic `at` (default: now)."""
        ...
