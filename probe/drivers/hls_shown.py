"""Pictures and sounds decoded ahead of their instant: their records wait here until a viewer sees or hears them.

A player decodes ahead, as it suits it; what it shows it shows at the instant its clock says. Decoded some at a time pictures cost
a third less than one by one, and only the records are kept, never the pictures. What is known of a picture before it is shown
is told by nobody before: a session that ends meanwhile has not seen it.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace

from probe.media.feed import Feed
from probe.model.clock import Clock
from probe.model.frames import Chirp, FrameRecord, Record

_MOST = 1024  # records: what is decoded ahead is bounded by time, but a stream may lie about its time


class Shown(Feed):
    """The session's feed, as one decoder sees it. `put` and `ring` from any thread; the rest belongs to the loop. Pictures before
    `until` (seconds of the stream) no viewer sees."""

    def __init__(self, feed: Feed, clock: Clock) -> None:
        super().__init__(clock, 0)
        self.until: float | None = None
        self._to = feed
        self._held: deque[Record] = deque()
        self._jumps: deque[int] = deque()
        self._posting = threading.Lock()
        self._news = False  # something was handed on that nobody was woken for

    def jumped(self, at: int) -> None:
        """From the instant `at` on is shown what our player jumped to."""
        self._jumps.append(at)

    def put(self, record: Record) -> None:
        """What is due is handed on at once, in its turn."""
        with self._posting:
            if not self._held and _at(record) <= self._clock.now():
                self._hand_on(record)
            elif len(self._held) < _MOST:
                self._held.append(record)
            else:
                self.dropped += 1

    def ring(self) -> None:
        """For what was handed on; what is held wakes nobody."""
        if self._news:
            self._news = False
            self._to.ring()

    def release(self, now: int) -> None:
        """Hand on what is shown by `now`."""
        with self._posting:
            while self._held and _at(self._held[0]) <= now:
                self._hand_on(self._held.popleft())
        self.ring()

    @property
    def holding(self) -> bool:
        return bool(self._held)

    def _hand_on(self, record: Record) -> None:
        if isinstance(record, FrameRecord):
            if self.until is not None and record.media_time is not None:
                if record.media_time < self.until:
                    return
                self.until = None
            if self._jumps and record.shown >= self._jumps[0]:
                self._jumps.popleft()
                record = replace(record, jumped=True)
        self._to.put(record)
        self._news = True


def _at(record: Record) -> int:
    """The instant a viewer knows of it; 0: at once."""
    return record.shown if isinstance(record, FrameRecord | Chirp) else 0
