"""From decoder threads to the loop: a bounded queue of records, and its end.

Threads post, the loop reads. It never blocks a thread and never grows without bound: what does not fit is dropped and
counted, and the age of what waits is the decode backlog that `run/health` watches. A driver ends the feed with the
Failure that ended its transport; readers get what was posted before it first.
"""

from __future__ import annotations

import asyncio
from collections import deque

from probe.errors import Failure
from probe.model.clock import Clock
from probe.model.frames import Record


class Feed:
    """One per attempt. `post`, `put`, `ring` and `close` are safe from any thread; `get` belongs to the loop it was made on."""

    def __init__(self, clock: Clock, limit: int = 512) -> None:
        self._clock = clock
        self._limit = limit
        self._records: deque[tuple[int, Record]] = deque()
        self._loop = asyncio.get_running_loop()
        self._reader: asyncio.Future[None] | None = None  # what the reader last waited for
        self._rung: asyncio.Future[None] | None = None  # the one that was last seen to
        self._closed = False
        self._failure: Failure | None = None
        self.dropped = 0

    def post(self, record: Record) -> None:
        """Hand over one record; drops it, counted, when the reader is `limit` behind or the feed is closed."""
        self.put(record)
        self.ring()

    def put(self, record: Record) -> None:
        """The same without waking the reader: `ring` does."""
        if self._closed or len(self._records) >= self._limit:
            self.dropped += 1
        else:
            self._records.append((self._clock.now(), record))

    def close(self, failure: Failure | None = None) -> None:
        """No more will come; `failure` says why, None that it ended as it should. The first close counts."""
        if not self._closed:
            self._failure = failure
            self._closed = True
            self.ring()

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def waiting(self) -> bool:
        """Whether there is a record that nobody has read."""
        return bool(self._records)

    @property
    def backlog(self) -> float:
        """Age in seconds of the oldest record nobody has read; 0.0 when none waits."""
        try:
            return (self._clock.now() - self._records[0][0]) / 1e9
        except IndexError:
            return 0.0

    async def get(self) -> Record | None:
        """The next record; None at a proper end; raises the Failure the feed was closed with."""
        while True:
            if self._records:
                return self._records.popleft()[1]
            if self._closed:
                if self._failure is not None:
                    raise self._failure
                return None
            self._reader = self._loop.create_future()
            if not self._records and not self._closed:  # else it came before whoever posted could see that we wait
                await self._reader

    def ring(self) -> None:
        """Wake the reader if it waits, once; one that does not will look by itself."""
        reader = self._reader
        if reader is None or reader is self._rung:
            return
        self._rung = reader
        try:
            self._loop.call_soon_threadsafe(_wake, reader)
        except RuntimeError:  # the loop is closed: nobody is left to read
            self._closed = True


def _wake(reader: asyncio.Future[None]) -> None:
    if not reader.done():
        reader.set_result(None)
