"""Runs that were made beside runs that were due: what a term of a gate is over its window, and on how much of what was due.

Of an agent's schedules or of a drill's traffic; all times are ns of one monotonic clock.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterable

from probe.judge.reading import Seen
from probe.judge.windows import MOST, Cell, History, RunParts
from probe.scenario.gates import Term


class Track:
    """Those that stand together: of all schedules, or of one publishing region."""

    def __init__(self, wanted: Collection[Cell], keep: int) -> None:
        self.history = History(wanted, keep)
        self._slots: deque[int] = deque(maxlen=MOST)
        self._fresh = 0  # until then the last run is news

    def ran(self, run: RunParts, fresh: int) -> None:
        """One that was made has ended; until `fresh` it is news."""
        self.history.add(run)
        self._fresh = max(self._fresh, fresh)

    def due(self, at: int, count: int = 1) -> None:
        """So many were due then."""
        self._slots.extend([at] * min(count, MOST))

    def was_due(self, slots: Iterable[int]) -> None:
        """Slots of the time before."""
        self._slots = deque(sorted([*slots, *self._slots]), maxlen=MOST)

    def expected(self, begin: int, now: int, longest: int) -> int:
        """Slots since `begin` whose runs should have ended, if they take as long as the last few, and `longest` at most."""
        lag = min(max(self.history.lag, 0), longest)
        return bisect_right(self._slots, now - lag) - bisect_right(self._slots, begin - lag)

    def seen(
        self, term: Term, protocol: str, window: int | None, now: int, longest: int, *, since: int | None = None, of: str = ""
    ) -> Seen:
        """A term over its window, which reaches back no further than `since`; `of` names what that is the time of."""
        begin = now - (window or 0)
        if window is None:
            if now > self._fresh:
                return Seen(None, 0, 0, 0, "no run has told yet" if self.history.last is None else "no run has told lately")
            begin = -(2**62)
        if since is not None:
            begin = max(begin, since)
        value, n, made = self.history.over((term.indicator, protocol), term.quantile, begin, window, of)
        return Seen(value, n, made, made if window is None else self.expected(begin, now, longest))
